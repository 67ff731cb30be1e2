# ruff: noqa: E501  (lines of magics are quoted whole)
"""The grammar of a magic's line, piece by piece and against a real sh."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labkit.notebook.magics.grammar import GrammarError, Line, parse, substitute_text


def words(text: str, /, **names: object) -> list[str]:
    return list(parse(text, namespace=names, environ={"HOME": "/home/ada", "EMPTY": ""}).words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "run -d --name web busybox sleep 1d",
            ["run", "-d", "--name", "web", "busybox", "sleep", "1d"],
        ),
        ("", []),
        ("   ps   -a  ", ["ps", "-a"]),
        (
            "run busybox sh -c 'echo \"hi\" | cat; exit 3'",
            ["run", "busybox", "sh", "-c", 'echo "hi" | cat; exit 3'],
        ),
        ('run busybox sh -c "echo \\"hi\\""', ["run", "busybox", "sh", "-c", 'echo "hi"']),
        ("run -e A='b c'd busybox", ["run", "-e", "A=b cd", "busybox"]),
        ("run -e EMPTY='' busybox ''", ["run", "-e", "EMPTY=", "busybox", ""]),
        (r"echo a\ b \' \|", ["echo", "a b", "'", "|"]),
    ],
)
def test_quotes_as_sh_reads_them(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_comment_needs_a_blank_before_it() -> None:
    assert words("ps -a # all of them | even these") == ["ps", "-a"]
    assert words("run busybox#1 x") == ["run", "busybox#1", "x"]
    assert words("# nothing at all") == []


def test_a_backslash_continues_the_line() -> None:
    assert words("run \\\n  -d \\\n  busybox") == ["run", "-d", "busybox"]
    assert words("ps \\") == ["ps"]


def test_a_template_arrives_whole() -> None:
    assert words("inspect -f '{{json .State}}' web", json=1) == [
        "inspect",
        "-f",
        "{{json .State}}",
        "web",
    ]
    assert words("inspect -f {{json .State}} web", json=1) == [
        "inspect",
        "-f",
        "{{json .State}}",
        "web",
    ]
    assert words('ps --format "{{.Names}}: {{.Status}}"') == [
        "ps",
        "--format",
        "{{.Names}}: {{.Status}}",
    ]
    assert (
        words('ps -f "{{range $i, $e := .X}}{{$HOME}}{{end}}"')[-1]
        == "{{range $i, $e := .X}}{{$HOME}}{{end}}"
    )
    assert words("ps --format {{.ID}}|{{.Names}}")[-1] == "{{.ID}}"  # the bare | is still sh's


def test_a_python_variable_is_replaced_only_where_it_is_one() -> None:
    assert words("logs {name}", name="web") == ["logs", "web"]
    assert words("logs {nobody}") == ["logs", "{nobody}"]
    assert words("x '{name}' \"{name}\" a{name}b", name="w") == ["x", "{name}", "w", "awb"]
    assert words("x {{name}} '{{name}}'", name="w") == ["x", "{{name}}", "{{name}}"]
    assert words("x {a,b} {1} {} {name.real}", name=1) == ["x", "{a,b}", "{1}", "{}", "{name.real}"]
    assert words("x ${name} $name", name="w") == ["x", "${name}", "$name"]
    assert words("""x -d '{"name": 1}' {"name":2}""", name="w")[2] == '{"name": 1}'


def test_a_value_is_split_like_a_shell_variable_and_never_read_again() -> None:
    assert words("run {options} x", options="-d --rm") == ["run", "-d", "--rm", "x"]
    assert words('echo "{text}"', text="a  b") == ["echo", "a  b"]
    assert words("echo {text}", text="$HOME; rm 'x' # | `y`") == [
        "echo",
        "$HOME;",
        "rm",
        "'x'",
        "#",
        "|",
        "`y`",
    ]
    assert words("rm {ids} -f", ids=["a", "b c"]) == ["rm", "a", "b c", "-f"]
    assert words("rm {ids}", ids=[]) == ["rm"]
    assert words("rm x{ids}y", ids=["1", "2"]) == ["rm", "x1", "2y"]
    assert words("sleep {seconds}", seconds=5) == ["sleep", "5"]
    assert words("x {blank}", blank="  ") == ["x"]
    assert words("x a{v}b", v=" 1 ") == ["x", "a", "1", "b"]


def test_the_environment_is_used_where_it_has_the_name() -> None:
    assert words("-v $HOME/a:/a ${HOME} '$HOME' \"$HOME\"") == [
        "-v",
        "/home/ada/a:/a",
        "/home/ada",
        "$HOME",
        "/home/ada",
    ]
    assert (
        words('sh -c "for i in 1; do echo $i $? $$; done"')[-1]
        == "for i in 1; do echo $i $? $$; done"
    )
    assert words("x $EMPTY y") == ["x", "y"]


def test_a_tilde_is_home_at_the_beginning_of_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert words("-v ~/data:/data ~ a~ '~' ~x") == [
        "-v",
        "/home/ada/data:/data",
        "/home/ada",
        "a~",
        "~",
        "~x",
    ]


def test_command_substitution_is_handed_out_and_split() -> None:
    asked: list[str] = []

    def run(command: str) -> str:
        asked.append(command)
        return "one\ntwo three\n\n"

    line = parse("""rm -f $(docker ps -aq) "$(pwd)/x" '$(no)' `docker ps`""", run=run)
    assert line.words == (
        "rm",
        "-f",
        "one",
        "two",
        "three",
        "one\ntwo three/x",
        "$(no)",
        "one",
        "two",
        "three",
    )
    assert asked == ["docker ps -aq", "pwd", "docker ps"]


def test_command_substitution_nests_and_holds_quotes() -> None:
    asked: list[str] = []
    parse("""x $(a "$(b ')')" \\) c) y""", run=lambda command: asked.append(command) or "")
    assert asked == ["""a "$(b ')')" \\) c"""]


@pytest.mark.parametrize(
    ("text", "head", "tail"),
    [
        ("ps -a | grep -A7 Exited", ["ps", "-a"], "| grep -A7 Exited"),
        ("ps -q|wc -l # count", ["ps", "-q"], "|wc -l"),
        ("logs web > out.txt", ["logs", "web"], "> out.txt"),
        ("logs web >> out.txt 2>&1", ["logs", "web"], ">> out.txt 2>&1"),
        ("logs web 2>&1 | tail", ["logs", "web"], "2>&1 | tail"),
        ("logs web &> all", ["logs", "web"], "&> all"),
        ("exec -i web cat < in.txt", ["exec", "-i", "web", "cat"], "< in.txt"),
        ("stop web && docker rm web", ["stop", "web"], "&& docker rm web"),
        ("stop web || echo no", ["stop", "web"], "|| echo no"),
        ("stop web; docker rm web", ["stop", "web"], "; docker rm web"),
        ("stop web;", ["stop", "web"], ""),
        ("echo '2'> x", ["echo", "2"], "> x"),
        ("stop web\ndocker rm web", ["stop", "web"], "\ndocker rm web"),
    ],
)
def test_operators_hand_the_rest_to_sh(text: str, head: list[str], tail: str) -> None:
    line = parse(text)
    assert (list(line.words), line.tail, line.background) == (head, tail, False)


def test_variables_in_the_tail_are_replaced_and_quoted() -> None:
    line = parse(
        """ps | grep {name} "{name}" '{name}' ${name} {{name}} {{a b}} $(echo {name}) "$(echo {name})" """,
        namespace={"name": "a$b c"},
    )
    assert line.tail == (
        """| grep 'a$b' c "a\\$b c" '{name}' ${name} '{{name}}' '{{a b}}' """
        """$(echo 'a$b' c) "$(echo 'a$b' c)\""""
    )


def test_a_final_ampersand_means_background() -> None:
    assert parse("logs -f web &") == Line(("logs", "-f", "web"), background=True)
    assert parse("logs -f web & # watch it") == Line(("logs", "-f", "web"), background=True)
    assert parse("logs -f web | grep x &") == Line(("logs", "-f", "web"), "| grep x", True)
    assert parse("logs web 2>&1 | cat").background is False
    assert parse("run x sh -c 'sleep 1 &'").background is False
    with pytest.raises(GrammarError, match="at the end of the line"):
        parse("run a & run b")


@pytest.mark.parametrize(
    "text", ["run 'x", 'run "x', "run $(x", "run `x", "ps | grep 'x", "x $(a 'b)"]
)
def test_an_open_quotation_is_named(text: str) -> None:
    with pytest.raises(GrammarError, match="unexpected end of the line") as caught:
        parse(text, run=lambda _: "")
    assert caught.value.hint


def test_the_whole_line_can_be_given_to_sh() -> None:
    line = parse("run x sh -c 'a b' | wc -l")
    assert line.script(["docker"]) == "docker run x sh -c 'a b' | wc -l"


def test_substitution_in_sh_text_keeps_comments_and_operators() -> None:
    text = "ps -ef | grep {name} & # {name}"
    assert substitute_text(text, {"name": "web"}) == "ps -ef | grep web & # web"


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
    )
)
def test_quoted_words_come_back_as_they_were(parts: list[str]) -> None:
    assert list(parse(" ".join(shlex.quote(part) for part in parts)).words) == parts


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab '\"\\#$", max_size=14))
@example("a\\")
@example('"a\\b\\"c"')
def test_quoting_agrees_with_a_real_sh(text: str) -> None:
    shell = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' x {text}\n"],
        capture_output=True,
        env={},
        check=False,
        timeout=10,
    )
    try:
        ours = list(parse(f"x {text}", environ={}).words)
    except GrammarError:
        assert shell.returncode != 0
        return
    if "$" in text or text.endswith("\\"):
        return  # $a is deliberately kept where the environment has no such name
    assert shell.returncode == 0
    assert ours == shell.stdout.decode().split("\0")[:-1]


@given(st.text(alphabet="ab{} '\"|&;<>$()`\\#\n", max_size=30))
def test_any_line_is_read_or_refused_in_words(text: str) -> None:
    try:
        line = parse(text, namespace={"a": "1", "b": ["2", "3"]}, run=lambda _: "out")
    except GrammarError as error:
        said = error.message
    else:
        said = "read"
        assert isinstance(line, Line)
    assert said

"""Dockerfiles become instructions; mistakes become one sentence with a line."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labkit.host.image.builder.instructions import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    CopyFlags,
    Env,
    From,
    Healthcheck,
    Label,
    OnBuild,
    Run,
    Shell,
    Volume,
    Workdir,
)
from labkit.host.image.builder.lexer import DockerfileError, lex
from labkit.host.image.builder.parser import parse


def steps(text: str) -> tuple[object, ...]:
    return parse(f"FROM x\n{text}").stages[0].steps


def only(text: str) -> object:
    (found,) = steps(text)
    return found


def test_stages_have_numbers_and_names() -> None:
    found = parse("FROM --platform=linux/arm64 a:1 AS One\nRUN x\nfrom b\nfrom c as two\n")
    assert [(stage.number, stage.name) for stage in found.stages] == [
        (0, "one"),
        (1, "1"),
        (2, "two"),
    ]
    assert found.stages[0].base == From(
        1, "FROM --platform=linux/arm64 a:1 AS One", "a:1", "one", "linux/arm64"
    )


def test_arguments_may_stand_above_from() -> None:
    found = parse("ARG A=1 B\nFROM x:$A\n")
    assert found.arguments[0].pairs == (("A", "1"), ("B", None))


def test_continuations_skip_comments_and_blank_lines() -> None:
    found = only("RUN a && \\\n  # why\n\n  b \\\n  c")
    assert isinstance(found, Run)
    assert found.line == 2
    assert found.command.words == ("a &&   b   c",)


def test_a_double_escape_at_the_end_continues_nothing() -> None:
    run, env = steps("RUN echo \\\\\nENV X=1\n")
    assert isinstance(run, Run)
    assert isinstance(env, Env)


def test_the_escape_directive() -> None:
    found = parse("# escape=`\nFROM x\nRUN dir c:\\`\n  more\n")
    assert found.escape == "`"
    run = found.stages[0].steps[0]
    assert isinstance(run, Run)
    assert run.command.words == ("dir c:\\  more",)


def test_a_directive_below_an_instruction_is_a_comment() -> None:
    assert parse("FROM x\n# escape=`\n").escape == "\\"
    assert lex("# syntax=docker/dockerfile:1\nFROM x\n").syntax == "docker/dockerfile:1"


@pytest.mark.parametrize(
    ("text", "words", "is_shell"),
    [
        ('CMD ["a", "b c"]', ("a", "b c"), False),
        ("CMD a b", ("a b",), True),
        ("CMD ['a', 'b']", ("['a', 'b']",), True),
        ('CMD ["a", 1]', ('["a", 1]',), True),
        ('CMD ["a"', ('["a"',), True),
        ("CMD []", (), False),
    ],
)
def test_exec_form_is_json_and_everything_else_is_shell(
    text: str, words: tuple[str, ...], is_shell: bool
) -> None:
    assert only(text) == Cmd(2, text, CommandLine(words, is_shell))


def test_heredocs_of_run_and_copy() -> None:
    run, copy = steps(
        'RUN <<EOF cat > /x\n  two words\nEOF\nCOPY <<-"ONE" <<TWO /d/\n\ta $b\n\tONE\nTWO\n'
    )
    assert isinstance(run, Run)
    assert (run.heredocs[0].content, run.heredocs[0].expand) == ("  two words\n", True)
    assert isinstance(copy, Copy)
    assert [(one.name, one.content, one.expand) for one in copy.heredocs] == [
        ("ONE", "a $b\n", False),
        ("TWO", "", True),
    ]


def test_an_open_heredoc_says_where_it_began() -> None:
    with pytest.raises(DockerfileError, match="on line 3: unterminated heredoc: EOF"):
        parse("FROM x\nRUN a\nRUN <<EOF\nb\n")


def test_names_and_values() -> None:
    assert only('ENV a=1 b="x y" c=p\\ q').pairs == (("a", "1"), ("b", '"x y"'), ("c", "p\\ q"))
    assert only("ENV old the rest  of it").pairs == (("old", "the rest  of it"),)
    assert only("LABEL x.y=1") == Label(2, "LABEL x.y=1", (("x.y", "1"),))
    assert only("ARG n").pairs == (("n", None),)
    assert isinstance(only("ARG n"), Arg)


def test_flags() -> None:
    text = "COPY --from=a --chown=1:2 --chmod=755 --link --exclude=*.md --exclude=b x y /z/"
    flags = CopyFlags("a", "1:2", "755", exclude=("*.md", "b"), link=True)
    assert only(text) == Copy(2, text, ("x", "y"), "/z/", (), flags)
    parents = only("COPY --parents --link=false x /z/")
    assert isinstance(parents, Copy)
    assert (parents.flags.parents, parents.flags.link) == (True, False)
    for wrong in ("COPY --parents=maybe x /z/", "ADD --checksum=md5:1 x /z/", "ADD --parents x /"):
        with pytest.raises(DockerfileError, match="on line 2"):
            only(wrong)
    add = only('ADD ["a b", "/c"]')
    assert isinstance(add, Add)
    assert (add.sources, add.destination) == (("a b",), "/c")
    run = only(
        "RUN --mount=type=cache,target=/c,id=x --mount=type=tmpfs,dst=/t,size=1m --network=none y"
    )
    assert isinstance(run, Run)
    assert [(one.kind, one.target, one.id) for one in run.mounts] == [
        ("cache", "/c", "x"),
        ("tmpfs", "/t", ""),
    ]
    assert (run.network, run.mounts[1].size_bytes) == ("none", 1 << 20)


def test_healthchecks() -> None:
    assert only("HEALTHCHECK NONE") == Healthcheck(2, "HEALTHCHECK NONE", ("NONE",))
    found = only('HEALTHCHECK --interval=1m --timeout=3s --retries=4 CMD ["a"]')
    assert isinstance(found, Healthcheck)
    assert (found.test, found.interval_ns, found.timeout_ns, found.retries) == (
        ("CMD", "a"), 60_000_000_000, 3_000_000_000, 4,
    )  # fmt: skip


def test_other_instructions() -> None:
    assert only("WORKDIR /a b") == Workdir(2, "WORKDIR /a b", "/a b")
    assert only('SHELL ["bash", "-c"]') == Shell(2, 'SHELL ["bash", "-c"]', ("bash", "-c"))
    assert only("onbuild run echo x") == OnBuild(2, "ONBUILD run echo x", "run echo x")


def test_a_volume_with_a_comma_is_taken_as_written_with_a_warning() -> None:
    found = parse("FROM x\nVOLUME /a, /b\n")
    assert found.stages[0].steps == (Volume(2, "VOLUME /a, /b", ("/a,", "/b")),)
    assert "called /a, (with the comma)" in found.warnings[0]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("FROM x\n\nRNU y\n", 3, "unknown instruction: RNU"),
        ("FROM x\nRUN a &&\n  apk add b\n", 3, "unknown instruction: apk"),
        ("RUN x\n", 1, "no build stage in current context"),
        ("# only a comment\n", 1, "file with no instructions"),
        ("FROM\n", 1, "FROM requires either one or three arguments"),
        ("FROM a AS 1x\n", 1, 'invalid name for build stage: "1x"'),
        ("FROM x\nCOPY a\n", 2, "COPY requires at least two arguments"),
        ("FROM x\nRUN\n", 2, "RUN requires at least one argument"),
        ("FROM x\nENV a\n", 2, "ENV must have two arguments"),
        ("FROM x\nENV a=1 b\n", 2, 'Syntax error - can\'t find = in "b"'),
        ("FROM x\nSHELL bash\n", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM x\nCOPY --frm=a b c\n", 2, "unknown flag: --frm"),
        ("FROM x\nONBUILD FROM y\n", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM x\nONBUILD ONBUILD RUN y\n", 2, "Chaining ONBUILD"),
        ("FROM x\nHEALTHCHECK CMD\n", 2, "Missing command after HEALTHCHECK CMD"),
        ("FROM x\nRUN --mount=type=floppy,target=/x y\n", 2, "unsupported mount type"),
        ("# escape=x\nFROM y\n", 1, "invalid escape token 'x'"),
    ],
)
def test_mistakes_name_line_and_word(text: str, line: int, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"dockerfile parse error on line {line}: {reason}")


def test_hints_name_the_nearest_word_and_the_forgotten_backslash() -> None:
    with pytest.raises(DockerfileError) as caught:
        parse("FROM x\nRNU y\n")
    assert caught.value.hint == "did you mean RUN?"
    with pytest.raises(DockerfileError) as caught:
        parse("FROM x\nRUN a &&\n  apk add b\n")
    assert caught.value.hint is not None
    assert "line 2 ends with &&" in caught.value.hint


_INSTRUCTIONS = (
    "FROM RUN COPY ADD ENV ARG LABEL CMD ENTRYPOINT SHELL HEALTHCHECK ONBUILD VOLUME EXPOSE AS"
)
_PIECES = (
    "--from=a --mount=type=cache,target=/x --mount= -- \\ ` # <<EOF <<-E EOF E [ ] \" ' = $ ${x:-y}"
    ' , a b x=1 ["a"] # escape=` --interval=1s NONE'
)
_WORDS = st.sampled_from([*_INSTRUCTIONS.split(), *_PIECES.split(), "\n", "\n\n", "\t"])
_TEXTS = st.lists(_WORDS, max_size=40).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(_TEXTS, st.text(max_size=300), st.binary(max_size=300)))
@example('FROM x\nRUN --mount="')
@example("FROM x\nONBUILD RUN <<EOF\nEOF")
def test_any_text_is_stages_or_the_one_error(text: str | bytes) -> None:
    try:
        found = parse(text)
    except DockerfileError:
        return
    assert found.stages

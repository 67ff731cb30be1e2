"""Variables in words, .dockerignore's patterns, and what history says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.dockerignore import IgnoreRules, pattern_to_regex
from labkit.base.errors import InvalidParameter
from labkit.host.image.builder import config as words
from labkit.host.image.builder.expand import expand, expand_words
from labkit.host.image.builder.instructions import CommandLine, Healthcheck

VARIABLES = {"x": "1", "two": "a b", "empty": ""}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$x", "1"),
        ("${x}y", "1y"),
        ("$xy", ""),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${unset-d}", "d"),
        ("${unset:-${x}${two}}", "1a b"),
        ("${x:+yes}", "yes"),
        ("${empty:+yes}", ""),
        ("${empty+yes}", "yes"),
        ("\\$x", "$x"),
        ("'$x'", "$x"),
        ('"$two"', "a b"),
        ("a\\ b", "a b"),
        ('"a\\b \\" \\$x"', 'a\\b " $x'),
        ("$", "$"),
        ("it costs 5$", "it costs 5$"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, VARIABLES) == result


def test_words_divide_at_blanks_of_variables_but_not_of_quotes() -> None:
    assert expand_words('$two "$two" c$two', VARIABLES) == ["a", "b", "a b", "ca", "b"]
    assert expand_words("$unset", VARIABLES) == []


@pytest.mark.parametrize("text", ["'open", '"open', "${x", "${x%y}", "${", "${x:?}${unset:?no}"])
def test_what_cannot_be_expanded_is_an_invalid_parameter(text: str) -> None:
    with pytest.raises(InvalidParameter):
        expand(text, VARIABLES)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="$x{}:-+?\\'\" ab", max_size=40))
def test_any_word_expands_or_is_refused(text: str) -> None:
    for act in (expand, expand_words):
        try:
            act(text, VARIABLES)
        except InvalidParameter:
            continue


@pytest.mark.parametrize(
    ("rules", "left_out", "kept"),
    [
        ("*.log", ["a.log"], ["d/a.log", "a.log.txt"]),
        ("**/*.log", ["a.log", "d/e/a.log"], ["a.txt"]),
        ("build\n!build/keep", ["build", "build/x"], ["build/keep"]),
        ("*\n!src", ["a", "d/e"], ["src", "src/x/y"]),
        ("/abs/./x/", ["abs/x", "abs/x/y"], ["x"]),
        ("# comment\n\na?c\n[x-z]1", ["abc", "y1"], ["ac", "a/c", "w1"]),
        ("**/node_modules", ["node_modules/a", "p/node_modules/a/b"], ["node_modulesx"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["a/b"]),
        ("!x\nx", ["x"], []),
    ],
)
def test_dockerignore(rules: str, left_out: list[str], kept: list[str]) -> None:
    found = IgnoreRules(rules)
    assert [path for path in left_out if not found.excludes(path)] == []
    assert [path for path in kept if found.excludes(path)] == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="*?[]^-\\/a.!#", max_size=20), st.text(alphabet="ab/.", max_size=10))
def test_any_pattern_matches_or_is_a_syntax_error(pattern: str, path: str) -> None:
    try:
        IgnoreRules(pattern).excludes(path)
        pattern_to_regex(pattern, deep=False)
    except InvalidParameter:
        return


def test_history_has_gos_formatting() -> None:
    assert words.nop({}, 'CMD ["a" "b c"]') == '/bin/sh -c #(nop)  CMD ["a" "b c"]'
    assert words.nop({"Shell": ["bash", "-c"]}, "WORKDIR /x", tight=True) == (
        "bash -c #(nop) WORKDIR /x"
    )
    assert words.go_list(["a", 'b"'], quoted=True) == '["a" "b\\""]'
    assert words.go_list(["/a", "/b"], quoted=False) == "[/a /b]"
    check = Healthcheck(1, "", ("CMD-SHELL", "x"), 90_000_000_000, 500_000_000, 0, 0, 3)
    assert words.health(check) == (
        {"Test": ["CMD-SHELL", "x"], "Interval": 90_000_000_000, "Timeout": 500_000_000,
         "Retries": 3},
        'HEALTHCHECK &{["CMD-SHELL" "x"] "1m30s" "500ms" "0s" "0s" \'\\x03\'}',
    )  # fmt: skip
    assert words.argument_prefix({"b": "2", "a": "1"}) == "|2 a=1 b=2 "


def test_ports_folders_and_commands() -> None:
    assert words.exposed(["80", "90-91/udp"]) == ["80/tcp", "90/udp", "91/udp"]
    with pytest.raises(InvalidParameter, match="invalid containerPort: 0"):
        words.exposed(["0"])
    assert words.workdir({}, "a") == "/a"
    assert words.workdir({"WorkingDir": "/a"}, "b/../c") == "/a/c"
    assert words.workdir({"WorkingDir": "/a"}, "/b") == "/b"
    assert words.command_words({}, CommandLine(("x y",), True)) == ["/bin/sh", "-c", "x y"]
    assert words.set_environment({"Env": ["A=1", "B=2"]}, {"A": "3"})["Env"] == ["A=3", "B=2"]

"""Flags, operands, help and tables: what no transcript can show in full."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.notebook.client import Client
from labkit.notebook.commands.docker import COMMANDS, main
from labkit.notebook.commands.docker.rows import ports_text
from labkit.notebook.commands.flags import (
    FlagError,
    FlagHelp,
    flag_usages,
    parse_flags,
    read_table,
)
from labkit.notebook.commands.formatting import ellipsis, tabulate
from labkit.notebook.commands.surface import BufferSurface
from labkit.notebook.commands.tree import records

TABLE = read_table(
    """
-d, --detach         | Go to the background
-i, --interactive    | Keep stdin
-p, --publish list   | Ports
-n, --last int       | How many (default -1)
    --rm             | Remove
    --pull string    | When (default "missing")
"""
)


def test_short_flags_bundle_and_carry_values() -> None:
    flags, operands = parse_flags(TABLE, ["-dip8080:80", "-p=1:2", "--rm=false", "x", "-n", "3"])
    assert flags["publish"] == ["8080:80", "1:2"]
    assert (flags["detach"], flags["interactive"], flags["rm"]) == (True, True, False)
    assert (flags["last"], flags["pull"], operands) == (3, "missing", ["x"])
    assert flags.given("rm")
    assert not flags.given("pull")


def test_flags_after_the_image_belong_to_the_command() -> None:
    flags, operands = parse_flags(TABLE, ["-d", "img", "ls", "-l"], interspersed=False)
    assert (flags["detach"], operands) == (True, ["img", "ls", "-l"])
    assert parse_flags(TABLE, ["--", "-d"])[1] == ["-d"]


@settings(deadline=None)  # nothing here is about time
@given(st.lists(st.text(alphabet="-=adip x8:", max_size=6)))
def test_any_words_parse_or_fail_as_pflag_does(words: list[str]) -> None:
    with contextlib.suppress(FlagError, FlagHelp):
        parse_flags(TABLE, words)


@settings(deadline=None)  # nothing here is about time
@given(st.integers(min_value=1, max_value=200))
def test_help_fits_any_width_without_losing_a_word(columns: int) -> None:
    table = COMMANDS.index["run"].table
    wide = flag_usages(table, 5000).split()
    assert flag_usages(table, columns).split() == wide


@settings(deadline=None)  # nothing here is about time
@given(st.lists(st.text(alphabet="ab\t\n", max_size=12)).map("".join))
def test_tabulating_moves_no_character(text: str) -> None:
    assert "".join(tabulate(text).split(" ")) == text.replace("\t", "")


def test_columns_are_shared_by_neighbours_only() -> None:
    assert tabulate("a\tb\nlonger than ten\tc\nx\ny\tz") == (
        "a                 b\nlonger than ten   c\nx\ny         z"
    )
    assert ellipsis("abcdef", 4) == "abc…"


def test_neighbouring_ports_are_drawn_together() -> None:
    ports = [
        {"IP": "0.0.0.0", "PrivatePort": n, "PublicPort": n, "Type": "tcp"} for n in (80, 81, 90)
    ]
    assert ports_text(ports) == "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:90->90/tcp"


def test_every_command_has_a_page_for_the_reference() -> None:
    pages = records(COMMANDS)
    assert len(pages) == len(COMMANDS.commands)
    assert all(page["description"] and page["usage"] is not None for page in pages)


@settings(deadline=None)  # nothing here is about time
@given(st.lists(st.sampled_from([*COMMANDS.index, "-", "--", "--help", "-f", "x", "", "{{"])))
def test_no_command_line_raises(words: list[str]) -> None:
    surface = BufferSurface()
    client = Client("unix:///nonexistent/docker.sock")
    flat = [word for words_ in words for word in words_.split() or [""]]
    if "use" in flat or "events" in flat:
        return
    assert isinstance(main(flat, client=client, surface=surface, cwd=Path("/nonexistent")), int)


def test_a_command_that_lives_elsewhere_points_there() -> None:
    surface = BufferSurface()
    client = Client("unix:///nonexistent/docker.sock")
    assert main(["swarm", "init"], client=client, surface=surface, cwd=Path("/")) == 1
    assert surface.stderr.startswith("docker: unknown command: docker swarm\n")
    assert "labkit env" in surface.hints[0]


@pytest.mark.parametrize(
    ("words", "current", "wanted"),
    [
        ([], "ru", {"run"}),
        (["container"], "l", {"logs", "ls"}),
        (["run"], "--network-a", {"--network-alias"}),
        (["run", "--pull"], "a", {"always"}),
        (["run"], "--pull=", {"--pull=always", "--pull=missing", "--pull=never"}),
        (["run", "alpine"], "", set()),
        (["nosuch"], "", set()),
        (["stop"], "", set()),
    ],
)
def test_completion_without_an_engine_knows_words_only(
    words: list[str], current: str, wanted: set[str]
) -> None:
    from labkit.notebook.commands.docker import complete

    client = Client("unix:///nonexistent/docker.sock")
    assert {item.text for item in complete(words, current, client=client)} == wanted


def test_completion_knows_what_the_engine_has(short_tmp: Path) -> None:
    from commands_world import world

    from labkit.notebook.commands.docker import complete

    with world().serving(short_tmp / "s") as address:
        client = Client(address)
        assert {c.text for c in complete(["stop"], "", client=client)} == {"web", "db"}
        images = {c.text for c in complete(["run", "-d"], "al", client=client)}
        assert images == {"alpine", "alpine:latest", "alpine:3.19"}
        assert {c.text for c in complete(["network", "connect"], "net", client=client)} == {
            "net9",
            "net10",
        }
        assert {c.text for c in complete(["run", "--network"], "b", client=client)} == {"bridge"}
        client.close()

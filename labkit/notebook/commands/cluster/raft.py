"""`raft`: what each manager believes. `clock`: how fast they live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.notebook.commands.cluster.swarm import describe_clock
from labkit.notebook.commands.cluster.words import Parser, listing, parse

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.surface import Surface

__all__ = ["run", "run_clock"]


def run(words: Sequence[str], lab: LabClient, surface: Surface, prog: str) -> int:
    """The table of `%lab raft`."""
    parser = Parser(prog=prog, description="What each manager believes at this moment.")
    if parse(parser, words, surface) is None:
        return 0
    managers = lab.json("GET", "/v1/raft")
    names = {manager["id"]: manager["name"] for manager in managers}
    rows = [_row(manager, names) for manager in managers]
    columns = ("NAME", "ROLE", "TERM", "VOTE", "LEADER", "COMMIT", "APPLIED", "LOG", "LAST TERM")
    surface.table(listing(columns, rows, managers))
    return 0


def _row(manager: dict[str, Any], names: dict[int, str]) -> tuple[str, ...]:
    if "role" not in manager:
        return (manager["name"], "did not come up", *[""] * 7)
    role = manager["role"].replace("_", "-")
    if manager["paused"]:
        role += " (paused)"
    if not manager["up"]:
        role = "down"
    return (
        manager["name"],
        role,
        str(manager["term"]),
        names.get(manager["vote"], "-"),
        names.get(manager["leader"], "-"),
        str(manager["commit"]),
        str(manager["applied"]),
        f"{manager['first']}..{manager['last']}" if manager["last"] else "empty",
        str(manager["last_term"]),
    )


def run_clock(words: Sequence[str], lab: LabClient, surface: Surface, prog: str) -> int:
    """`clock [docker|fast]`: change the timings, or only show them."""
    parser = Parser(prog=prog, description="How fast the managers' clocks tick.")
    parser.add_argument(
        "clock",
        nargs="?",
        choices=("docker", "fast"),
        help="docker: a tick a second, as swarm; fast: twenty ticks a second, for lessons",
    )
    options = parse(parser, words, surface)
    if options is None:
        return 0
    found = lab.json("POST", "/v1/swarm/clock", {"clock": options.clock or ""})
    surface.out(f"{describe_clock(found)}\n")
    return 0

"""`swarm up|status|down`: a cluster of managers and workers in this lab."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.notebook.commands.cluster.words import Parser, listing, parse

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.surface import Surface

__all__ = ["describe_clock", "run"]


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="A cluster of managers and workers in this lab.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    up = commands.add_parser("up", help="make the nodes and the cluster")
    up.add_argument("--managers", type=int, default=3, metavar="N", help="1 to 9 (default 3)")
    up.add_argument("--workers", type=int, default=0, metavar="N", help="default 0")
    up.add_argument(
        "--clock", choices=("docker", "fast"), default="docker", help="see `clock` (default docker)"
    )
    up.add_argument("--hollow", action="store_true", help="nodes without processes")
    commands.add_parser("status", help="who is there, who leads, how many may fail")
    commands.add_parser("down", help="end the cluster and remove its nodes")
    return parser


def run(words: Sequence[str], lab: LabClient, surface: Surface, prog: str) -> int:
    """Run `swarm …`."""
    options = parse(_parser(prog), words or ["status"], surface)
    if options is None:
        return 0
    if options.command == "up":
        body = {
            "managers": options.managers,
            "workers": options.workers,
            "clock": options.clock,
            "hollow": options.hollow,
        }
        _show(lab.json("POST", "/v1/swarm", body), surface)
    elif options.command == "down":
        lab.json("DELETE", "/v1/swarm")
        surface.out("The swarm is down; its nodes and their data are gone.\n")
    else:
        _show(lab.json("GET", "/v1/swarm"), surface)
    return 0


def describe_clock(status: dict[str, Any]) -> str:
    """The timings that are in force, in words."""
    tick_s, ticks = status["tick_s"], status["election_ticks"]
    return (
        f"{status['clock']}: a tick is {tick_s:g} s; the leader speaks every "
        f"{status['heartbeat_ticks'] * tick_s:g} s, who hears nothing for {ticks} to {2 * ticks} "
        f"ticks ({tick_s * ticks:g} to {tick_s * ticks * 2:g} s) stands for election"
    )


def _show(status: dict[str, Any], surface: Surface) -> None:
    leader = status["leader"] or "none"
    lines = [
        f"swarm {status['id']}",
        f"  clock      {describe_clock(status)}",
        f"  managers   {status['managers']}, of which {status['up']} are up",
        f"  majority   {status['quorum']}, so {status['may_fail']} may fail",
        f"  leader     {leader}",
    ]
    if status["revision"] is not None:
        lines.append(f"  store      revision {status['revision']}")
    if status["up"] < status["quorum"]:
        lines.append("  note       too few managers are up: nothing can be decided")
    for node in status["nodes"]:
        if node.get("failure"):
            lines.append(f"  note       {node['name']}: {node['failure']}")
        lines += [f"  note       {node['name']}: {text}" for text in node.get("refusals", ())]
    surface.out("\n".join(lines) + "\n\n")
    rows = [
        (node["name"], node["role"], node["status"], node["manager"], node["address"], node["kind"])
        for node in status["nodes"]
    ]
    columns = ("NAME", "ROLE", "STATUS", "MANAGER STATUS", "ADDRESS", "KIND")
    surface.table(listing(columns, rows, list(status["nodes"])))

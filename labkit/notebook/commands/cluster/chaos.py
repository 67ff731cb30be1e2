"""`chaos …`: break the cluster; `chaos ls` shows what was broken when."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.notebook.commands.cluster.words import Parser, listing, parse

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.surface import Surface

__all__ = ["run"]

_ONE = {
    "kill": "pull the plug of a node, or of the leader",
    "restart": "bring a node up again (one that runs is killed first)",
    "pause": "let a node stand still",
    "resume": "let it go on",
}
_PAIR = {
    "slow": ("delay what passes between two sides", "200ms"),
    "lose": ("lose a share of what passes between two sides", "30%"),
}


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Break the cluster: its messages, and where nodes are real, their packets. "
        "A node is a name or `leader`; a side is one node or several with commas.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    cut = commands.add_parser("partition", help="cut two sides off from each other")
    cut.add_argument("sides", nargs="+", metavar="SIDE", help="one side alone: from everybody else")
    commands.add_parser("heal", help="all wires are good again")
    for name, text in _ONE.items():
        commands.add_parser(name, help=text).add_argument("node", metavar="NODE|leader")
    for name, (text, example) in _PAIR.items():
        pair = commands.add_parser(name, help=text)
        pair.add_argument("sides", nargs="+", metavar="SIDE… AMOUNT", help=f"AMOUNT as {example}")
    skew = commands.add_parser("clock-skew", help="let a manager's clock run fast or slow")
    skew.add_argument("node", metavar="NODE|leader")
    skew.add_argument("amount", help="10%% faster, or -10%% (slower; write -- before it)")
    monkey = commands.add_parser("monkey", help="something at random, again and again")
    monkey.add_argument("stop", nargs="?", choices=("stop",), help="send it home")
    monkey.add_argument("--every", default="5s", help="how often (default 5s)")
    shown = commands.add_parser("ls", help="what was done to which node when")
    shown.add_argument("-n", type=int, default=20, metavar="N", help="the last N (default 20)")
    return parser


def run(words: Sequence[str], lab: LabClient, surface: Surface, prog: str) -> int:
    """Run `chaos …`."""
    options = parse(_parser(prog), words or ["ls"], surface)
    if options is None:
        return 0
    if options.command == "ls":
        return _list(lab, surface, options.n)
    body: dict[str, Any] = {"action": options.command, "nodes": [], "amount": ""}
    if options.command == "monkey":
        body["nodes"] = ["stop"] if options.stop else []
        body["amount"] = "" if options.stop else options.every
    elif options.command == "partition":
        body["nodes"] = options.sides
    elif options.command in _PAIR:
        *body["nodes"], body["amount"] = options.sides
    elif options.command != "heal":
        body["nodes"] = [options.node]
        body["amount"] = getattr(options, "amount", "")
    done = lab.json("POST", "/v1/chaos", body)
    surface.out(f"{_sentence(done)}\n")
    for note in done["notes"]:
        surface.err(f"note: {note}\n")
    return 0


def _sentence(entry: dict[str, Any]) -> str:
    return " ".join(word for word in (entry["action"], *entry["nodes"], entry["amount"]) if word)


def _list(lab: LabClient, surface: Surface, count: int) -> int:
    found = lab.json("GET", "/v1/chaos")
    entries = found["log"][-count:] if count > 0 else []
    rows = [
        (
            time.strftime("%H:%M:%S", time.localtime(entry["at"])),
            entry["by"],
            entry["action"],
            " ".join(entry["nodes"]) or "-",
            entry["amount"] or "-",
            entry["error"] or "; ".join(entry["notes"]) or "-",
        )
        for entry in entries
    ]
    columns = ("AT", "BY", "ACTION", "NODES", "AMOUNT", "NOTE")
    surface.table(listing(columns, rows, entries))
    if found["monkey"]:
        surface.out(f"\nthe monkey is about: {found['monkey']}\n")
    if found["wires"]:
        surface.out("\nbroken now:\n")
        for wire in found["wires"]:
            surface.out(f"  {wire['from']} → {wire['to']}: {_damage(wire)}\n")
    return 0


def _damage(wire: dict[str, Any]) -> str:
    if wire["cut"]:
        return "cut"
    parts = [f"loses {wire['loss']:.0%}"] if wire["loss"] else []
    parts += [f"{wire['delay_ms']:g} ms slower"] if wire["delay_ms"] else []
    return ", ".join(parts)

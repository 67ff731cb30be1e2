"""`nodes add|rm|stop|start|pause|unpause|ls`: simulated hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter
from labkit.notebook.commands.cluster.words import Parser, listing, parse

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.surface import Surface

__all__ = ["run"]

_SHOWN_ALL = 40
_CHANGES = {
    "stop": "stop nodes: containers with their grace, then the host",
    "start": "start nodes that were stopped or killed",
    "pause": "let nodes stand still, as a suspended machine does",
    "unpause": "let paused nodes go on",
}


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description="Simulated hosts, each with a Docker Engine of its own.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    add = commands.add_parser("add", help="add nodes", description="Add nodes.")
    add.add_argument(
        "names", nargs="*", metavar="NAME|COUNT", help="names, or how many (default: one)"
    )
    add.add_argument(
        "--hollow", action="store_true", help="mere entries without processes; any number of them"
    )
    add.add_argument(
        "--platform", default="linux/amd64", help="what it says it is; others than Linux are hollow"
    )
    remove = commands.add_parser("rm", help="remove nodes and their data")
    remove.add_argument("names", nargs="+", metavar="NAME")
    for name, text in _CHANGES.items():
        commands.add_parser(name, help=text).add_argument("names", nargs="+", metavar="NAME")
    shown = commands.add_parser("ls", help="list nodes (also without a command)")
    shown.add_argument("-a", "--all", action="store_true", help=f"more than the first {_SHOWN_ALL}")
    return parser


def run(words: Sequence[str], lab: LabClient, surface: Surface, prog: str) -> int:
    """Run `nodes …`."""
    options = parse(_parser(prog), words or ["ls"], surface)
    if options is None:
        return 0
    if options.command == "ls":
        return _list(lab, surface, everything=options.all)
    if options.command == "add":
        return _add(options, lab, surface)
    if options.command == "rm":
        lab.json("DELETE", "/v1/nodes", {"names": options.names})
    else:
        for name in options.names:
            lab.json("POST", f"/v1/nodes/{name}/{options.command}")
    surface.out("".join(f"{name}\n" for name in options.names))
    return 0


def _add(options: Any, lab: LabClient, surface: Surface) -> int:
    names, count = options.names, 0
    if len(names) == 1 and names[0].isdecimal():
        names, count = [], int(names[0])
        if not count:
            raise InvalidParameter("nodes add: how many? 0 is none", hint="nodes add 3")
    body = {
        "names": names,
        "count": count,
        "hollow": options.hollow,
        "platform": options.platform,
    }
    made = lab.json("POST", "/v1/nodes", body)
    for node in made[:_SHOWN_ALL]:
        surface.out(f"{node['name']}\n")
    if len(made) > _SHOWN_ALL:
        surface.out(f"… {made[-1]['name']} ({len(made)} nodes)\n")
    hollow = sum(node["kind"] == "hollow" for node in made)
    if hollow and not options.hollow:
        surface.err("note: this lab has no namespaces, so these nodes are hollow\n")
    return 0


def _list(lab: LabClient, surface: Surface, *, everything: bool) -> int:
    nodes = lab.json("GET", "/v1/nodes")
    shown = nodes if everything else nodes[:_SHOWN_ALL]
    rows = [
        (
            node["name"],
            node["kind"],
            node["status"],
            node["address"] or "-",
            node["platform"],
            f"unix://{node['docker_socket']}" if node["docker_socket"] else "-",
        )
        for node in shown
    ]
    columns = ("NAME", "KIND", "STATUS", "ADDRESS", "PLATFORM", "DOCKER SOCKET")
    surface.table(listing(columns, rows, list(shown)))
    if len(nodes) > len(shown):
        surface.out(f"… and {len(nodes) - len(shown)} more (nodes ls --all)\n")
    return 0

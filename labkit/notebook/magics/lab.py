"""`%lab …`: the lab itself, its views, its jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.notebook.commands.surface import Table
from labkit.notebook.magics import chapter
from labkit.notebook.magics.line import Notebook
from labkit.notebook.magics.surface import NotebookSurface

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["SUBCOMMANDS", "Subcommand", "run_cluster", "run_lab", "usage"]

_Run = Callable[[Notebook, list[str], NotebookSurface], int]

_HELP_THEMSELVES = frozenset({"nodes", "chaos", "raft", "clock"})
"""Commands with commands of their own: they print their help themselves."""


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One word behind %lab: how it is written, what it does, and the function that does it."""

    usage: str
    help: str
    run: _Run


def run_lab(notebook: Notebook, text: str, *, keep: bool) -> Any:
    """Run one line."""
    value: list[Any] = []

    def work(surface: NotebookSurface) -> int:
        words = list(notebook.parse(text).words)
        if not words or words[0] in ("--help", "-h", "help"):
            surface.out(usage())
            return 0
        name, rest = words[0], words[1:]
        subcommand = SUBCOMMANDS.get(name)
        if subcommand is None:
            raise InvalidParameter(
                f"%lab: '{name}' is not one of its commands", hint=_nearest(name)
            )
        if ("--help" in rest or "-h" in rest) and name not in _HELP_THEMSELVES:
            surface.out(f"Usage:  %lab {subcommand.usage}\n\n{subcommand.help}\n")
            return 0
        if name == "view" and keep:
            from labkit.notebook import widgets

            value.append(widgets.make_view(_view_name(rest), notebook.session.lab(), rest[1:]))
            return 0
        return subcommand.run(notebook, rest, surface)

    result = notebook.guard(work, keep=keep)
    return value[0] if value else result


def usage() -> str:
    """The help of %lab."""
    width = max(len(subcommand.usage) for subcommand in SUBCOMMANDS.values())
    lines = [f"  {one.usage:<{width}}   {one.help}" for one in SUBCOMMANDS.values()]
    return "Usage:  %lab COMMAND\n\nThe lab itself, its views and its jobs.\n\nCommands:\n" + (
        "\n".join(lines) + "\n\nRun '%lab COMMAND --help' for more on one of them.\n"
    )


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, SUBCOMMANDS, n=1)
    return f"%lab {close[0]}" if close else "%lab --help"


def _expect(words: list[str], allowed: int, name: str) -> None:
    if len(words) > allowed:
        raise InvalidParameter(f"%lab {name}: too many words", hint=f"%lab {name} --help")


def _status(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    _expect(words, 0, "status")
    status = notebook.session.lab().json("GET", "/v1/status")
    from labkit import __version__

    lines = [f"labkit {__version__} · {' · '.join(chapter.describe(status))}"]
    facts = [
        ("daemon", f"pid {status['pid']}, up {status.get('uptime_s', 0):.0f} s"),
        ("docker", f"unix://{status['docker_socket']}"),
        ("state", str(status["home"])),
    ]
    left = status.get("leftovers") or {}
    if any(left.values()):
        found = ", ".join(f"{count} {kind}" for kind, count in left.items() if count)
        facts.append(("holds", found))
    lines += [f"  {name:<8} {text}" for name, text in facts]
    lines += [f"  note     {text}" for text in status.get("warnings", ())]
    surface.out("\n".join(lines) + "\n")
    return 0


def run_cluster(notebook: Notebook, group: str, text: str, *, keep: bool) -> Any:
    """`%swarm …`: a command of the cluster that is a magic of its own."""

    def work(surface: NotebookSurface) -> int:
        from labkit.notebook.commands.cluster import run

        words = list(notebook.parse(text).words)
        return run(group, words, _lab_for(notebook, words), surface, prog="")

    return notebook.guard(work, keep=keep)


def _cluster(group: str) -> _Run:
    def run(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
        from labkit.notebook.commands.cluster import run

        return run(group, words, _lab_for(notebook, words), surface, prog="%lab")

    return run


def _lab_for(notebook: Notebook, words: Sequence[str]) -> LabClient:
    """The lab; help needs none, so it starts none."""
    if {"-h", "--help"} & set(words):
        from labkit.notebook.client import LabClient

        return LabClient()
    return notebook.session.lab()


def make_table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], records: list[dict[str, Any]]
) -> Table:
    """A listing laid out as Docker's client does: columns three blanks apart."""
    widths = [max(len(line[i]) for line in [columns, *rows]) for i in range(len(columns))]
    text = "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        + "\n"
        for line in [columns, *rows]
    )
    return Table(columns, list(rows), text, records)


def _view_name(words: list[str]) -> str:
    from labkit.notebook import widgets

    if not words or words[0] not in widgets.VIEWS:
        asked = f"'{words[0]}' is not a view" if words else "%lab view needs a name"
        raise InvalidParameter(asked, hint=f"one of: {', '.join(widgets.VIEWS)}")
    return words[0]


def _view(notebook: Notebook, words: list[str], _surface: NotebookSurface) -> int:
    from labkit.notebook import widgets

    widgets.show_view(_view_name(words), notebook.session.lab(), words[1:])
    return 0


def _verdict(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    from labkit.notebook.verdicts import ask_verdict

    if len(words) < 2:
        raise InvalidParameter(
            "%lab verdict needs a container and a system call", hint="%lab verdict web mount"
        )
    found = ask_verdict(notebook.session.lab(), words[0], words[1], words[2:])
    surface.out(found["text"] + "\n")
    return 0


def _jobs(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    jobs = notebook.session.jobs
    if words[:1] == ["stop"] and len(words) <= 2:
        if words[1:] in ([], ["all"]):
            jobs.stop_all()
        else:
            jobs.get(words[1]).stop()
    elif words:
        raise InvalidParameter(
            f"%lab jobs: cannot read '{' '.join(words)}'", hint="%lab jobs stop 1"
        )
    rows = [
        (str(job.number), job.state, "" if job.code is None else str(job.code), job.title)
        for job in jobs
    ]
    columns = ("JOB", "STATE", "EXIT CODE", "COMMAND")
    surface.table(make_table(columns, rows, [dict(zip(columns, row, strict=True)) for row in rows]))
    return 0


def _open(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    if words:
        from labkit.notebook.magics.opening import open_port

        return open_port(notebook, words)
    paths = notebook.session.ensure()
    surface.out(
        "The same lab from a terminal (JupyterLab: File → New → Terminal):\n\n"
        "  labkit docker ps                  the command line of these magics\n"
        "  labkit docker run -it busybox sh  with a terminal of its own\n"
        f"  export DOCKER_HOST=unix://{paths.docker_socket}\n"
        "  docker ps                         the real client, at this engine\n"
    )
    return 0


def _logs(_notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    from labkit.base.paths import LabPaths
    from labkit.notebook.daemonlog import last_lines

    if len(words) > 1 or not all(word.isdecimal() for word in words):
        raise InvalidParameter("%lab logs: how many lines?", hint="%lab logs 100")
    text, _ = last_lines(LabPaths.from_environment().daemon_log, int(words[0]) if words else 50)
    surface.out_bytes(text)
    return 0


def _doctor(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    _expect(words, 0, "doctor")
    findings = notebook.session.lab().json("GET", "/v1/doctor")
    columns = ("OK", "WHAT", "FOUND", "MEANS", "FIX")
    rows = [
        (
            "yes" if finding["ok"] else "NO",
            str(finding["name"]),
            str(finding["found"]),
            "" if finding["ok"] else str(finding.get("meaning") or ""),
            "" if finding["ok"] else str(finding.get("fix") or ""),
        )
        for finding in findings
    ]
    surface.table(make_table(columns, rows, list(findings)))
    return 0


def _up(notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    _expect(words, 0, "up")
    status = notebook.session.lab().json("GET", "/v1/status")
    surface.out(f"labkit is up ({status['mode']}, pid {status['pid']}).\n")
    return 0


def _down(_notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    _expect(words, 0, "down")
    from labkit.base.paths import LabPaths
    from labkit.notebook.lifecycle import take_down

    stopped = take_down(LabPaths.from_environment())
    surface.out("labkit is down.\n" if stopped else "labkit was not running.\n")
    return 0


def _reset(_notebook: Notebook, words: list[str], surface: NotebookSurface) -> int:
    from labkit.base.paths import LabPaths
    from labkit.notebook.lifecycle import reset, take_down

    paths = LabPaths.from_environment()
    if words not in ([], ["-f"], ["--force"]):
        raise InvalidParameter(
            f"%lab reset: cannot read '{' '.join(words)}'", hint="%lab reset --help"
        )
    if not words:
        question = (
            f"This removes every container, image and volume of the lab in {paths.home}.\n"
            "Are you sure you want to continue? [y/N] "
        )
        if surface.ask(question, flag="%lab reset --force").strip().lower() not in ("y", "yes"):
            surface.out("Nothing was removed.\n")
            return 1
    take_down(paths, remove_data=True)
    reset(paths)
    surface.out(f"Removed {paths.home}.\n")
    return 0


def _later(_notebook: Notebook, _words: list[str], _surface: NotebookSurface) -> int:
    raise Unsupported(
        "saving and restoring a lab is not there yet",
        hint="images and containers stay in the lab by themselves, also over `labkit down`",
    )


SUBCOMMANDS: dict[str, Subcommand] = {
    "status": Subcommand("status", "Mode, limits, images, sockets, warnings", _status),
    "nodes": Subcommand("nodes [COMMAND]", "Simulated hosts: add, rm, stop, …", _cluster("nodes")),
    "chaos": Subcommand("chaos [ACTION]", "Break the cluster on purpose", _cluster("chaos")),
    "raft": Subcommand("raft", "What each manager of the swarm believes", _cluster("raft")),
    "clock": Subcommand("clock [docker|fast]", "Swarm's timings, or a lesson's", _cluster("clock")),
    "view": Subcommand(
        "view NAME [WORDS]", "Draw live state: namespaces, lifecycle, events…", _view
    ),
    "verdict": Subcommand(
        "verdict CONTAINER CALL [ARG…]", "What its seccomp filter does with a system call", _verdict
    ),
    "jobs": Subcommand("jobs [stop NUMBER|all]", "Commands in the background", _jobs),
    "chapter": Subcommand("chapter NN", "Begin a chapter: mark what it makes", chapter.enter),
    "leave": Subcommand("leave [NN]", "End a chapter: remove exactly what it made", chapter.leave),
    "open": Subcommand(
        "open [NAME[:PORT]]", "A container's port in the browser; or the lab from a terminal", _open
    ),
    "logs": Subcommand("logs [LINES]", "The end of the daemon's log", _logs),
    "doctor": Subcommand("doctor", "What this machine offers, lacks, and what to do", _doctor),
    "up": Subcommand("up", "Start the daemon (it starts by itself as well)", _up),
    "down": Subcommand("down", "Stop every container and the daemon", _down),
    "reset": Subcommand("reset [--force]", "Remove everything the lab has made", _reset),
    "save": Subcommand("save", "Keep the lab's state in a file (comes later)", _later),
    "restore": Subcommand("restore", "Take the lab's state from a file (comes later)", _later),
}

"""`labkit …` in a terminal.

Imports stay bare: `labkit docker ps` should cost little more than Python's own start (peers.md: a
Python command line pays 55 to 130 ms before its first line, most of it imports). Each command
therefore imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from labkit.base.paths import LabPaths

__all__ = ["COMMANDS", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status is returned, errors go to stderr in one sentence."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print_help()
        return 0
    if arguments[0] in ("-v", "--version", "version"):
        from labkit import __version__

        print(f"labkit {__version__}")
        return 0
    command = COMMANDS.get(arguments[0])
    if command is None:
        print(
            f"labkit: '{arguments[0]}' is not a labkit command.\nSee 'labkit --help'",
            file=sys.stderr,
        )
        return 1
    try:
        return command[1](arguments[1:])
    except LabkitError as error:
        print(f"labkit: {error}", file=sys.stderr)
        if error.hint:
            print(f"  next: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away (`labkit docker ps | head`); the interpreter must not complain too.
        sys.stdout = None
        return 141


def _print_help() -> None:
    print("Usage:  labkit COMMAND\n\nA teaching lab in which the containers are real.\n\nCommands:")
    width = max(map(len, COMMANDS))
    for name, (help_line, _) in COMMANDS.items():
        print(f"  {name:<{width}}   {help_line}")
    print("\nRun 'labkit COMMAND --help' for more information on a command.")


def _parser(name: str, description: str) -> ArgumentParser:
    from argparse import ArgumentParser

    return ArgumentParser(prog=f"labkit {name}", description=description)


def _paths() -> LabPaths:
    from labkit.base.paths import LabPaths

    return LabPaths.from_environment()


def _lab_client(paths: LabPaths) -> Any:
    from labkit.notebook.client import LabClient

    return LabClient(f"unix://{paths.lab_socket}")


def _status(paths: LabPaths) -> dict[str, Any]:
    found: dict[str, Any] = _lab_client(paths).json("GET", "/v1/status")
    return found


def _up(argv: Sequence[str]) -> int:
    parser = _parser("up", "Start the lab's daemon (other commands do it on demand).")
    parser.add_argument(
        "--group", help="as root: let this group use the Docker socket (this equals root)"
    )
    parser.add_argument(
        "--mode", choices=("rootful", "rootless", "hollow"), help="instead of what the probe finds"
    )
    parser.add_argument(
        "--publish-on",
        metavar="ADDRESS",
        help="let published ports answer on this address of the machine too (0.0.0.0: on all)",
    )
    parser.add_argument(
        "--offline", action="store_true", help="simulate an outside, also where there is a real one"
    )
    options = parser.parse_args(argv)
    import os

    if options.publish_on:
        import ipaddress

        try:
            ipaddress.ip_address(options.publish_on)
        except ValueError:
            parser.error(f"--publish-on {options.publish_on}: this is no IP address")
        os.environ["LABKIT_PUBLISH_ON"] = options.publish_on
    if options.offline:
        os.environ["LABKIT_OFFLINE"] = "1"
    words = {"group": options.group, "mode": options.mode}
    extra = [f"--{key}={value}" for key, value in words.items() if value]
    from labkit.notebook.client import ensure_daemon

    paths = ensure_daemon(_paths(), options=extra)
    status = _status(paths)
    print(f"labkit is up ({status['mode']}, pid {status['pid']}).")
    for warning in status.get("warnings", ()):
        print(f"  note: {warning}")
    print('To use it from this shell:  eval "$(labkit env)"')
    return 0


def _down(argv: Sequence[str]) -> int:
    _parser("down", "Stop every container and the daemon; nothing keeps running.").parse_args(argv)
    from labkit.notebook.lifecycle import take_down

    print("labkit is down." if take_down(_paths()) else "labkit was not running.")
    return 0


def _reset(argv: Sequence[str]) -> int:
    parser = _parser("reset", "`labkit down`, then remove everything under LABKIT_HOME.")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    options = parser.parse_args(argv)
    paths = _paths()
    if not options.force:
        if not sys.stdin.isatty():
            raise CommandError(
                "reset removes every container, image and volume of this lab; nothing was removed",
                hint="say so: labkit reset --force",
            )
        question = f"Remove everything under {paths.home}? [y/N] "
        if input(question).strip().lower() not in ("y", "yes"):
            return 1
    from labkit.notebook.lifecycle import reset, take_down

    take_down(paths, remove_data=True)
    reset(paths)
    print(f"Removed {paths.home}.")
    return 0


def _show_status(argv: Sequence[str]) -> int:
    parser = _parser("status", "What runs, in which mode, and where its sockets are.")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(argv)
    from labkit.notebook.client import is_daemon_running

    paths = _paths()
    running = is_daemon_running(paths)
    status: dict[str, Any] = (
        _status(paths) if running else {"running": False, "home": str(paths.home)}
    )
    status.setdefault("running", running)
    if options.json:
        import json

        print(json.dumps(status, indent=2, sort_keys=True))
        return 0 if running else 1
    if not running:
        print(f"labkit is not running (home {paths.home}). Start it with: labkit up")
        return 1
    from labkit import __version__

    print(f"labkit {__version__} is running: {status['mode']}, pid {status['pid']}")
    print(f"  home           {status['home']}")
    for node in status["nodes"]:
        print(f"  {node['name']:<13}  unix://{node['docker_socket']}")
    for warning in status.get("warnings", ()):
        print(f"  note: {warning}")
    for limit in status.get("limits", ()):
        if not limit["holds"]:
            print(f"  note: no {limit['name']} limits: {limit['why']}")
    return 0


def _doctor(argv: Sequence[str]) -> int:
    parser = _parser("doctor", "What this machine offers, what is missing, and what to do.")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(argv)
    from labkit.notebook.client import ensure_daemon

    findings = _lab_client(ensure_daemon(_paths())).json("GET", "/v1/doctor")
    if options.json:
        import json

        print(json.dumps(findings, indent=2))
    else:
        for finding in findings:
            print(f"{'ok ' if finding['ok'] else 'NO '} {finding['name']}: {finding['found']}")
            if not finding["ok"]:
                print(f"      means: {finding['meaning']}")
                if finding["fix"]:
                    print(f"      fix:   {finding['fix']}")
    return 0 if all(f["ok"] or not f.get("required") for f in findings) else 1


def _env(argv: Sequence[str]) -> int:
    parser = _parser("env", 'Shell lines that point docker at the lab: eval "$(labkit env)"')
    parser.add_argument("--shell", choices=("sh", "fish"), default="sh")
    parser.add_argument("--node", help="a simulated node (`labkit nodes`) instead of the lab host")
    options = parser.parse_args(argv)
    import shlex

    paths = _paths()
    docker_socket = _node_socket(paths, options.node) if options.node else paths.docker_socket
    values = {"DOCKER_HOST": f"unix://{docker_socket}", "KUBECONFIG": str(paths.kubeconfig)}
    for name, value in values.items():
        if options.shell == "fish":
            print(f"set -gx {name} {shlex.quote(value)};")
        else:
            print(f"export {name}={shlex.quote(value)}")
    again = f"labkit env --node {options.node}" if options.node else "labkit env"
    again = f"{again} | source" if options.shell == "fish" else f'eval "$({again})"'
    print(f"# Run this to point your shell at the lab:\n# {again}")
    return 0


def _node_socket(paths: LabPaths, name: str) -> str:
    from labkit.notebook.client import ensure_daemon

    nodes = _lab_client(ensure_daemon(paths)).json("GET", "/v1/nodes")
    found = next((node for node in nodes if node["name"] == name), None)
    if found is None:
        names = ", ".join(node["name"] for node in nodes[:5])
        raise CommandError(f"there is no node '{name}'", hint=f"nodes: {names}")
    if not found["docker_socket"]:
        raise CommandError(f"node '{name}' is hollow: it has no engine", hint="labkit nodes add")
    return str(found["docker_socket"])


def _cluster(group: str) -> Callable[[Sequence[str]], int]:
    def command(argv: Sequence[str]) -> int:
        from labkit.notebook.commands.cluster import run_in_terminal

        return run_in_terminal(group, argv)

    return command


def _docker(argv: Sequence[str]) -> int:
    from pathlib import Path

    from labkit.notebook.client import Client, ensure_daemon
    from labkit.notebook.commands.docker import main as docker
    from labkit.notebook.commands.terminal import TerminalSurface

    client = Client.from_environment()
    if client.is_local_lab:
        ensure_daemon(_paths())
    return docker(argv, client=client, surface=TerminalSurface(), cwd=Path.cwd())


def _host(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print("Usage:  labkit host COMMAND [ARG...]\n\nRun a command on the lab host.")
        return 0 if argv else 1
    from labkit.notebook.client import ensure_daemon
    from labkit.notebook.lifecycle import run_on_host

    return run_on_host(ensure_daemon(_paths()), argv)


def _lab(argv: Sequence[str]) -> int:
    from labkit.notebook.lifecycle import open_lab

    return open_lab(_paths(), argv)


def _course(argv: Sequence[str]) -> int:
    _parser("course", "List the chapters and their exercises.").parse_args(argv)
    from labkit.notebook.course.index import chapters
    from labkit.notebook.lifecycle import course_folder

    folder = course_folder()
    for chapter in chapters(folder):
        print(f"{chapter.title}\n    {chapter.question}")
        print(f"    {chapter.notebook.relative_to(folder)}")
        if chapter.exercise is not None:
            print(f"    {chapter.exercise.relative_to(folder)}")
    return 0


def _grade(argv: Sequence[str]) -> int:
    from labkit.notebook.grading.cli import main as grade

    return grade(argv)


def _images(argv: Sequence[str]) -> int:
    from labkit.notebook.imagesets import main as images

    return images(argv, _paths())


def _logs(argv: Sequence[str]) -> int:
    from labkit.notebook.daemonlog import main as logs

    return logs(list(argv), _paths())


def _view(argv: Sequence[str]) -> int:
    parser = _parser("view", "Write the static twin of a view: an SVG file, or text.")
    parser.add_argument("name", help="namespaces, lifecycle, events, …")
    parser.add_argument("words", nargs="*", help="what the view is of, where it needs that")
    parser.add_argument("-o", "--output", help="an .svg or .txt file; without it, text on stdout")
    options = parser.parse_args(argv)
    from labkit.notebook.client import ensure_daemon
    from labkit.notebook.widgets import VIEWS, render_static

    if options.name not in VIEWS:
        raise CommandError(f"no view named '{options.name}'", hint=f"one of: {', '.join(VIEWS)}")
    lab = _lab_client(ensure_daemon(_paths()))
    svg, text = render_static(options.name, lab, options.words)
    if options.output is None:
        print(text)
    else:
        from pathlib import Path

        Path(options.output).write_text(
            text if options.output.endswith(".txt") else svg, encoding="utf-8"
        )
    return 0


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "lab": ("Open JupyterLab on the course", _lab),
    "up": ("Start the daemon", _up),
    "down": ("Stop every container and the daemon", _down),
    "status": ("Show what runs and where", _show_status),
    "reset": ("Remove everything the lab has made", _reset),
    "doctor": ("Explain what this machine offers and lacks", _doctor),
    "env": ("Print shell lines that point docker at the lab", _env),
    "docker": ("Docker's command line, on the lab", _docker),
    "logs": ("Show the daemon's log", _logs),
    "host": ("Run a command on the lab host", _host),
    "images": ("Verify, carry and list the course's images", _images),
    "nodes": ("Simulated hosts beside the lab host", _cluster("nodes")),
    "swarm": ("A cluster of managers and workers", _cluster("swarm")),
    "chaos": ("Break the cluster on purpose", _cluster("chaos")),
    "raft": ("What each manager believes", _cluster("raft")),
    "clock": ("Docker's timings for the cluster, or a lesson's", _cluster("clock")),
    "view": ("Write a view as SVG or text", _view),
    "course": ("List the chapters", _course),
    "grade": ("Grade a class of notebooks", _grade),
}

if __name__ == "__main__":
    sys.exit(main())

"""Which command lines need somebody who types: those that join a container's terminal to ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker import COMMANDS
from labkit.notebook.commands.docker.session import parse_detach_keys
from labkit.notebook.commands.flags import FlagError, FlagHelp, Flags, parse_flags
from labkit.notebook.commands.tree import Command

if TYPE_CHECKING:
    from labkit.notebook.client import Client

__all__ = ["detach_keys"]


def detach_keys(argv: Sequence[str], client: Client) -> bytes | None:
    """The keys that leave the session which `docker ARGV` would open; None where it opens none.

    A line that is wrong opens none: carrying it out says what is wrong with it. `attach` and
    `start` depend on the container, which is asked for.
    """
    try:
        options, words = parse_flags(COMMANDS.option_table, argv, interspersed=False)
        _, command, rest = COMMANDS.find(words)
        if not isinstance(command, Command):
            return None
        flags, operands = parse_flags(command.table, rest, interspersed=command.interspersed)
        if options["host"] or options["context"]:
            client = _other(options)
        if operands and _wants(command.path, flags, operands, client):
            return parse_detach_keys(flags["detach-keys"])
    except (FlagError, FlagHelp, CommandError, LabkitError, OSError):
        return None
    return None


def _other(options: Flags) -> Client:
    from labkit.notebook.client import Client

    host = options["host"][-1] if options["host"] else None
    return Client.from_environment(host=host, context=options["context"] or None)


def _wants(path: str, flags: Flags, operands: Sequence[str], client: Client) -> bool:
    if path == "container run":
        stdin = "stdin" in [one.lower() for one in flags["attach"]] or (
            flags["interactive"] and not flags["attach"]
        )
        return bool(flags["tty"] and stdin and not flags["detach"])
    if path == "container exec":
        return bool(flags["tty"] and flags["interactive"] and not flags["detach"])
    if path == "container attach":
        return not flags["no-stdin"] and _has_keyboard(operands[0], client, running=True)
    if path == "container start":
        return bool(flags["interactive"]) and _has_keyboard(operands[0], client, running=False)
    return False


def _has_keyboard(name: str, client: Client, *, running: bool) -> bool:
    found: dict[str, Any] = client.request("GET", f"/containers/{name}/json").json()
    config = found["Config"]
    return bool(
        config.get("Tty")
        and config.get("OpenStdin")
        and (found["State"].get("Running") or not running)
    )

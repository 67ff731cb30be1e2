"""`exec`: another process in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.apierrors import ApiError
from labkit.notebook.commands.docker.create_options import read_environment
from labkit.notebook.commands.docker.session import (
    LEAVING,
    Detached,
    check_terminal,
    not_upgraded,
    parse_detach_keys,
    pump,
    raw_terminal,
)

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["execute"]


def execute(call: Call) -> int:
    """Run a command in a running container; ends with its exit code."""
    flags, client, surface = call.flags, call.client, call.surface
    name, argv = call.args[0], call.args[1:]
    detach, tty, interactive = flags["detach"], flags["tty"], flags["interactive"]
    size = getattr(surface, "terminal_size", None)
    console = list(size()) if tty and size is not None else None
    body: dict[str, Any] = {
        "User": flags["user"],
        "Privileged": flags["privileged"],
        "Tty": tty,
        "AttachStdin": bool(interactive and not detach),
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "DetachKeys": flags["detach-keys"],
        "Env": read_environment(flags["env-file"], flags["env"], call.cwd) or None,
        "WorkingDir": flags["workdir"],
        "Cmd": argv,
        "Detach": detach,
    }
    if console:
        body["ConsoleSize"] = console
    # Docker's client asks for the container first, so that a missing one is told from a bad exec.
    client.request("GET", f"/containers/{name}/json")
    if not detach:
        check_terminal(surface, stdin=interactive, tty=tty)
    identifier = client.request("POST", f"/containers/{name}/exec", json=body).json()["Id"]
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if console:
        start["ConsoleSize"] = console
    if detach:
        client.request("POST", f"/exec/{identifier}/start", json=start)
        return 0
    try:
        stream = client.hijack(f"/exec/{identifier}/start", json=start)
    except ApiError as error:
        raise not_upgraded(error) from None
    keys = parse_detach_keys(flags["detach-keys"]) if tty else b""
    stdin = surface.stdin if interactive else None
    try:
        if tty:
            with raw_terminal(surface, client, f"/exec/{identifier}"):
                pump(stream, surface, tty=True, stdin=stdin, detach_keys=keys)
        else:
            if interactive and stdin is None:
                stream.close_stdin()
            pump(stream, surface, tty=False, stdin=stdin)
    except Detached:
        raise CommandError(LEAVING) from None
    state = client.request("GET", f"/exec/{identifier}/json").json()
    return int(state.get("ExitCode") or 0)

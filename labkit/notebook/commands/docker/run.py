"""`run`, `create`, `start`, `attach`, `exec`: everything that may hold a session open."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, BinaryIO

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.apierrors import ApiError, ConnectFailed
from labkit.notebook.commands.docker.create_options import create_body
from labkit.notebook.commands.docker.images import pull_image
from labkit.notebook.commands.docker.reference import check_platform, parse_image_name
from labkit.notebook.commands.docker.session import (
    LEAVING,
    Detached,
    check_terminal,
    forward_signals,
    not_upgraded,
    parse_detach_keys,
    proxy_interrupts,
    pump,
    raw_terminal,
)

if TYPE_CHECKING:
    from labkit.notebook.client import HijackedStream, StreamResponse
    from labkit.notebook.commands.tree import Call

__all__ = ["attach", "create", "run", "start"]

# Warnings that this process has shown. A terminal repeats them, as Docker's client does; in a
# notebook the tenth red "WARNING" above the same sentence teaches not to read red lines.
_said: set[str] = set()


def _run_failure(call: Call, error: LabkitError, code: int = 125) -> CommandError:
    """`docker: …` and the pointer to help, as `run` ends when it fails itself."""
    text = getattr(error, "sentence", error.message)
    return CommandError(
        f"docker: {text}\n\nRun '{call.name} --help' for more information", code, hint=error.hint
    )


def _start_code(message: str) -> int:
    """The exit code that the text of a failed start stands for."""
    lowered = message.lower()
    if any(
        x in lowered
        for x in (
            "executable file not found",
            "no such file or directory",
            "system cannot find the file",
        )
    ):
        return 127
    if "permission denied" in lowered or "is a directory" in lowered:
        return 126
    return 125


# -- create --------------------------------------------------------------------------------


def _check_pull(call: Call) -> None:
    policy = call.flags["pull"]
    if policy not in ("always", "missing", "never"):
        raise CommandError(
            f'invalid pull option: \'{policy}\': must be one of "always", "missing" or "never"'
        )


def _create(call: Call, body: dict[str, Any]) -> str:
    """Create the container, pulling its image where that is missing; returns its id."""
    flags, client, surface = call.flags, call.client, call.surface
    policy = flags["pull"]
    cidfile = _open_cidfile(call)
    image = body["Image"]
    if not all(c in "0123456789abcdef" for c in image) or len(image) != 64:
        parse_image_name(image)
    if policy == "always":
        _pull_for_run(call, image)
    if flags["platform"]:
        check_platform(flags["platform"])
    query = {"name": flags["name"] or None, "platform": flags["platform"] or None}
    try:
        answer = client.request("POST", "/containers/create", query=query, json=body).json()
    except ApiError as error:
        # The client takes every 404 for a missing image, also that of a missing --volumes-from.
        if policy != "missing" or error.status != 404:
            raise
        if not flags["quiet"]:
            surface.err(f"Unable to find image '{parse_image_name(image).shown()}' locally\n")
        _pull_for_run(call, image)
        answer = client.request("POST", "/containers/create", query=query, json=body).json()
    for warning in answer.get("Warnings") or ():
        if surface.is_terminal or warning not in _said:
            surface.err(f"WARNING: {warning}\n")
            _said.add(warning)
    identifier = str(answer["Id"])
    if cidfile is not None:
        cidfile.write(identifier.encode())
        cidfile.close()
    return identifier


def _open_cidfile(call: Call) -> BinaryIO | None:
    name = call.flags["cidfile"]
    if not name:
        return None
    try:
        return open(call.cwd / name, "xb")
    except FileExistsError:
        raise CommandError(
            f"container ID file found, make sure the other container isn't running or delete {name}"
        ) from None
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise CommandError(
            f"failed to create the container ID file: open {name}: {reason}"
        ) from None


def _pull_for_run(call: Call, image: str) -> None:
    pull_image(
        call.client,
        call.surface,
        parse_image_name(image),
        platform=call.flags["platform"],
        quiet=call.flags["quiet"],
        to_stderr=True,
    )


def create(call: Call) -> None:
    """Create a container without starting it."""
    try:
        _check_pull(call)
        body = create_body(call.flags, call.args, call.cwd)
    except CommandError as error:
        raise _run_failure(call, error) from None
    call.surface.out(_create(call, body) + "\n")


# -- run -----------------------------------------------------------------------------------


def run(call: Call) -> int:
    """Create, attach, start, show output, and end with the container's exit code."""
    try:
        return _run(call)
    except (ApiError, ConnectFailed) as error:
        raise _run_failure(call, error) from None


def _run(call: Call) -> int:
    flags = call.flags
    try:
        _check_pull(call)
        body = create_body(flags, call.args, call.cwd)
    except CommandError as error:
        raise _run_failure(call, error) from None
    if flags["detach"]:
        if flags["attach"]:
            raise CommandError("conflicting options: cannot specify both --attach and --detach")
        body |= {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False}
        body["StdinOnce"] = False
    else:
        check_terminal(call.surface, stdin=body["AttachStdin"], tty=body["Tty"])
    size = getattr(call.surface, "terminal_size", None)
    if body["Tty"] and size is not None:
        body["HostConfig"]["ConsoleSize"] = list(size())
    try:
        container = _create(call, body)
    except CommandError as error:
        raise _run_failure(call, error) from None
    if flags["detach"]:
        _start_or_explain(call, container, None)
        call.surface.out(container + "\n")
        return 0
    stream = _attach_to(call, container, body, flags["detach-keys"])
    condition = "removed" if flags["rm"] else "next-exit"
    waiting = _wait(call, container, condition)
    try:
        _start_or_explain(call, container, waiting)
    except BaseException:
        stream.close()
        waiting.close()
        raise
    with waiting:
        keys = parse_detach_keys(flags["detach-keys"]) if body["Tty"] else b""
        return _follow(call, container, body, stream, waiting, keys)


def _follow(
    call: Call,
    container: str,
    body: dict[str, Any],
    stream: HijackedStream,
    waiting: StreamResponse,
    keys: bytes,
) -> int:
    tty = body["Tty"]
    stdin = call.surface.stdin if body["AttachStdin"] else None
    interrupt = None
    if call.flags.get("sig-proxy", True) and not tty:
        interrupt = proxy_interrupts(call.client, container, call.surface)
    try:
        if tty:
            with raw_terminal(call.surface, call.client, f"/containers/{container}"):
                pump(stream, call.surface, tty=True, stdin=stdin, detach_keys=keys)
        else:
            if stdin is None and body["AttachStdin"]:
                stream.close_stdin()  # nothing will come: the container reads end of file
            with (
                forward_signals(call.client, container, call.surface)
                if interrupt is not None
                else contextlib.nullcontext()
            ):
                pump(stream, call.surface, tty=False, stdin=stdin, interrupt=interrupt)
    except Detached:
        if tty and call.command.path == "container attach":
            raise CommandError(LEAVING) from None
        return 0 if tty else 130
    return _exit_code(waiting)


def _attach_to(
    call: Call, container: str, body: dict[str, Any], detach_keys: str, *, logs: bool = False
) -> HijackedStream:
    query = {
        "stream": True,
        "stdin": body["AttachStdin"],
        "stdout": body["AttachStdout"],
        "stderr": body["AttachStderr"],
        "logs": logs,
        "detachKeys": detach_keys or None,
    }
    try:
        return call.client.hijack(f"/containers/{container}/attach", query=query)
    except ApiError as error:
        raise not_upgraded(error) from None


def _wait(call: Call, container: str, condition: str) -> StreamResponse:
    return call.client.open("POST", f"/containers/{container}/wait", query={"condition": condition})


def _start_or_explain(call: Call, container: str, waiting: StreamResponse | None) -> None:
    try:
        call.client.request("POST", f"/containers/{container}/start")
    except ApiError as error:
        if waiting is not None and call.flags["rm"]:
            _exit_code(waiting)  # the engine removes it; end when that is done
        raise _run_failure(call, error, _start_code(error.message)) from None


def _exit_code(waiting: StreamResponse) -> int:
    """The code of a finished wait; raises CommandError when waiting itself failed."""
    for answer in waiting.json_lines():
        error = (answer.get("Error") or {}).get("Message")
        if error:
            raise CommandError(f"Error waiting for container: {error}", 125)
        return int(answer["StatusCode"])
    return 125


# -- start and attach ----------------------------------------------------------------------


def start(call: Call) -> int:
    """Start containers, or one of them attached."""
    if call.flags["attach"] or call.flags["interactive"]:
        if len(call.args) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _start_attached(call, call.args[0])
    failed = []
    for name in call.args:
        try:
            call.client.request("POST", f"/containers/{name}/start", query=_start_query(call))
        except (ApiError, ConnectFailed) as error:
            call.surface.err(getattr(error, "sentence", error.message) + "\n")
            failed.append(name)
            continue
        call.surface.out(name + "\n")
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_query(call: Call) -> dict[str, Any]:
    return {
        "checkpoint": call.flags.get("checkpoint") or None,
        "checkpoint-dir": call.flags.get("checkpoint-dir") or None,
    }


def _start_attached(call: Call, name: str) -> int:
    found = call.client.request("GET", f"/containers/{name}/json").json()
    container, config = found["Id"], found["Config"]
    stdin = bool(call.flags["interactive"] and config.get("OpenStdin"))
    body = {
        "AttachStdin": stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": bool(config.get("Tty")),
    }
    stream = _attach_to(call, container, body, call.flags["detach-keys"])
    removes_itself = (found.get("HostConfig") or {}).get("AutoRemove")
    with _wait(call, container, "removed" if removes_itself else "next-exit") as waiting:
        try:
            call.client.request("POST", f"/containers/{container}/start")
        except BaseException:
            stream.close()
            raise
        keys = parse_detach_keys(call.flags["detach-keys"])
        return _follow(call, container, body, stream, waiting, keys)


def attach(call: Call) -> int:
    """Attach to a running container."""
    name, flags = call.args[0], call.flags
    found = call.client.request("GET", f"/containers/{name}/json").json()
    state = found["State"]
    for key, sentence in (
        ("Running", "You cannot attach to a stopped container, start it first"),
        ("Paused", "You cannot attach to a paused container, unpause it first"),
        ("Restarting", "You cannot attach to a restarting container, wait until it is running"),
    ):
        if bool(state.get(key)) == (key != "Running"):
            raise CommandError(sentence)
    container, config = found["Id"], found["Config"]
    stdin = bool(not flags["no-stdin"] and config.get("OpenStdin"))
    tty = bool(config.get("Tty"))
    check_terminal(call.surface, stdin=not flags["no-stdin"], tty=tty)
    body = {"AttachStdin": stdin, "AttachStdout": True, "AttachStderr": True, "Tty": tty}
    with call.client.open("POST", f"/containers/{container}/wait") as waiting:
        stream = _attach_to(call, container, body, flags["detach-keys"])
        size = getattr(call.surface, "terminal_size", None)
        rows, columns = size() if tty and size is not None else (0, 0)
        if rows and columns:
            # Another size for a moment makes the program inside draw its screen again.
            query = {"h": rows + 1, "w": columns + 1}
            call.client.request("POST", f"/containers/{container}/resize", query=query)
        keys = parse_detach_keys(flags["detach-keys"])
        return _follow(call, container, body, stream, waiting, keys)

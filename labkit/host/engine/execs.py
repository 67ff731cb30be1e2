"""Further processes in a running container: create, start, inspect, resize."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound
from labkit.base.ids import new_id
from labkit.host.engine import sessions, specs
from labkit.host.engine.container import Container
from labkit.host.engine.execmodel import FOLDER_PREFIX, Exec, ExecConfig, ExecStart, folder_name
from labkit.host.engine.ports import ExitLike, ShimPort
from labkit.host.engine.runtimes import runtime_of
from labkit.host.engine.sessions import Attachment
from labkit.host.engine.starting import exit_code_of_failure, root_of
from labkit.host.engine.wire import read
from labkit.host.isolation.spec import IoSpec

if TYPE_CHECKING:
    from pathlib import Path

    from labkit.host.engine.context import Context

__all__ = [
    "FOLDER_PREFIX",
    "Exec",
    "ExecConfig",
    "check_container",
    "create",
    "folder_name",
    "inspect",
    "launch_attached",
    "resize",
    "start",
    "take_up",
]

Json = dict[str, Any]

_FINISHED_KEPT = 50


def _find(context: Context, exec_id: str) -> Exec:
    found = context.execs.get(exec_id)
    if found is None:
        raise NotFound(f"No such exec instance: {exec_id}")
    return found


def _folder(context: Context, process: Exec) -> Path:
    return context.folder(process.container.id) / folder_name(process.id)


def check_container(container: Container, called: str = "") -> None:
    """Conflict unless the container runs; `called` is what the user called it."""
    status = container.state.status
    if status == "paused":
        raise Conflict(
            f"Container {called or container.id} is paused, unpause the container before exec",
            hint=f"`docker unpause {container.name}` first",
        )
    if status == "restarting":
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if status != "running" or container.shim is None:
        raise Conflict(
            f"container {container.id} is not running",
            hint=f"`docker start {container.name}` first",
        )


async def create(context: Context, reference: str, body: Mapping[str, Any]) -> Json:
    """POST /containers/X/exec."""
    config = read(ExecConfig, body, name="ExecOptions")
    container = context.find(reference)
    check_container(container, reference)
    if not config.cmd:
        raise InvalidParameter("no exec command specified")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            "OCI runtime exec failed: exec failed: unable to start container process: Cwd must be "
            "an absolute path"
        )
    process = Exec(new_id(), container, config)
    container.execs[process.id] = process
    context.execs[process.id] = process
    await context.container_event(container, f"exec_create: {process.words}", execID=process.id)
    return {"Id": process.id}


async def start(context: Context, exec_id: str, body: Mapping[str, Any]) -> Attachment | None:
    """POST /exec/ID/start."""
    options = read(ExecStart, body or {}, name="ExecStartOptions")
    process = _find(context, exec_id)
    container = process.container
    if process.exit_code is not None and process.started:
        raise Conflict(f"Error: Exec command {exec_id} has already run")
    if process.started:
        raise Conflict(f"Error: Exec command {exec_id} is already running")
    check_container(container)
    process.started = True
    session: Attachment | None = None
    size = options.console_size or process.config.console_size
    config = process.config
    async with container.lock:
        check_container(container)
        if options.detach:
            await _launch(context, process, size)
        else:
            _, session = await launch_attached(
                context,
                process,
                size,
                stdin=config.attach_stdin,
                stdout=config.attach_stdout or config.tty,
                stderr=config.attach_stderr and not config.tty,
            )
    await context.container_event(container, f"exec_start: {process.words}", execID=process.id)
    return session


async def _launch(context: Context, process: Exec, size: tuple[int, ...] | None) -> ShimPort:
    """Start the process and follow it; the caller holds the container's lock."""
    shim = await _start_process(context, process, size, hold=False)
    await _began(context, process, shim)
    return shim


async def launch_attached(
    context: Context,
    process: Exec,
    size: tuple[int, ...] | None,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
) -> tuple[ShimPort, Attachment]:
    """The same with a session that misses nothing: the process is held until it is connected."""
    shim = await _start_process(context, process, size, hold=True)
    session: Attachment | None = None
    try:
        session = await sessions.live(
            shim, stdin=stdin, stdout=stdout, stderr=stderr, tty=process.config.tty
        )
        await shim.release()
    except BaseException as error:
        if session is not None:
            session.leave()
        with contextlib.suppress(LabkitError, OSError):
            await shim.signal(9)
        await shim.cleanup()
        await _did_not_start(context, process, error)
        raise
    await _began(context, process, shim)
    return shim, session


async def _did_not_start(context: Context, process: Exec, error: BaseException) -> None:
    """A failure is the exec's exit code."""
    process.exit_code = (
        exit_code_of_failure(error.message) if isinstance(error, LabkitError) else 126
    )
    await asyncio.to_thread(shutil.rmtree, _folder(context, process), ignore_errors=True)


async def _start_process(
    context: Context, process: Exec, size: tuple[int, ...] | None, *, hold: bool
) -> ShimPort:
    container, config = process.container, process.config
    request = specs.ExecRequest(
        args=config.cmd or (),
        env=config.env or (),
        user=config.user,
        working_dir=config.working_dir,
        tty=config.tty,
        privileged=config.privileged,
        console_size=(size[0], size[1]) if size and len(size) == 2 and all(size) else None,
    )
    folder = _folder(context, process)
    process.began_ns = time.monotonic_ns()
    try:
        root = await root_of(context, container)
        spec = await specs.exec_process(container, root, request)
        await asyncio.to_thread(folder.mkdir, 0o700)
        return await runtime_of(context, container.host.runtime).exec(
            container.shim,
            spec,
            IoSpec(open_stdin=config.attach_stdin, stdin_once=config.attach_stdin),
            folder,
            hold=hold,
        )
    except BaseException as error:
        await _did_not_start(context, process, error)
        raise


async def _began(context: Context, process: Exec, shim: ShimPort) -> None:
    container = process.container
    process.shim, process.pid, process.running = shim, shim.init_pid, True
    process.started_at_ns = shim.started_at_ns or time.time_ns()
    await context.records.write(
        (
            "INSERT INTO execs(id, container, body) VALUES (?, ?, ?)",
            (process.id, container.id, json.dumps(_stored(process))),
        )
    )
    context.keep_timeline(process.id, _timeline(process, shim, process.began_ns))
    context.spawn(_watch(context, process, shim), f"exec in {container.name}")


def _stored(process: Exec) -> Json:
    return {
        "id": process.id,
        "container": process.container.id,
        "config": asdict(process.config),
        "pid": process.pid,
        "started_at_ns": process.started_at_ns,
    }


async def _watch(context: Context, process: Exec, shim: ShimPort) -> None:
    try:
        await _finish(context, process, await shim.wait())
        await shim.cleanup()
    except asyncio.CancelledError:
        # The engine closes; the next one finds the shim, or its exit status, by its folder.
        shim.detach()
        raise
    await asyncio.to_thread(shutil.rmtree, _folder(context, process), ignore_errors=True)


async def _finish(context: Context, process: Exec, status: ExitLike) -> None:
    """The process has ended: its exit code is kept for `inspect` while the container runs."""
    process.exit_code, process.running, process.pid = status.code, False, 0
    process.shim = None
    _forget_old(context, process.container)
    event = context.events.make(
        "container",
        "exec_die",
        process.container.id,
        process.container.attributes(execID=process.id, exitCode=str(status.code)),
    )
    await context.records.write(
        ("DELETE FROM execs WHERE id = ?", (process.id,)), context.events.write_of(event)
    )
    context.events.publish(event)


def _forget_old(context: Context, container: Container) -> None:
    """A health probe every second must not fill the memory with finished execs."""
    finished = [item for item in container.execs.values() if item.exit_code is not None]
    for item in finished[:-_FINISHED_KEPT]:
        container.execs.pop(item.id, None)
        context.execs.pop(item.id, None)


async def take_up(context: Context, stored: Mapping[str, Any]) -> None:
    """After a restart of the engine: follow a process that was running before."""
    container = context.containers.get(stored["container"])
    if container is None:
        return
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored["config"].items()
    }
    config = ExecConfig(**values)
    process = Exec(stored["id"], container, config, started=True)
    process.started_at_ns = stored["started_at_ns"]
    container.execs[process.id] = process
    context.execs[process.id] = process
    folder = _folder(context, process)
    found = await context.ports.runtime.recover(folder)
    if isinstance(found, ExitLike):
        await _finish(context, process, found)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return
    process.shim, process.pid, process.running = found, found.init_pid, True
    context.spawn(_watch(context, process, found), f"exec in {container.name}")


async def inspect(context: Context, exec_id: str) -> Json:
    """GET /exec/ID/json."""
    process = _find(context, exec_id)
    config = process.config
    argv = config.cmd or ("",)
    return {
        "ID": process.id,
        "Running": process.running,
        "ExitCode": process.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": argv[0],
            "arguments": list(argv[1:]),
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": process.container.id,
        "DetachKeys": config.detach_keys,
        "Pid": process.pid,
    }


async def resize(context: Context, exec_id: str, *, rows: int, columns: int) -> None:
    """POST /exec/ID/resize."""
    process = _find(context, exec_id)
    if process.shim is None:
        raise Conflict(f"cannot resize exec {exec_id}: it is not running")
    await process.shim.resize(rows, columns)


def _timeline(process: Exec, shim: ShimPort, began_ns: int) -> Json:
    from labkit.host.engine.starting import timeline_of

    found = timeline_of(process.container, shim, began_ns)
    found["argv"] = list(process.config.cmd or ())
    found["processes"] = [
        {"role": "shim", "pid": shim.pid},
        {"role": "exec", "pid": shim.init_pid},
    ]
    return found

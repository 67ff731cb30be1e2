"""`exec`: further processes in a container, and the hooks that run there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter, StartFailure, SystemFailure
from labkit.host.isolation.oci.bundle import process_from
from labkit.host.isolation.oci.groups import group_of
from labkit.host.isolation.oci.launch import Launch, Launched
from labkit.host.isolation.oci.records import CREATED, PAUSED, STOPPED, Record
from labkit.host.isolation.spec import ProcessSpec

__all__ = ["await_end", "check_runs", "launch_inside", "read_process", "run_inside"]


def check_runs(record: Record, *, ignore_paused: bool = False) -> None:
    """Raises Conflict, in runc's words, where no further process can be started."""
    status = record.status()
    if status == STOPPED:
        raise Conflict("cannot exec in a stopped container")
    if status == PAUSED and not ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)")


def launch_inside(
    record: Record,
    process: ProcessSpec,
    *,
    keep: int = 0,
    stdio: Sequence[int] = (0, 1, 2),
) -> Launched:
    """Start a process in the container's namespaces and group."""
    pid = record.pid
    if not pid:
        raise Conflict("cannot exec in a stopped container")
    return Launch(
        folder=_scratch(record),
        name=record.name,
        process=process,
        group=group_of(record.name, record.data.get("groups") or {}),
        target=pid,
        keep=keep,
        stdio=stdio,
    ).run()


def _scratch(record: Record) -> str:
    """A folder for the measured steps of an exec, beside the container's own."""
    folder = f"{record.folder}/exec"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def read_process(path: str) -> Mapping[str, Any]:
    """The JSON that `exec --process` names. Raises InvalidParameter."""
    try:
        with open(path, "rb") as file:
            data = json.loads(file.read())
    except OSError as error:
        raise InvalidParameter(f"open {path}: {(error.strerror or '').lower()}") from error
    except ValueError as error:
        raise InvalidParameter(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise InvalidParameter(f"{path} is not a JSON object")
    return data


def run_inside(
    record: Record, config: Mapping[str, Any], hooks: Sequence[Mapping[str, Any]]
) -> None:
    """startContainer hooks: programs of the container's own, with its rights and no more.

    Raises SystemFailure at the first that fails.
    """
    import tempfile

    from labkit.host.isolation.oci.foreground import become_subreaper

    become_subreaper()
    linux = config.get("linux") or {}
    base = process_from(config["process"], linux)
    state = json.dumps(record.state(CREATED)).encode()
    for number, hook in enumerate(hooks):
        failed = f"error running hook #{number}: error running startContainer hook"
        args = [str(word) for word in hook.get("args") or (hook["path"],)]
        process = replace(
            base,
            args=(str(hook["path"]), *args[1:]),
            env=tuple(str(each) for each in hook.get("env") or ()),
            tty=False,
            cwd="/",
        )
        with tempfile.TemporaryFile() as text, tempfile.TemporaryFile() as output:
            text.write(state)
            text.seek(0)
            stdio = (text.fileno(), output.fileno(), output.fileno())
            try:
                launched = launch_inside(record, process, stdio=stdio)
            except StartFailure as error:
                raise SystemFailure(f"{failed}: {error.message}") from error
            code = await_end(launched.pid, hook.get("timeout"))
            if code is None:
                raise SystemFailure(
                    f"{failed}: hook ran past specified timeout of {hook['timeout']}s"
                )
            if code != 0:
                output.seek(0)
                words = output.read(2000).decode("utf-8", "replace").strip()
                raise SystemFailure(f"{failed}: exit status {code}, stdout: , stderr: {words}")


def await_end(pid: int, timeout_s: float | None) -> int | None:
    """Wait for a process that fell to us; its exit code, or None (and killed) after the timeout."""
    import select
    import signal

    handle = os.pidfd_open(pid)
    try:
        ended = select.select([handle], [], [], timeout_s)[0]
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(handle)
    return os.waitstatus_to_exitcode(status) if ended else None

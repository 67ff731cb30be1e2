"""Starting the zygote and asking it for shells and sandboxes. Safe to use from many threads."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from labkit.base.errors import SystemFailure
from labkit.notebook.grading.plan import Plan
from labkit.notebook.grading.session import ShellSession

__all__ = ["Child", "Zygote"]

_START_S = 60.0
_LAB_PACKAGES = (
    "labkit.daemon",
    "labkit.notebook.client",
    "labkit.notebook.commands",
    "labkit.notebook.magics",
)


@dataclass
class Child:
    """A process the zygote forked for us. `status` tells its exit code once."""

    pid: int
    _status: socket.socket
    _zygote: Zygote
    _code: int | None = None

    def wait(self, timeout_s: float) -> int | None:
        """The exit code (negative: the signal), or None when it still runs after `timeout_s`."""
        if self._code is None:
            self._status.settimeout(timeout_s)
            try:
                data = self._status.recv(4096)
                self._code = int(json.loads(data)["exit"]) if data else -9
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                self._code = -9
        return self._code

    def kill(self) -> None:
        """End it and everything below it, and wait until it is gone."""
        if self._code is None and self.wait(0.001) is None:
            self._zygote.request({"op": "kill", "pid": self.pid}, [])
            self.wait(10)
        self._status.close()


class Zygote:
    """The warm process. Use as a context manager, or call `close`.

    With `labs` it also imports what a lab's daemon and the magics need, by name: what runs as
    `python -m labkit.daemon` is started in a fork and costs no import there.
    """

    def __init__(self, *, labs: bool = False) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = mine
        environment = {
            **os.environ,
            "OPENBLAS_NUM_THREADS": "1",  # a thread would forbid a user namespace to the forks
            "PYTHONPATH": os.pathsep.join([_package_parent(), os.environ.get("PYTHONPATH", "")]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "labkit.notebook.grading.zygote",
                str(theirs.fileno()),
                *(_LAB_PACKAGES if labs else ()),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C at the terminal must not reach it
        )
        theirs.close()
        mine.settimeout(_START_S)
        try:
            ready = mine.recv(4096)
        except TimeoutError:
            ready = b""
        if not ready:
            self._process.kill()
            detail = (self._process.communicate()[1] or b"").decode("utf-8", "replace")[-2000:]
            raise SystemFailure(f"the process that runs notebooks did not start: {detail}")
        mine.settimeout(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def request(self, message: Mapping[str, object], descriptors: list[int]) -> None:
        """Send one request; a packet is sent whole, so no lock is needed."""
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors)
        except OSError as error:
            raise SystemFailure(f"the process that runs notebooks is gone: {error}") from error

    def shell(
        self,
        *,
        cwd: Path,
        environment: Mapping[str, str],
        output_bytes: int,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> tuple[Child, ShellSession]:
        """A plain shell, without a sandbox, for the user's own notebooks."""
        session, theirs = _session(output_bytes, cancelled)
        request = {
            "op": "shell",
            "cwd": str(cwd),
            "env": dict(environment),
            "output_bytes": output_bytes,
        }
        return self._launch(request, theirs), session

    def sandbox(
        self, plan: Plan, *, log: int, cancelled: Callable[[], bool] = lambda: False
    ) -> tuple[Child, socket.socket, ShellSession]:
        """A sandbox: its keeper process, the socket of its lab, and the shell inside."""
        session, shell_ends = _session(plan.output_bytes, cancelled)
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"op": "sandbox", "plan": asdict(plan)}
        child = self._launch(request, [theirs.detach(), *shell_ends, os.dup(log)])
        return child, mine, session

    def close(self) -> None:
        """End the zygote and everything it forked."""
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _launch(self, request: Mapping[str, object], descriptors: list[int]) -> Child:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        everything = [theirs.detach(), *descriptors]
        try:
            self.request(request, everything)
        finally:
            for descriptor in everything:
                os.close(descriptor)
        mine.settimeout(_START_S)
        data = mine.recv(4096)
        if not data:
            raise SystemFailure("the process that runs notebooks ended")
        return Child(int(json.loads(data)["pid"]), mine, self)


def _session(output_bytes: int, cancelled: Callable[[], bool]) -> tuple[ShellSession, list[int]]:
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    session = ShellSession(mine, out_read, err_read, output_bytes, cancelled)
    return session, [theirs.detach(), out_write, err_write]


def _package_parent() -> str:
    import labkit

    return str(Path(labkit.__file__).resolve().parent.parent)

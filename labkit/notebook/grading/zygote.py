"""A warm, single-threaded process that forks shells and sandboxes on request.

Importing IPython and building a shell takes a third of a second; a fork of a process that has
done so takes a millisecond. Requests arrive as one packet each on the socket named on the
command line, with descriptors beside them:

    {"op": "shell", …}     [status, control, stdout, stderr]          a plain shell
    {"op": "sandbox", …}   [status, keeper, control, stdout, stderr, log]   a private lab with one
    {"op": "kill", "pid": n}

On `status` the pid is told at once and the exit code at the end (negative: a signal, as in
subprocess). The zygote ends when its socket closes, and everything it forked ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import tempfile
import threading
from typing import Any

from labkit.base.syscalls import die_with_parent
from labkit.notebook.grading.plan import Plan
from labkit.notebook.grading.sandbox import run_sandbox
from labkit.notebook.grading.shell import LabShell, prepare, serve

__all__ = ["main"]

_MAX_REQUEST = 1 << 20
_MAX_DESCRIPTORS = 8


class _Zygote:
    def __init__(self, requests: socket.socket, shell: LabShell) -> None:
        self._requests = requests
        self._shell = shell
        self._status: dict[int, socket.socket] = {}

    def run(self) -> None:
        """Serve until the other side closes."""
        wake, signal_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(signal_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the grader's
        while True:
            ready, _, _ = select.select([self._requests.fileno(), wake], [], [])
            if wake in ready:
                os.read(wake, 512)
                self._reap()
            if self._requests.fileno() in ready:
                data, descriptors, _, _ = socket.recv_fds(
                    self._requests, _MAX_REQUEST, _MAX_DESCRIPTORS
                )
                if not data:
                    break
                self._handle(json.loads(data), descriptors)
        for pid in self._status:
            os.kill(pid, signal.SIGKILL)

    def _handle(self, request: dict[str, Any], descriptors: list[int]) -> None:
        if request["op"] == "kill":
            if request["pid"] in self._status:  # not yet reaped, so the number is still its own
                os.kill(request["pid"], signal.SIGKILL)
            return
        status, *rest = descriptors
        pid = os.fork()
        if pid == 0:
            try:
                self._become(request, rest)
            except BaseException as error:  # noqa: BLE001 - the last word of a forked child
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(70)
        for descriptor in rest:
            os.close(descriptor)
        channel = socket.socket(fileno=status)
        self._status[pid] = channel
        _tell(channel, {"pid": pid})

    def _become(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """In the child: keep nothing of the zygote but its memory."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        die_with_parent()
        if request["op"] == "sandbox":
            kept = _only(descriptors)
            run_sandbox(Plan(**request["plan"]), kept, self._shell)
            return
        control, out, err = descriptors
        _become_stdio(out, err)
        (control,) = _only([control])
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        serve(
            self._shell,
            socket.socket(fileno=control),
            output_bytes=request["output_bytes"],
            tripwires=False,
        )

    def _reap(self) -> None:
        while self._status:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            channel = self._status.pop(pid, None)
            if channel is not None:
                _tell(channel, {"exit": os.waitstatus_to_exitcode(status)})
                channel.close()


def _tell(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.send(json.dumps(message).encode())
    except OSError:
        return  # the one who asked is gone; its child is killed with its control socket


def _become_stdio(out: int, err: int) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)


def _only(kept: list[int]) -> list[int]:
    """Close every descriptor above 2 except `kept`, which become 3, 4, …"""
    high = [os.dup(descriptor) for descriptor in kept]
    # Move out of the way first: a kept one may already sit on a number that is wanted.
    floor = max([*high, 3 + len(high)]) + 1
    parked = []
    for offset, descriptor in enumerate(high):
        os.dup2(descriptor, floor + offset)
        parked.append(floor + offset)
    for offset, descriptor in enumerate(parked):
        os.dup2(descriptor, 3 + offset, inheritable=False)
    os.closerange(3 + len(kept), os.sysconf("SC_OPEN_MAX"))
    return [3 + offset for offset in range(len(kept))]


def _warm(package: str) -> None:
    """Import a package and every module in it, so that no fork has to."""
    try:
        top = importlib.import_module(package)
    except ImportError:
        return  # whoever needs it will say so, in a fork, with better words
    for found in pkgutil.walk_packages(getattr(top, "__path__", []), f"{package}."):
        if not found.name.endswith(".__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)


def main(argv: list[str]) -> int:
    """Serve on the descriptor given first; further arguments are packages to import beforehand."""
    requests = socket.socket(fileno=int(argv[1]))
    for package in argv[2:]:
        _warm(package)
    assert threading.active_count() == 1, "a thread would not survive the forks"
    # IPython insists on a folder of its own while it starts, and needs nothing in it later.
    with tempfile.TemporaryDirectory(prefix="labkit-shell-") as folder:
        os.environ["IPYTHONDIR"] = folder
        shell = prepare()
    del os.environ["IPYTHONDIR"]
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, what the forks share
    _tell(requests, {"ready": os.getpid()})
    _Zygote(requests, shell).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

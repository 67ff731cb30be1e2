"""Starting a process through native/oci.c: the descriptors, the message, the conversation."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import StartFailure, SystemFailure
from labkit.host.isolation.failures import sentence
from labkit.host.isolation.native import Program, spawn
from labkit.host.isolation.spec import ContainerSpec, IoSpec, ProcessSpec
from labkit.host.isolation.wire import FdTable, Surroundings, encode

if TYPE_CHECKING:
    from labkit.host.isolation.cgroups import Cgroup

__all__ = ["Launch", "Launched", "hierarchy_name", "listen_for_start", "release"]

_HEADER = struct.Struct("=HHIiIqq")
_HELD, _STARTED, _FAILED, _BUILT, _TTY = 64, 65, 66, 96, 97
_PROCEED, _GO = b"P", b"G"
_ERROR = struct.Struct("=i32s480s")  # struct lk_error of native/lk.h


@dataclass(frozen=True)
class Launched:
    """A process that is held or runs. `master` is its terminal's, or -1."""

    pid: int
    master: int
    warnings: tuple[str, ...]


def _failure(number: int, step: bytes, detail: bytes) -> StartFailure:
    words = sentence(
        step.rstrip(b"\0").decode(), number, detail.partition(b"\0")[0].decode("utf-8", "replace")
    )
    return StartFailure(f"unable to start container process: {words}")


def listen_for_start(folder: str) -> socket.socket:
    """The socket at which a created container waits for `start`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{handle}/start.sock")
        listener.listen(4)
    except OSError as error:
        listener.close()
        raise SystemFailure(f"cannot make {folder}/start.sock: {error.strerror}") from error
    finally:
        os.close(handle)
    return listener


def release(folder: str) -> None:
    """Let the container held in `folder` execute its program.

    Returns once it has. Raises StartFailure when it could not, SystemFailure when nobody is there.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with link:
        try:
            link.connect(f"/proc/self/fd/{handle}/start.sock")
            link.send(_GO)
            data = link.recv(_ERROR.size)
        except OSError as error:
            raise SystemFailure(f"the container does not answer: {error.strerror}") from error
        finally:
            os.close(handle)
    os.unlink(f"{folder}/start.sock")
    if len(data) == _ERROR.size:
        number, step, detail = _ERROR.unpack(data)
        raise _failure(number, step, detail)


@dataclass
class Launch:
    """One start. `spec` is None for a further process, which then needs `target`'s pid."""

    folder: str
    name: str
    process: ProcessSpec
    group: Cgroup
    spec: ContainerSpec | None = None
    target: int = 0
    listener: socket.socket | None = None
    keep: int = 0
    """How many descriptors of ours from 3 on the program gets."""
    stdio: Sequence[int] = (0, 1, 2)
    idmaps: dict[int, int] | None = None
    on_built: Callable[[int], None] | None = None
    """Called with the pid when the root stands and hooks may run."""

    def run(self) -> Launched:
        """Start it. Raises StartFailure in runc's words; nothing is left running then."""
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours)
            with theirs:
                program = Program()
                stack.callback(program.close)
                fds, message = self._message(stack, theirs.fileno())
                helper = spawn(program, ["labkit-shim", "oci", self.name[:12]], fds.fds)
                os.close(message)
            try:
                return self._converse(ours)
            finally:
                # Its children fall to us, or to whoever started us, at its end and not before.
                ours.close()
                os.waitpid(helper, 0)

    def _message(self, stack: contextlib.ExitStack, control: int) -> tuple[FdTable, int]:
        message = os.memfd_create("labkit-spec", os.MFD_CLOEXEC)
        fds = FdTable()
        fds.add(control)
        fds.add(message)
        state = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, state)
        around = Surroundings(state=fds.add(state))
        self._add_group(around, fds, stack)
        start = -1 if self.listener is None else fds.add(self.listener.fileno())
        stdio = [fds.add(handle) for handle in self.stdio if _is_open(handle)]
        stdio += [-1] * (3 - len(stdio))
        around.detached = (start, stdio[0], stdio[1], stdio[2])
        around.kept = tuple(fds.add(3 + number) for number in range(self.keep))
        around.hold = self.listener is not None
        around.stop_built = self.on_built is not None
        around.userxattr = os.geteuid() != 0  # then some ids and groups cannot be had
        around.idmaps = {index: fds.add(fd) for index, fd in (self.idmaps or {}).items()}
        if self.spec is not None:
            around.joins = {
                kind: fds.add(choice)
                for kind, choice in self.spec.namespaces.items()
                if isinstance(choice, int)
            }
        else:
            pidfd = os.pidfd_open(self.target)
            stack.callback(os.close, pidfd)
            around.target_pid, around.target_pidfd = self.target, fds.add(pidfd)
        data = memoryview(encode(self.spec, self.process, IoSpec(), around, self.name))
        while data:
            data = data[os.write(message, data) :]
        return fds, message

    def _add_group(self, around: Surroundings, fds: FdTable, stack: contextlib.ExitStack) -> None:
        handles = stack.enter_context(self.group.join())
        around.cgroup_tasks = tuple(fds.add(fd) for fd in handles.tasks)
        if handles.directory is not None:
            around.cgroup_directory = fds.add(handles.directory)
        if self.group.v1:
            around.cgroup_version = 1
            around.cgroup_hierarchies = tuple(
                sorted({hierarchy_name(p) for p in self.group.v1.values()})
            )
        elif self.group.unified is not None:
            around.cgroup_version = 2

    def _converse(self, link: socket.socket) -> Launched:
        master = -1
        try:
            while True:
                packet, ancillary, _, _ = link.recvmsg(
                    4096, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
                if len(packet) < _HEADER.size:
                    raise SystemFailure("the process ended before it was started")
                _, kind, _, status, _, pid, _ = _HEADER.unpack_from(packet)
                text = packet[_HEADER.size :]
                if kind == _TTY:
                    master = array.array("i", ancillary[0][2][:4])[0]
                elif kind == _BUILT:
                    assert self.on_built is not None
                    self.on_built(pid)
                    link.send(_PROCEED)
                elif kind == _FAILED:
                    step, _, detail = text.partition(b"\0")
                    raise _failure(-status, step, detail)
                elif kind in (_HELD, _STARTED):
                    warnings = text.decode("utf-8", "replace").splitlines()
                    return Launched(pid, master, tuple(warnings))
        except BaseException:
            if master >= 0:
                os.close(master)
            raise


def _is_open(handle: int) -> bool:
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


def hierarchy_name(folder: Path) -> str:
    """The name of the mount a v1 group is in: `memory`, `cpu,cpuacct`."""
    while not os.path.ismount(folder):
        folder = folder.parent
    return folder.name

"""Starts containers and execs through the C core, and finds them again after a restart.

The daemon encodes a spec (wire.py), starts a shim beside it (native.py) and talks to the shim over
one socket (protocol.py). What is here runs once per start: the group, the descriptors, the wait
for the shim's word, and undoing everything when the word is no.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, LabkitError, SystemFailure
from labkit.host.isolation.cgroups import Cgroup, CgroupDriver
from labkit.host.isolation.cgroups.order import GroupOrder
from labkit.host.isolation.failures import ContainerStartFailure, failure_from
from labkit.host.isolation.native import Program
from labkit.host.isolation.nursery import Nursery
from labkit.host.isolation.protocol import Kind, Message, connect
from labkit.host.isolation.shim import SHIM_FILES, ExitStatus, Shim, read_exit
from labkit.host.isolation.spec import (
    ContainerSpec,
    HostNamespaces,
    IoSpec,
    NamespaceChoice,
    ProcessSpec,
    ResourceLimits,
)
from labkit.host.isolation.wire import FdTable, Surroundings, encode

if TYPE_CHECKING:
    from labkit.host.isolation.probe import Probe

__all__ = ["ContainerStartFailure", "ExitStatus", "Runtime", "Shim"]

_STATE_HELD = 1  # of LK_STATE_* in native/protocol.h
_SPEC_FD = 4  # LK_SPEC_FD
_LIMIT_STEP = b"set a limit"  # native/groups.c
_STALE = frozenset((*SHIM_FILES, "exit.json", "timeline.bin"))


def _is_usual(spec: ContainerSpec | None) -> bool:
    """Whether a network namespace made ahead will do: it belongs to the lab's user namespace."""
    if (
        spec is None
        or spec.namespaces.get("user", NamespaceChoice.HOST) is not NamespaceChoice.HOST
    ):
        return False
    return spec.namespaces.get("net") is NamespaceChoice.NEW


def _in_initial_user_namespace() -> bool:
    """Whether ids mean what they say; overlay keeps its marks in user.* attributes elsewhere."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except OSError:
        return True


class Runtime:
    """One lab host's way to start processes.

    `host` holds the lab host's namespaces (None: those of this process), `instance` names the
    lab's control groups. Belongs to one event loop.
    """

    def __init__(
        self,
        *,
        host: HostNamespaces | None,
        instance: str,
        probe: Probe | None = None,
        cgroups: CgroupDriver | None = None,
        program: Program | None = None,
    ) -> None:
        self.host = host
        self.cgroups = cgroups or CgroupDriver(instance, probe)
        self._program = program or Program()
        self._nursery = Nursery(self._program, host, self.cgroups)
        self._userxattr = not _in_initial_user_namespace()

    def close(self) -> None:
        """End what waits for work, and let go of the program; containers run on."""
        self._nursery.close()
        self._program.close()

    @property
    def helpers(self) -> list[int]:
        """Processes of this host that are nobody's container: the nursery and what it has ready."""
        return self._nursery.pids

    def warm(self) -> None:
        """Have shims ready for the first start; does not wait. Needs a running loop."""
        self._nursery.warm()

    def warnings_for(self, limits: ResourceLimits) -> list[str]:
        """Docker's sentence for every limit this machine cannot enforce."""
        return self.cgroups.warnings_for(limits)

    # Starting ---------------------------------------------------------------------------------

    async def start(
        self, spec: ContainerSpec, io: IoSpec, directory: Path, *, hold: bool = False
    ) -> Shim:
        """Start a container; with `hold` its process waits for Shim.release() just before exec.

        `directory` (0700, made by the caller) receives shim.sock, shim.json, timeline.bin and, at
        the end, exit.json. Raises ContainerStartFailure with Docker's text and leaves nothing
        behind but timeline.bin.
        """
        group = self.cgroups.open(spec.id)
        order = self.cgroups.order(spec.id, spec.limits)
        try:
            shim = await self._launch(spec, spec.process, io, directory, group, order, hold)
        except BaseException:
            if not group.remove_nowait():
                await asyncio.to_thread(group.remove)
            raise
        finally:
            self._nursery.refill()
        return shim

    async def exec(
        self,
        container: Shim,
        process: ProcessSpec,
        io: IoSpec,
        directory: Path,
        *,
        hold: bool = False,
    ) -> Shim:
        """Start a further process inside a running container, in all its namespaces and its group.

        Raises Conflict when the container does not run, else as `start`.
        """
        if container.has_exited or not container.init_pid:
            raise Conflict("container is not running")
        group = container.group
        order = self.cgroups.entry(group.name)
        try:
            return await self._launch(None, process, io, directory, group, order, hold, container)
        finally:
            self._nursery.refill()

    async def _launch(
        self,
        spec: ContainerSpec | None,
        process: ProcessSpec,
        io: IoSpec,
        directory: Path,
        group: Cgroup,
        order: GroupOrder,
        hold: bool,
        target: Shim | None = None,
    ) -> Shim:
        for name in os.listdir(directory):
            if name in _STALE:
                os.unlink(directory / name)
        shim = Shim(directory, group, is_exec=spec is None, tty=process.tty)
        shim.translate = partial(self.cgroups.sentences, order)
        shim.warnings = order.warnings
        try:
            await self._begin(shim, spec, process, io, order, hold, target)
            message = await shim.started
            if message.kind == Kind.FAILED:
                raise self._failure(message, shim, group, order)
        except BaseException:
            await self._abandon(shim)
            raise
        return shim

    def _failure(
        self, message: Message, shim: Shim, group: Cgroup, order: GroupOrder
    ) -> LabkitError:
        step, _, detail = message.text.rstrip(b"\0").partition(b"\0")
        if step == _LIMIT_STEP:
            _, setting = order.writes[int(detail)]
            reason = OSError(-message.status, os.strerror(-message.status))
            return group.refusal(setting, reason)
        return failure_from(message.status, message.text, shim.steps, is_exec=shim.is_exec)

    async def _begin(
        self,
        shim: Shim,
        spec: ContainerSpec | None,
        process: ProcessSpec,
        io: IoSpec,
        order: GroupOrder,
        hold: bool,
        target: Shim | None,
    ) -> None:
        name = shim.directory.name if spec is None else spec.id
        with contextlib.ExitStack() as stack:
            message = os.memfd_create("labkit-spec", os.MFD_CLOEXEC)
            stack.callback(os.close, message)
            fds = FdTable(first=_SPEC_FD)
            fds.add(message)
            around = self._surroundings(stack, fds, shim.directory, io, order)
            around.hold = hold
            if spec is not None:
                around.joins = {
                    kind: fds.add(choice)
                    for kind, choice in spec.namespaces.items()
                    if isinstance(choice, int)
                }
            if target is not None:
                around.target_pid = target.init_pid
                around.target_pidfd = fds.add(target.duplicate_pidfd(stack))
            data = encode(spec, process, io, around, name)
            view = memoryview(data)
            while view:
                view = view[os.write(message, view) :]
            ready = await self._nursery.take(container=_is_usual(spec))
            shim.adopt_shim(ready)
            try:
                ready.begin(fds.fds)
            except OSError as error:
                raise SystemFailure(f"cannot start a shim: {error.strerror}") from error

    def _surroundings(
        self,
        stack: contextlib.ExitStack,
        fds: FdTable,
        directory: Path,
        io: IoSpec,
        order: GroupOrder,
    ) -> Surroundings:
        def folder(path: Path) -> int:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            return fds.add(fd)

        try:
            around = Surroundings(state=folder(directory), userxattr=self._userxattr)
            if io.log_path is not None:
                around.log, around.log_name = folder(io.log_path.parent), io.log_path.name
        except OSError as error:
            raise SystemFailure(f"cannot open {error.filename}: {error.strerror}") from error
        around.order = order
        program = self.cgroups.device_program(order)
        if program is not None:
            around.group_program = fds.add(program)
        around.cgroup_version = self.cgroups.version
        around.cgroup_hierarchies = self.cgroups.hierarchies
        return around

    async def _abandon(self, shim: Shim) -> None:
        """Undo a start that failed or was cancelled, as far as the shim has not done so itself."""
        with contextlib.suppress(OSError):
            shim.signal_now(signal.SIGKILL)
        await asyncio.shield(shim.discard())

    # After a restart --------------------------------------------------------------------------

    async def recover(self, directory: Path) -> Shim | ExitStatus:
        """What became of the process started with this folder: its shim, if that lives, or its end.

        Without either, whatever is left of it is killed and the status is 137, `shim died`.
        """
        try:
            record = json.loads((directory / "run.json").read_bytes())
            group = self.cgroups.open(str(record["group"]))
            is_exec = bool(record["exec"])
        except (OSError, ValueError, KeyError, TypeError):
            return read_exit(directory) or ExitStatus(137, time.time_ns(), error="never started")
        try:
            link = connect(directory)
        except OSError:
            return await self._bury(directory, group, is_exec=is_exec)
        shim = Shim(directory, group, is_exec=is_exec, tty=False)
        connection = shim.adopt(link)
        try:
            answer = await asyncio.wait_for(connection.ask(Kind.HELLO), 5)
        except (OSError, TimeoutError, LabkitError):
            shim.detach()
            return await self._bury(directory, group, is_exec=is_exec)
        shim.adopt_process(answer)
        shim.started_at_ns = answer.b
        shim.is_held = answer.flags == _STATE_HELD
        with contextlib.suppress(OSError, ValueError, KeyError):
            identity = json.loads((directory / "shim.json").read_bytes())
            shim.pid, shim.tty = int(identity["pid"]), bool(identity["tty"])
        return shim

    async def _bury(self, directory: Path, group: Cgroup, *, is_exec: bool) -> ExitStatus:
        """The shim is gone: what it recorded, or 137 after making sure that nothing runs on."""
        recorded = read_exit(directory)
        oom = False
        if not is_exec:
            oom = group.oom_kills() > 0
            await asyncio.to_thread(group.remove)
        for name in SHIM_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(directory / name)
        if recorded is not None:
            return ExitStatus(recorded.code, recorded.finished_at_ns, oom)
        return ExitStatus(128 + signal.SIGKILL, time.time_ns(), oom, error="shim died")

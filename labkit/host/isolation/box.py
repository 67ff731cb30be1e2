"""A hand-built container: one helper process that takes kernel primitives one at a time.

Chapter 01 works on these. The helper is native/box*.c: it has a single thread, because a process
with several cannot make a user namespace, and it is not the notebook's kernel, because
pivot_root would take that along. Everything a box starts dies with it, and it sits in a control
group with fuses, so that an experiment cannot hurt the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.base.errors import InvalidParameter, LabkitError, SystemFailure, Unavailable
from labkit.host.isolation import box_ops, box_view
from labkit.host.isolation.anchor import host_namespace_flags, shim_path
from labkit.host.isolation.box_support import (
    fuse_limits,
    how_it_ended,
    limits_not_held,
    own_limits,
    timed,
)
from labkit.host.isolation.box_wire import MAX_FRAME, BoxReply, decode_reply, encode_request
from labkit.host.isolation.cgroups import Cgroup, CgroupDriver
from labkit.host.isolation.idmap import write_maps
from labkit.host.isolation.spec import HostNamespaces, IdMapping, Step

__all__ = ["BoxProcess", "BoxReply"]

_REPLY_MAX = 12 << 20
_REPLY_GRACE_S = 15.0
_MAX_RUN_S = 300.0
_CREDENTIALS = struct.Struct("=iII")


class BoxProcess:
    """One box. `call` runs a primitive; `close` ends it and all it made."""

    def __init__(
        self,
        identifier: str,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        host: HostNamespaces | None,
        driver: CgroupDriver | None,
    ) -> None:
        self.id = identifier
        self.pid = process.pid
        """The process that carries the box, as the machine counts; it changes when a pid
        namespace is made, because only a child can be in the new one."""
        self.pivoted = False
        self.hostname = ""
        self._process = process
        self._channel = channel
        self._host = host
        self._driver = driver
        self._lock = asyncio.Lock()
        self._fuse: Cgroup | None = None
        self._group: Cgroup | None = None

    @classmethod
    async def start(
        cls,
        host: HostNamespaces | None = None,
        *,
        identifier: str,
        driver: CgroupDriver | None = None,
    ) -> BoxProcess:
        """A new box on the lab host (on the machine itself without one), in no namespace of its
        own yet. `identifier` names its control groups."""
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        # The kernel tells with each reply who sent it: that is the box's pid, whatever it has
        # become by then.
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        passed = [theirs.fileno()]
        words = ["box", str(theirs.fileno())]
        pidfd = None
        process = None
        try:
            if host is not None and host.anchor_pid:
                pidfd = os.pidfd_open(host.anchor_pid)
                passed.append(pidfd)
                words += [str(pidfd), str(host_namespace_flags(host))]
            # vfork: the caller's memory is not copied, so this takes about a millisecond.
            process = subprocess.Popen(  # noqa: ASYNC220
                ["labkit-box", *words],
                executable=shim_path(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                pass_fds=passed,
                start_new_session=True,
            )
            theirs.close()
            box = cls(identifier, process, mine, host, driver)
            box._light_fuse()
            reply = await box.call("info")
            if not reply.ok:
                raise SystemFailure(f"box {identifier} does not answer: {reply.message}")
        except BaseException:
            theirs.close()
            mine.close()
            if process is not None:
                process.kill()
                process.wait()
            raise
        finally:
            if pidfd is not None:
                os.close(pidfd)
        return box

    def _light_fuse(self) -> None:
        if self._driver is None:
            return
        self._fuse = self._driver.create(f"box-{self.id}", fuse_limits())
        self._fuse.add(self._process.pid)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def group(self) -> Cgroup | None:
        """The control group in force: the box's own once `cgroup` was called, else the fuse's."""
        return self._group or self._fuse

    @property
    def has_cgroup(self) -> bool:
        """Whether the student has put the box into a group of its own."""
        return self._group is not None

    @property
    def namespaces(self) -> dict[str, int]:
        """Inode of each of its namespaces, by kind; empty once it has ended."""
        return box_view.namespaces_of(self.pid)

    def pids(self) -> list[int]:
        """Every process of the box, as the machine counts."""
        found: set[int] = set()
        for group in (self._fuse, self._group):
            if group is not None and group.folders:
                found.update(group.pids())
        if not found:
            from labkit.host.isolation.cgroups.processes import descendants

            found.update(descendants(self._process.pid))
        return sorted(found)

    async def describe(self) -> dict[str, object]:
        """The box seen from outside, for checks and views."""
        if self.alive and not self._lock.locked():
            with contextlib.suppress(LabkitError):
                await self.call("info")
        return box_view.describe(self, self._host)

    # Primitives --------------------------------------------------------------------------

    async def call(self, op: str, **args: Any) -> BoxReply:
        """Run one primitive; one at a time, in the order of the calls.

        A refusal by the kernel is a reply with `ok` false. Raises InvalidParameter for a request
        that means nothing and Unavailable when the box has ended.
        """
        async with self._lock:
            handler = self._outside.get(op)
            if handler is not None:
                try:
                    return await handler(self, **args)
                except TypeError as error:
                    raise InvalidParameter(f"wrong arguments for {op}: {error}") from None
            if op == "run":
                args["timeout_s"] = min(
                    float(args.get("timeout_s") or box_ops.DEFAULT_TIMEOUT_S), _MAX_RUN_S
                )
            words = box_ops.encode_arguments(op, args)
            patience = float(args.get("timeout_s", 0)) + _REPLY_GRACE_S
            return self._finish(op, await self._exchange(encode_request(op, words), patience))

    def _finish(self, op: str, reply: BoxReply) -> BoxReply:
        if op == "info" and reply.ok:
            self.hostname = str(reply.result.get("hostname", ""))
        if op == "sethostname" and reply.ok and reply.steps:
            self.hostname = reply.steps[0].detail
        if op == "pivot_root" and reply.ok:
            self.pivoted = True
        reply.result["pid"] = self.pid
        if reply.ok:
            return reply
        detail = next((step.detail for step in reply.steps if step.error), "")
        message, hint = box_ops.explain(op, reply.call, reply.errno, detail)
        return replace(reply, message=message, hint=hint)

    async def _exchange(
        self, frame: bytes, patience_s: float, *, pass_fd: int | None = None
    ) -> BoxReply:
        try:
            async with asyncio.timeout(patience_s):
                await self._send(frame, pass_fd)
                size = struct.unpack("=I", await self._receive(4))[0]
                if size > _REPLY_MAX:
                    raise SystemFailure("the box sent a broken reply")
                return decode_reply(await self._receive(size))
        except TimeoutError:
            self._kill()
            raise Unavailable(
                f"box {self.id} did not answer within {patience_s:.0f} s and was ended",
                hint="make a new one",
            ) from None
        except OSError as error:
            raise Unavailable(
                f"box {self.id} has ended: {how_it_ended(self._process)}", hint="make a new one"
            ) from error

    async def _send(self, frame: bytes, pass_fd: int | None) -> None:
        assert len(frame) <= MAX_FRAME + 4
        loop = asyncio.get_running_loop()
        if pass_fd is None:
            await loop.sock_sendall(self._channel, frame)
            return
        socket.send_fds(self._channel, [frame[:4]], [pass_fd])
        await loop.sock_sendall(self._channel, frame[4:])

    async def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part, ancillary, _, _ = self._channel.recvmsg(
                    min(size - len(data), 1 << 16), socket.CMSG_SPACE(_CREDENTIALS.size)
                )
            except BlockingIOError:
                await self._readable()
                continue
            if not part:
                raise ConnectionResetError(errno.ECONNRESET, "the box has ended")
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])[0]
                    self.pid = pid or self.pid
            data += part
        return bytes(data)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(self._channel, wake)
        try:
            await ready
        finally:
            loop.remove_reader(self._channel)

    # Done from outside -------------------------------------------------------------------

    async def _map_ids(
        self, *, uids: Sequence[Sequence[int]] = (), gids: Sequence[Sequence[int]] = ()
    ) -> BoxReply:
        """Write the id maps of the box's user namespace: rows of (inside, outside, count)."""
        steps: list[Step] = []
        try:
            for kind, rows in (("uid", uids), ("gid", gids)):
                if not rows:
                    continue
                maps = tuple(IdMapping(*(int(number) for number in row)) for row in rows)
                detail = "; ".join(f"{m.inside} {m.outside} {m.count}" for m in maps)
                with timed(steps, f"map {kind}s", "write", f"/proc/{self.pid}/{kind}_map {detail}"):
                    write_maps(
                        self.pid,
                        maps if kind == "uid" else (),
                        maps if kind == "gid" else (),
                    )
        except SystemFailure as error:
            hint = "unshare('user') comes first, and a map is written once only"
            return BoxReply(False, {}, tuple(steps), errno.EPERM, "write", error.message, hint)
        return BoxReply(True, {"pid": self.pid}, tuple(steps))

    async def _uid_map(self, map: Sequence[Sequence[int]]) -> BoxReply:  # noqa: A002
        return await self._map_ids(uids=map)

    async def _gid_map(self, map: Sequence[Sequence[int]]) -> BoxReply:  # noqa: A002
        return await self._map_ids(gids=map)

    async def _setns(self, pid: int, kinds: str | Sequence[str]) -> BoxReply:
        """Join namespaces of another process (a container's first one, another box)."""
        words = kinds.replace(",", " ").split() if isinstance(kinds, str) else list(kinds)
        try:
            handle = os.pidfd_open(int(pid))
        except OSError as error:
            raise InvalidParameter(f"no process {pid}: {error.strerror}") from None
        try:
            frame = encode_request("setns", words)
            reply = await self._exchange(frame, _REPLY_GRACE_S, pass_fd=handle)
        finally:
            os.close(handle)
        return self._finish("setns", reply)

    async def _join_cgroup(
        self,
        memory: str | int = 0,
        pids: int = 0,
        cpus: str | float = 0,
        files: Mapping[str, str] | None = None,
    ) -> BoxReply:
        """Put the box into a control group of its own with these limits, or change them.

        A limit that this machine cannot hold is a warning in the result, as `docker run` has it.
        """
        limits = own_limits(memory, pids, cpus)
        if self._driver is None or not self._driver.bases:
            return BoxReply(True, {"warnings": limits_not_held(limits)})
        steps: list[Step] = []
        warnings: list[str] = []
        try:
            group = self._group
            if group is None:
                name = f"box-{self.id}.own"
                with timed(steps, "make a control group", "mkdir", name):
                    group = self._driver.create(name)
            for setting in group.settings(limits):
                with timed(steps, "limit", "write", f"{setting.file} ← {setting.value}"):
                    warnings.extend(filter(None, [group.apply(setting)]))
            for file, value in (files or {}).items():
                with timed(steps, "limit", "write", f"{file} ← {value}"):
                    group.write(file, str(value))
            for pid in self.pids() if self._group is None else []:
                with timed(steps, "move a process in", "write", f"cgroup.procs ← {pid}"):
                    group.add(pid)
            self._group = group
        except (OSError, LabkitError) as error:
            if self._group is None:
                with contextlib.suppress(LabkitError):
                    self._driver.open(f"box-{self.id}.own").remove_nowait()
            code = (error.errno if isinstance(error, OSError) else 0) or errno.EINVAL
            return BoxReply(False, {}, tuple(steps), code, "write", str(error))
        result: dict[str, object] = {"warnings": warnings, **box_view.counters(group)}
        return BoxReply(True, result, tuple(steps))

    async def _read_cgroup(self, files: Sequence[str] = ()) -> BoxReply:
        """The counters of the box's control group, and the text of any of its files."""
        group = self.group
        if group is None:
            return BoxReply(False, {}, (), errno.ENOENT, "read", "the box is in no control group")
        texts = {file: group.read(file) for file in files if "/" not in file}
        return BoxReply(True, {**box_view.counters(group), "files": texts})

    _outside: Mapping[str, Callable[..., Awaitable[BoxReply]]] = {
        "map_ids": _map_ids,
        "uid_map": _uid_map,
        "gid_map": _gid_map,
        "setns": _setns,
        "cgroup": _join_cgroup,
        "cgroup_read": _read_cgroup,
    }

    # End ---------------------------------------------------------------------------------

    def _kill(self) -> None:
        for group in (self._group, self._fuse):
            if group is not None and group.folders:
                group.kill(timeout_s=0.5)
        self._process.kill()

    async def close(self) -> None:
        """End the box, everything in it, and its control groups. May be called twice."""
        self._channel.close()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        for group in (self._group, self._fuse):
            if group is not None and not group.remove():
                raise SystemFailure(f"control group {group.name} could not be removed")

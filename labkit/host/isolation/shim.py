"""A running container (or exec) as the engine holds it: its shim, its first process, its group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import Conflict, InvalidParameter, SystemFailure, Unavailable
from labkit.host.isolation.cgroups import Cgroup, CgroupStats
from labkit.host.isolation.failures import failure_from
from labkit.host.isolation.nursery import ReadyShim
from labkit.host.isolation.protocol import Connection, Kind, Message
from labkit.host.isolation.spec import ResourceLimits, Step
from labkit.host.isolation.timeline import read_steps

__all__ = ["SHIM_FILES", "ExitStatus", "LogPosition", "Shim", "read_exit"]

SHIM_FILES = ("shim.sock", "shim.json", "shim.json.new", "run.json", "exit.json.new")
"""What a shim leaves in its folder besides exit.json and timeline.bin."""

_SHIM_DIED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended. `code` is 128 + the signal's number when one killed it."""

    code: int
    finished_at_ns: int
    """CLOCK_REALTIME."""
    oom_killed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """`total` bytes have been appended to the log by this shim, over `rotations` rotations."""

    total: int
    rotations: int
    ended: bool


def _as_they_are(lines: list[str]) -> tuple[list[str], list[str]]:
    return [], lines


def read_exit(directory: Path) -> ExitStatus | None:
    """What the shim recorded when its process ended, if it did."""
    try:
        record = json.loads((directory / "exit.json").read_bytes())
        return ExitStatus(int(record["code"]), int(record["finished_at_ns"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


_RELEASE_S = 60.0
"""A start takes milliseconds; on an emulated machine under load, seconds."""

_QUIT_S = 5.0


class Shim:
    """Made by Runtime. All methods belong to the loop it was made on."""

    def __init__(self, directory: Path, group: Cgroup, *, is_exec: bool, tty: bool) -> None:
        self.directory = directory
        self.pid = 0
        self.init_pid = 0
        self.started_at_ns = 0
        self.tty = tty
        self.is_exec = is_exec
        self.is_held = False
        self.warnings: tuple[str, ...] = ()
        self.translate: Callable[[list[str]], tuple[list[str], list[str]]] = _as_they_are
        """Makes sentences of what the shim says about the control group."""
        self.group = group
        self.started: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        """HELD, STARTED or FAILED; for Runtime."""
        self._exit: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self._connection: Connection | None = None
        self._pidfd = -1
        self._shim_pidfd = -1
        self._gone = asyncio.Event()
        self.also_clean: Callable[[], None] | None = None
        """What else cleanup() has to do, in a thread (foreign/)."""
        self._steps: tuple[Step, ...] | None = None
        self._oom_before = 0
        self._releasing: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Shim {self.directory.name} pid={self.pid} init={self.init_pid}>"

    # Made and unmade by Runtime ---------------------------------------------------------------

    def adopt(self, link: socket.socket) -> Connection:
        """Talk to the shim over `link` from now on."""
        self._connection = Connection(link, self._event, self._closed)
        return self._connection

    def adopt_shim(self, ready: ReadyShim) -> None:
        """Take over a shim from the nursery, and notice its end."""
        self.adopt(ready.link)
        self.pid, self._shim_pidfd = ready.pid, ready.pidfd
        asyncio.get_running_loop().add_reader(self._shim_pidfd, self._forget_shim)

    def _forget_shim(self) -> None:
        if self._shim_pidfd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._shim_pidfd)
        os.close(self._shim_pidfd)
        self._shim_pidfd = -1
        self._gone.set()

    def adopt_process(self, message: Message) -> None:
        """Take the first process's pid and pidfd from HELD, STARTED or a HELLO's reply."""
        self.init_pid = message.a
        self.group.leader = message.a if not self.is_exec else self.group.leader
        if message.fd >= 0:
            if self._pidfd >= 0:
                os.close(self._pidfd)
            self._pidfd = message.fd

    def _event(self, message: Message) -> None:
        if message.kind in (Kind.HELD, Kind.STARTED):
            self.adopt_process(message)
            self.is_held = message.kind == Kind.HELD
            self._hear(message.text)
            if message.kind == Kind.STARTED:
                self.started_at_ns = message.b
        elif message.kind == Kind.EXITED:
            self._ended(int(message.a), int(message.b))
            return
        if not self.started.done():
            self.started.set_result(message)
        elif message.fd >= 0 and message.fd != self._pidfd:
            os.close(message.fd)

    def _hear(self, text: bytes) -> None:
        """Add what could not be done as asked; the shim repeats itself after a hold."""
        group, others = self.translate(text.decode("utf-8", "replace").splitlines())
        fresh = [each for each in (*group, *others) if each not in self.warnings]
        self.warnings = (*self.warnings, *fresh)

    def _ended(self, code: int, finished_at_ns: int, error: str = "") -> None:
        if self._exit.done():
            return
        killed = not self.is_exec and self.group.oom_kills() > self._oom_before
        self._exit.set_result(ExitStatus(code, finished_at_ns, killed, error))
        if self._connection is not None:
            self._connection.tell(Kind.ACKNOWLEDGE)

    def _closed(self) -> None:
        """The shim is gone. With its exit status known that is the normal end."""
        if not self.started.done():
            self.started.set_exception(SystemFailure("the shim ended before the process ran"))
            self.started.exception()  # it may be that nobody waits any more
        if self._exit.done():
            return
        recorded = read_exit(self.directory)
        if recorded is not None:
            self._ended(recorded.code, recorded.finished_at_ns)
            return
        # Its children die with it; the process has no parent that could tell how it ended.
        with contextlib.suppress(OSError):
            self.signal_now(signal.SIGKILL)
        self._ended(_SHIM_DIED, time.time_ns(), "shim died")

    # What the engine uses ---------------------------------------------------------------------

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was done to start the process, measured; complete once it runs."""
        if self._steps is None or not self._steps:
            steps = read_steps(self.directory / "timeline.bin")
            if self.is_held or not self.started_at_ns:
                return steps
            self._steps = steps
        return self._steps

    @property
    def has_exited(self) -> bool:
        return self._exit.done()

    async def wait(self) -> ExitStatus:
        """The end of the first process; any number may wait."""
        return await asyncio.shield(self._exit)

    def _link(self) -> Connection:
        if self._connection is None or not self._connection.is_open:
            raise Unavailable("the container's shim is gone")
        return self._connection

    async def attach(
        self, *, stdin: bool, stdout: bool, stderr: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A reader of Docker's frames (raw bytes with a tty) and a writer of raw input.

        Nothing the process prints after this returned is lost. `writer.write_eof()` closes the
        process's input if it was opened with `stdin_once`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            wants = (1 if stdin else 0) | (2 if stdout else 0) | (4 if stderr else 0)
            try:
                answer = await self._link().ask(Kind.ATTACH, wants, fd=theirs.fileno())
                if answer.status < 0:
                    raise Conflict(f"cannot attach: {os.strerror(-answer.status).lower()}")
                return await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise

    async def release(self) -> None:
        """Let a held process run. No error when it runs already.

        Raises StartFailure when its program cannot be executed; everything has been cleaned up
        then, and wait() answers 137, `never started`.
        """
        if self._releasing is None:
            self._releasing = asyncio.ensure_future(self._release())
        await asyncio.shield(self._releasing)

    async def _release(self) -> None:
        if self.started_at_ns:
            return  # it runs, or ran: its shim may have told its end and gone
        try:
            answer = await asyncio.wait_for(self._link().ask(Kind.RELEASE), _RELEASE_S)
        except TimeoutError:
            raise Unavailable(
                f"the container's shim (pid {self.pid}) does not let its process run",
                hint="remove the container with force, and start it again",
            ) from None
        except Unavailable:
            if read_exit(self.directory) is None:
                raise
            return
        if answer.status < 0:
            failure = failure_from(answer.status, answer.text, self.steps, is_exec=self.is_exec)
            self._ended(_SHIM_DIED, time.time_ns(), "never started")
            await self.cleanup()
            raise failure
        self.is_held = False
        self.started_at_ns = self.started_at_ns or answer.b
        self._hear(answer.text)

    def signal_now(self, number: int) -> None:
        """Send a signal through the process's pidfd, which never means another process."""
        if self._pidfd < 0:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._pidfd, number)

    async def signal(self, number: int) -> None:
        """The same for the engine. Raises Conflict when the process is gone."""
        try:
            self.signal_now(number)
        except ProcessLookupError:
            raise Conflict("the process is not running") from None
        except OSError as error:
            raise InvalidParameter(f"invalid signal: {number}: {error.strerror}") from error

    async def resize(self, rows: int, columns: int) -> None:
        answer = await self._link().ask(Kind.RESIZE, rows, columns)
        if answer.status < 0:
            raise Conflict(f"cannot resize: {os.strerror(-answer.status).lower()}")

    async def close_stdin(self) -> None:
        """End of input for the process, whoever is attached."""
        await self._link().ask(Kind.CLOSE_STDIN)

    async def wait_log(self, position: int) -> LogPosition:
        """Return once more than `position` bytes have been logged, or output has ended.

        One waiter per shim at a time: a later call replaces an earlier one. A shim that has told
        its container's end and left has nothing more to say: that is the end of output too.
        """
        try:
            answer = await self._link().ask(Kind.WAIT_LOG, position)
        except Unavailable:
            if not self.has_exited:
                raise
            return LogPosition(position, 0, ended=True)
        return LogPosition(answer.a, answer.b, bool(answer.flags & 1))

    async def pause(self) -> None:
        await asyncio.to_thread(self.group.freeze)

    async def resume(self) -> None:
        await asyncio.to_thread(self.group.thaw)

    def pids(self) -> list[int]:
        """Machine pids of everything in the container's group."""
        return self.group.pids()

    def stats(self) -> CgroupStats:
        return self.group.stats()

    async def update(self, limits: ResourceLimits) -> list[str]:
        """Set limits, live; returns a sentence for each that cannot hold here."""
        return await asyncio.to_thread(self.group.update, limits)

    def detach(self) -> None:
        """Forget the shim without disturbing it, as a daemon does that leaves."""
        if self._connection is not None:
            self._connection.close()
        if self._shim_pidfd >= 0:
            self._forget_shim()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def duplicate_pidfd(self, stack: contextlib.ExitStack) -> int:
        """A copy of the process's pidfd that `stack` closes."""
        if self._pidfd < 0:
            raise Conflict("container is not running")
        copy = os.dup(self._pidfd)
        stack.callback(os.close, copy)
        return copy

    async def discard(self) -> None:
        """Forget a process that is over or never came about: shim, descriptors, files."""
        if self._connection is not None:
            self._connection.tell(Kind.QUIT)
        await self._shim_gone()
        if self.started.done() and not self.started.cancelled():
            self.started.exception()
        if not self._exit.done():
            self._ended(_SHIM_DIED, time.time_ns(), "never started")
        self.detach()
        for name in SHIM_FILES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.directory / name)

    async def cleanup(self) -> None:
        """Remove what a container leaves: processes, group, socket. exit.json stays."""
        if not self._exit.done():
            with contextlib.suppress(OSError):
                self.signal_now(signal.SIGKILL)
            if self._connection is not None and self._connection.is_open and not self.is_held:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wait(), 5)
        if self._connection is not None:
            self._connection.tell(Kind.QUIT)
        await self._shim_gone()
        if self.also_clean is not None:
            await asyncio.to_thread(self.also_clean)
        if not self.is_exec and not self.group.remove_nowait():
            await asyncio.to_thread(self.group.remove)
        await self.discard()

    async def _shim_gone(self) -> None:
        """Wait until the shim has ended (it has been told to quit), and its mounts with it."""
        if self._shim_pidfd >= 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), _QUIT_S)

"""Bytes both ways between a container and a surface, and what interrupting means meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from labkit.base.errors import CommandError, LabkitError

if TYPE_CHECKING:
    from labkit.notebook.apierrors import ApiError
    from labkit.notebook.client import Client, HijackedStream
    from labkit.notebook.commands.surface import Surface

__all__ = [
    "DETACH_KEYS",
    "LEAVING",
    "Detached",
    "check_terminal",
    "forward_signals",
    "not_upgraded",
    "parse_detach_keys",
    "proxy_interrupts",
    "pump",
    "raw_terminal",
]

DETACH_KEYS = b"\x10\x11"  # ctrl-p ctrl-q
# What `attach` and `exec` end with when they are left; `run` and `start` end well, and in silence.
LEAVING = "read escape sequence"
_CHUNK = 1 << 15


class Detached(Exception):
    """The session was left; the container goes on."""


def check_terminal(surface: Surface, *, stdin: bool, tty: bool) -> None:
    """Raise CommandError when a terminal is asked for where stdin is none."""
    if tty and stdin and not surface.is_terminal:
        raise CommandError(
            "the input device is not a TTY",
            hint="leave -t away, or give the same command in a terminal: labkit docker …",
        )


def parse_detach_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q` as the bytes a terminal sends; raises CommandError for anything else."""
    if not text:
        return DETACH_KEYS
    keys = bytearray()
    for key in text.split(","):
        if len(key) == 1:
            keys += key.encode()
        elif key.lower().startswith("ctrl-") and len(key) == 6 and 64 <= ord(key[5].upper()) <= 95:
            keys.append(ord(key[5].upper()) - 64)
        else:
            raise CommandError(f"invalid detach keys: Unknown character: '{key}'")
    return bytes(keys)


def not_upgraded(error: ApiError) -> CommandError:
    """The client's words where the engine refuses to turn a request into a stream."""
    return CommandError(
        f"unable to upgrade to tcp, received {error.status}", hint=error.hint or error.message
    )


class _KeyWatch:
    """Finds the detach sequence in what is typed, also across reads."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to send on, and whether the sequence is complete."""
        data = self.held + data
        at = data.find(self.keys)
        if at >= 0:
            return data[:at], True
        keep = 0
        for size in range(min(len(self.keys) - 1, len(data)), 0, -1):
            if data.endswith(self.keys[:size]):
                keep = size
                break
        self.held = data[len(data) - keep :] if keep else b""
        return data[: len(data) - keep], False


class _StdinCopier:
    """Copies stdin in a thread that can be told to stop."""

    def __init__(self, source: BinaryIO, stream: HijackedStream, keys: bytes | None) -> None:
        self.source = source
        self.stream = stream
        self.watch = _KeyWatch(keys) if keys else None
        self.detached = threading.Event()
        self.wake_read, self.wake_write = os.pipe()
        self.thread = threading.Thread(target=self.run, name="labkit-stdin", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self.wake_write, b".")
        self.thread.join(timeout=1)
        if not self.thread.is_alive():
            os.close(self.wake_read)
            os.close(self.wake_write)

    def chunks(self) -> Iterator[bytes]:
        try:
            descriptor = self.source.fileno()
        except (OSError, AttributeError, ValueError):
            while data := self.source.read(_CHUNK):
                yield data
            return
        while True:
            ready, _, _ = select.select([descriptor, self.wake_read], [], [])
            if self.wake_read in ready:
                return
            data = os.read(descriptor, _CHUNK)
            if not data:
                return
            yield data

    def run(self) -> None:
        try:
            for data in self.chunks():
                if self.watch is not None:
                    data, leave = self.watch.feed(data)
                    if data:
                        self.stream.write(data)
                    if leave:
                        self.detached.set()
                        self.stream.close()
                        return
                else:
                    self.stream.write(data)
            self.stream.close_stdin()
        except OSError:
            pass  # the container has ended; the reader notices


def raw_terminal(
    surface: Surface, client: Client, path: str
) -> contextlib.AbstractContextManager[None]:
    """The surface's terminal without line editing; its size is posted to `path`/resize.

    Surfaces without a terminal give a context that does nothing.
    """
    make = getattr(surface, "raw_mode", None)
    if make is None:
        return contextlib.nullcontext()

    def resize(rows: int, columns: int) -> None:
        with contextlib.suppress(LabkitError):
            client.request("POST", f"{path}/resize", query={"h": rows, "w": columns})

    context: contextlib.AbstractContextManager[None] = make(resize)
    return context


def forward_signals(
    client: Client, container: str, surface: Surface
) -> contextlib.AbstractContextManager[None]:
    """Where the surface is a process of its own, signals sent to it go on to the container."""
    make = getattr(surface, "forwarding", None)
    if make is None:
        return contextlib.nullcontext()

    def send(name: str) -> None:
        with contextlib.suppress(LabkitError):
            client.request("POST", f"/containers/{container}/kill", query={"signal": name})

    context: contextlib.AbstractContextManager[None] = make(send)
    return context


def pump(
    stream: HijackedStream,
    surface: Surface,
    *,
    tty: bool,
    stdin: BinaryIO | None = None,
    detach_keys: bytes | None = None,
    interrupt: Callable[[], bool] | None = None,
) -> None:
    """Show output until the other side closes.

    `interrupt` is called on KeyboardInterrupt; False leaves the session. Without it the exception
    passes. Raises Detached when the session was left.
    """
    copier = _StdinCopier(stdin, stream, detach_keys) if stdin is not None else None
    if copier is not None:
        copier.start()
    try:
        while True:
            try:
                if not _show_next(stream, surface, tty):
                    break
            except KeyboardInterrupt:
                if interrupt is None:
                    raise
                if not interrupt():
                    raise Detached from None
    finally:
        stream.close()
        if copier is not None:
            copier.stop()
    if copier is not None and copier.detached.is_set():
        raise Detached


def _show_next(stream: HijackedStream, surface: Surface, tty: bool) -> bool:
    if tty:
        data = stream.read_raw()
        if data:
            surface.out_bytes(data)
        return bool(data)
    frame = stream.read_frame()
    if frame is None:
        return False
    kind, data = frame
    if kind == 2:
        surface.err_bytes(data)
    elif kind == 3:
        raise CommandError(f"error from daemon in stream: {data.decode(errors='replace')}")
    else:
        surface.out_bytes(data)
    return True


def proxy_interrupts(client: Client, container: str, surface: Surface) -> Callable[[], bool]:
    """What an interrupt does in a foreground session: the container gets SIGINT.

    Where a button interrupts, the second press leaves the session. In a terminal the third one
    ends the client with an error, as in Docker's.
    """
    count = itertools.count(1)

    def interrupt() -> bool:
        number = next(count)
        if surface.is_terminal and number >= 3:
            raise CommandError("\ngot 3 SIGTERM/SIGINTs, forcefully exiting")
        if not surface.is_terminal and number >= 2:
            give_hint = getattr(surface, "hint", None)
            if give_hint is not None:
                program = getattr(surface, "program", "docker")
                give_hint(
                    "you have left the container running. See it with "
                    f"`{program} logs {container[:12]}`, end it with "
                    f"`{program} rm -f {container[:12]}`"
                )
            return False
        with contextlib.suppress(LabkitError):
            client.request("POST", f"/containers/{container}/kill", query={"signal": "INT"})
        return True

    return interrupt

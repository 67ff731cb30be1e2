"""A container's terminal: handing its master to whoever asked for it, or copying it ourselves."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from typing import Any, Self

from labkit.base.errors import SystemFailure

__all__ = ["Terminal", "send_master"]


def send_master(path: str, master: int) -> None:
    """Send the descriptor over the unix socket at `path`, as console sockets have it.

    Raises SystemFailure when nobody listens there.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY)
            try:
                # The address goes through a descriptor: a path may be longer than an address.
                link.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            finally:
                os.close(folder)
            rights = array.array("i", [master])
            link.sendmsg([b"/dev/ptmx"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    except OSError as error:
        raise SystemFailure(f"console socket {path}: {(error.strerror or '').lower()}") from error


class Terminal:
    """Our own terminal, raw, joined to a container's master for as long as a command waits."""

    def __init__(self, master: int) -> None:
        self.master = master
        self._saved: list[Any] | None = None
        self._input_open = True

    def __enter__(self) -> Self:
        import termios
        import tty

        if os.isatty(0):
            self._saved = termios.tcgetattr(0)
            tty.setraw(0)
        self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        if self._saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
        self.drain()

    def resize(self) -> None:
        """Give the container's terminal the size of ours."""
        import fcntl
        import termios

        with contextlib.suppress(OSError):
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            if size[:4] != bytes(4):
                fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    @property
    def watched(self) -> list[int]:
        """Descriptors to wait on."""
        return [self.master, *((0,) if self._input_open else ())]

    def copy(self, ready: int) -> None:
        """Move what is there from `ready` to the other side."""
        try:
            data = os.read(ready, 65536)
        except OSError:  # EIO: nobody holds the other end
            data = b""
        if ready == self.master:
            _write_all(1, data)
            if not data:
                self._lost_master()
        elif data:
            _write_all(self.master, data)
        else:
            self._input_open = False

    def _lost_master(self) -> None:
        # Nothing comes any more; the process's end will be told by SIGCHLD.
        os.close(self.master)
        self.master = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def drain(self) -> None:
        """What the process wrote before it ended."""
        os.set_blocking(self.master, False)
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 65536):
                _write_all(1, data)
        os.close(self.master)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]

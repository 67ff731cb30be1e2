"""The surface of `labkit docker …`: the process's own stdin, stdout and stderr."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from labkit.base.errors import CommandError
from labkit.notebook.commands.progress import bar, plain_line
from labkit.notebook.commands.surface import Table

__all__ = ["TerminalSurface"]

_FORWARDED = (
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGCONT),
)


class TerminalSurface:
    """Writes what Docker's client writes, where it writes it.

    Progress moves in place on a terminal and is plain lines elsewhere; `raw_mode` gives a
    container's terminal ours.
    """

    program = "labkit docker"

    def __init__(self) -> None:
        self._progress_rows: dict[str, int] = {}
        self._out = sys.stdout.buffer
        self._err = sys.stderr.buffer

    @property
    def stdin(self) -> BinaryIO | None:
        return sys.stdin.buffer if sys.stdin is not None else None

    @property
    def is_terminal(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty()

    @property
    def stdout_is_terminal(self) -> bool:
        """Whether somebody reads stdout as it comes."""
        return self._out.isatty()

    @property
    def interactive(self) -> bool:
        return self.is_terminal

    @property
    def help_columns(self) -> int:
        """The width help is wrapped to: that of the terminal on stdin, as Docker's client does."""
        rows, columns = self.terminal_size()
        return columns if rows or columns else 80

    def terminal_size(self) -> tuple[int, int]:
        """Rows and columns of the terminal; zeros where there is none."""
        try:
            size = os.get_terminal_size(0)
        except OSError:
            return 0, 0
        return size.lines, size.columns

    def out(self, text: str) -> None:
        self.out_bytes(text.encode(errors="surrogateescape"))

    def err(self, text: str) -> None:
        self.err_bytes(text.encode(errors="surrogateescape"))

    def out_bytes(self, data: bytes) -> None:
        try:
            self._out.write(data)
            self._out.flush()
        except BrokenPipeError:
            # Whoever read us has gone. Python would flush once more while it exits, and complain.
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._out.fileno())
            os.close(nowhere)
            raise

    def err_bytes(self, data: bytes) -> None:
        self._out.flush()
        self._err.write(data)
        self._err.flush()

    def table(self, table: Table) -> None:
        self.out(table.text)

    def hint(self, text: str) -> None:
        """What to try next; only where somebody reads it, so that scripts see Docker's stderr."""
        if self._err.isatty():
            self.err(f"({text})\n")

    def ask(self, question: str, *, flag: str) -> str:
        self.out(question)
        if sys.stdin is None:
            raise CommandError(f"nobody can answer here; use {flag}")
        try:
            return sys.stdin.readline().rstrip("\n")
        except KeyboardInterrupt:
            # Docker's client ends its line and takes ctrl-c for a no.
            self.out("\n")
            raise CommandError("", 0) from None

    def ask_secret(self, question: str, *, flag: str) -> str:
        """Like `ask`, and what is typed is not shown. Raises CommandError without a terminal."""
        import getpass

        if not self.is_terminal:
            raise CommandError(f"nobody can answer here; use {flag}")
        return getpass.getpass(question)

    def progress(self, message: Mapping[str, Any]) -> None:
        write = self.err if message.get("stderr") else self.out
        target = self._err if message.get("stderr") else self._out
        identifier = message.get("id") or ""
        if not target.isatty() or "stream" in message:
            write(plain_line(message))
            return
        line = f"{identifier}: {message.get('status', '')}" if identifier else message["status"]
        detail = message.get("progressDetail") or {}
        columns = self.terminal_size()[1] or 80
        drawn = bar(detail, columns)
        line += f" {drawn}" if drawn else ""
        if not identifier or "progressDetail" not in message:
            self._progress_rows.clear()
            write(f"{line}\n")
            return
        row = self._progress_rows.get(identifier)
        if row is None:
            self._progress_rows[identifier] = len(self._progress_rows)
            write(f"{line}\n")
            return
        up = len(self._progress_rows) - row
        write(f"\x1b[{up}A\r\x1b[2K{line[: columns - 1]}\r\x1b[{up}B")

    @contextlib.contextmanager
    def forwarding(self, send: Callable[[str], None]) -> Iterator[None]:
        """Hand the signals this process gets to `send`, by name without SIG, as Docker's client
        does. SIGINT is not among them: it arrives as KeyboardInterrupt."""

        def forward(number: int, _frame: object) -> None:
            send(signal.Signals(number).name.removeprefix("SIG"))

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, forward) for number in _FORWARDED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def raw_mode(self, resize: Callable[[int, int], None]) -> Iterator[None]:
        """Hand every key to the container; `resize` hears the size now and whenever it changes."""
        import termios
        import tty

        if not self.is_terminal:
            yield
            return
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)

        def tell_size(*_: object) -> None:
            rows, columns = self.terminal_size()
            if rows and columns:
                resize(rows, columns)

        previous = signal.signal(signal.SIGWINCH, tell_size)
        try:
            tty.setraw(descriptor)
            tell_size()
            yield
        finally:
            signal.signal(signal.SIGWINCH, previous)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

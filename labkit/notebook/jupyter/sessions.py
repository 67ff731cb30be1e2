"""Terminals that the extension has made, and what is remembered of those that have ended.

A terminal belongs to Jupyter's own terminal manager, so JupyterLab lists it, any number of pages
may show it, and it lives on while pages reload and kernels restart. A listener among its clients
keeps the end of its output: the manager forgets a terminal the moment its program has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import termios
from collections import OrderedDict
from typing import Any

from labkit.base.errors import Conflict, NotFound
from labkit.notebook.jupyter.request import TerminalRequest

__all__ = ["Session", "Sessions"]

_KEPT_CHARACTERS = 200_000
_KEPT_SESSIONS = 50
_LOOK_EVERY_S = 0.02


class _Listener:
    """Looks like one of terminado's websockets: hears output and the end, asks for no size."""

    size: tuple[int | None, int | None] = (None, None)

    def __init__(self) -> None:
        self.text = ""
        self.ended = asyncio.Event()

    def on_pty_read(self, text: str) -> None:
        self.text = (self.text + text)[-_KEPT_CHARACTERS:]

    def on_pty_died(self) -> None:
        self.ended.set()


class Session:
    """One terminal: running until its program has ended, then a record of it."""

    def __init__(self, name: str, request: TerminalRequest, terminal: Any) -> None:
        self.name = name
        self.request = request
        self._terminal = terminal
        self._listener = _Listener()
        self._was_left = False
        terminal.clients.append(self._listener)
        for piece in terminal.read_buffer:
            self._listener.on_pty_read(piece)

    @property
    def is_running(self) -> bool:
        return not self._listener.ended.is_set()

    @property
    def is_attached(self) -> bool:
        """Whether the client has made its terminal raw, which it does once the container runs."""
        if not self.is_running:
            return False
        try:
            # A pty's master shows what its other end is set to.
            return not termios.tcgetattr(self._terminal.ptyproc.fd)[3] & termios.ICANON
        except (termios.error, ValueError, OSError):
            return False

    @property
    def exit_code(self) -> int | None:
        """As a shell gives it; None while it runs, and where nobody knows."""
        if self.is_running:
            return None
        process = self._terminal.ptyproc
        if process.signalstatus:
            return 128 + int(process.signalstatus)
        return None if process.exitstatus is None else int(process.exitstatus)

    def describe(self) -> dict[str, Any]:
        """The session as the API gives it."""
        state = "running" if self.is_running else "left" if self._was_left else "ended"
        return {
            "name": self.name,
            "words": list(self.request.words),
            "state": state,
            "attached": self.is_attached,
            "exit_code": self.exit_code,
            "text": "" if self.is_running else self._listener.text,
        }

    async def wait_ended(self, timeout_s: float) -> bool:
        """Wait until the program has ended; whether it has."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._listener.ended.wait(), timeout_s)
        return not self.is_running

    async def wait_settled(self, timeout_s: float) -> None:
        """Wait until the container is attached or all is over, at most `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.is_running and not self.is_attached and loop.time() < deadline:
            await self.wait_ended(_LOOK_EVERY_S)

    def leave(self) -> None:
        """Type the keys that detach. Raises Conflict where nothing is attached."""
        if not self.is_attached:
            raise Conflict(f"terminal {self.name} has no container to be left")
        self._was_left = True
        self._terminal.ptyproc.write(self.request.detach_keys)


class Sessions:
    """All sessions of one server, the last fifty of those that have ended included."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def create(self, request: TerminalRequest) -> Session:
        """Start the client in a new terminal."""
        # The name is part of saved notebooks; a later server must not give it to another terminal.
        name = f"docker_{secrets.token_hex(6)}"
        self._manager.create(
            name=name,
            shell_command=request.argv,
            cwd=request.cwd,
            extra_env=dict(request.environment),
        )
        session = Session(name, request, self._manager.terminals[name])
        self._sessions[name] = session
        self._forget_old()
        return session

    def get(self, name: str) -> Session:
        """The session of that name. Raises NotFound."""
        session = self._sessions.get(name)
        if session is None:
            raise NotFound(
                f"no terminal {name}", hint="it ended with its server; run the cell again"
            )
        return session

    def _forget_old(self) -> None:
        ended = [name for name, session in self._sessions.items() if not session.is_running]
        for name in ended[: max(0, len(ended) - _KEPT_SESSIONS)]:
            del self._sessions[name]

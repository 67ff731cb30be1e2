"""Answers `/_ping` while the daemon still imports its libraries and finds its containers again.

A ping means "the daemon is there", and from the moment it listens that is true; loading the HTTP
library takes longer than a client should wait to learn it. So one small thread accepts, looks at
what each client asks without consuming it (MSG_PEEK), answers pings, and keeps every other
connection untouched. When the real server is ready it takes the kept connections over, request
unread, and the clients never know that they waited.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import threading
from collections.abc import Mapping, Sequence
from email.utils import formatdate

from labkit.daemon.identity import PING_HEADERS

__all__ = ["Doorman", "ping_answer"]

_HEAD_BYTES_MAX = 16384
_PARTIAL_PAUSE_S = 0.005
_PING = re.compile(rb"(GET|HEAD) (?:/v[0-9.]+)?/_ping(?:\?[^ ]*)? HTTP/1\.1\r\n")


def ping_answer(*, head_only: bool, close: bool = False) -> bytes:
    """The whole answer to a ping, byte for byte what the HTTP server gives later."""
    lines = ["HTTP/1.1 200 OK"]
    lines += [f"{name}: {value}" for name, value in PING_HEADERS.items()]
    lines += [
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {0 if head_only else 2}",
        f"Date: {formatdate(usegmt=True)}",
    ]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else b"OK")


class Doorman:
    """A thread that minds `listeners` until `hand_over` is called."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._kept: list[tuple[socket.socket, socket.socket]] = []
        self._reading: dict[int, tuple[socket.socket, socket.socket]] = {}
        self._bell, self._rung = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._mind, name="doorman", daemon=True)
        for listener in listeners:
            listener.setblocking(False)
        self._thread.start()

    def hand_over(self) -> Mapping[socket.socket, list[socket.socket]]:
        """Stop minding; the connections kept, by the listener they came through."""
        os.write(self._rung, b"x")
        self._thread.join()
        os.close(self._bell)
        os.close(self._rung)
        kept: dict[socket.socket, list[socket.socket]] = {
            listener: [] for listener in self._listeners.values()
        }
        for listener, connection in [*self._kept, *self._reading.values()]:
            kept[listener].append(connection)
        return kept

    def _mind(self) -> None:
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        for descriptor in self._listeners:
            poll.register(descriptor, select.POLLIN)
        partial = False
        while True:
            ready = poll.poll()
            if any(descriptor == self._bell for descriptor, _ in ready):
                return
            for descriptor, _ in ready:
                if descriptor in self._listeners:
                    self._accept(self._listeners[descriptor], poll)
                else:
                    partial = self._look(descriptor, poll) or partial
            if partial:
                # Half a request stays readable: without a pause the thread would spin on it.
                threading.Event().wait(_PARTIAL_PAUSE_S)
                partial = False

    def _accept(self, listener: socket.socket, poll: select.poll) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            self._reading[connection.fileno()] = (listener, connection)
            poll.register(connection.fileno(), select.POLLIN)

    def _look(self, descriptor: int, poll: select.poll) -> bool:
        """Serve or keep one connection; True when its request is not complete yet."""
        listener, connection = self._reading[descriptor]
        try:
            head = connection.recv(_HEAD_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            head = b""
        end = head.find(b"\r\n\r\n")
        if head and end < 0 and len(head) < _HEAD_BYTES_MAX:
            return True
        ping = _PING.match(head)
        if head and (ping is None or end < 0):
            poll.unregister(descriptor)
            del self._reading[descriptor]
            self._kept.append((listener, connection))
            return False
        close = not head or b"connection: close" in head[:end].lower()
        if ping is not None:
            connection.recv(end + 4)
            with contextlib.suppress(OSError):
                connection.send(ping_answer(head_only=ping.group(1) == b"HEAD", close=close))
        if close:
            poll.unregister(descriptor)
            del self._reading[descriptor]
            connection.close()
        return False

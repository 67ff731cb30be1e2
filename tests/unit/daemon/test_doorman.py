from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.daemon.doorman import Doorman
from labkit.daemon.sockets import listen_unix


def _connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(str(path))
    return client


@pytest.fixture
def listener(short_tmp: Path) -> Iterator[socket.socket]:
    with listen_unix(short_tmp / "s.sock") as listener:
        yield listener


def _answer(client: socket.socket, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        data += client.recv(1000)
    return data


def test_pings_are_answered_one_after_the_other(listener: socket.socket) -> None:
    doorman = Doorman([listener])
    with _connect_to(listener) as client:
        client.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        head = _answer(client, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Api-Version: 1.50\r\n" in head
        client.sendall(b"GET /v1.41/_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert _answer(client, b"OK").endswith(b"\r\n\r\nOK")
        kept = doorman.hand_over()[listener]
        assert len(kept) == 1  # alive, and the server's from now on
        kept[0].close()


def test_everything_else_waits_unread_for_the_server(listener: socket.socket) -> None:
    doorman = Doorman([listener])
    request = b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n"
    with _connect_to(listener) as client:
        client.sendall(request[:10])
        time.sleep(0.02)
        client.sendall(request[10:])
        time.sleep(0.02)
        [connection] = doorman.hand_over()[listener]
        with connection:
            connection.setblocking(True)
            assert connection.recv(1000) == request


def test_a_client_that_leaves_or_closes_is_forgotten(listener: socket.socket) -> None:
    doorman = Doorman([listener])
    _connect_to(listener).close()
    with _connect_to(listener) as client:
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
        assert _answer(client, b"OK")
        assert client.recv(10) == b""
    assert doorman.hand_over() == {listener: []}


def _connect_to(listener: socket.socket) -> socket.socket:
    # The address it was bound to has been renamed since: that is what listen_unix is about.
    bound = Path(listener.getsockname())
    return _connect(bound.with_name(bound.name.removeprefix(".").removesuffix(".new")))

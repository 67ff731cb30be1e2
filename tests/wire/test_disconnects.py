"""A client that goes away in the middle of anything costs nothing."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import socket
import time
from pathlib import Path

from .conftest import Lab

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
STREAMS = [
    ("GET", "/containers/web/logs?stdout=1&stderr=1&follow=1", ""),
    ("GET", "/containers/talks/logs?stdout=1&stderr=1&follow=1", ""),
    ("GET", "/events", ""),
    ("GET", "/containers/web/stats", ""),
    ("POST", "/containers/web/wait", "Content-Length: 0\r\n"),
    ("POST", "/containers/web/attach?stream=1&stdout=1&stdin=1", UPGRADE),
    ("POST", "/containers/talks/attach?stream=1&stdout=1&logs=1", UPGRADE),
]


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _settled(lab: Lab, pid: int, limit: int) -> int:
    """The number of open descriptors once it is at most `limit`, or after a while."""
    deadline = time.monotonic() + 10
    while (found := _descriptors(pid)) > limit and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _open_and_leave(lab: Lab, method: str, path: str, headers: str, *, half: bool) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(lab.paths.docker_socket))
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: d\r\n{headers}\r\n".encode())
        assert b"HTTP/1.1 " in client.recv(12)
        if half:
            client.shutdown(socket.SHUT_WR)


def test_streams_that_are_left_are_closed(clean_lab: Lab) -> None:
    lab = clean_lab
    lab.ok("run", "-d", "-i", "--name", "web", "busybox", "sleep", "1d")
    lab.ok("run", "-d", "--name", "talks", "busybox", "sh", "-c", "while echo x; do sleep 0.01; done")  # fmt: skip  # noqa: E501
    assert lab.process is not None
    pid = lab.process.pid
    for method, path, headers in STREAMS:  # what is opened once and kept counts as before
        _open_and_leave(lab, method, path, headers, half=False)
    time.sleep(0.5)
    before = _descriptors(pid)
    for number in range(10):
        for method, path, headers in STREAMS:
            _open_and_leave(lab, method, path, headers, half=number % 2 == 1)
    assert _settled(lab, pid, before) <= before
    assert lab.ok("ps", "-q").count("\n") == 2


def test_an_exec_that_is_left_half_way_leaves_nothing_open(clean_lab: Lab) -> None:
    lab = clean_lab
    lab.ok("run", "-d", "--name", "web", "busybox", "sleep", "1d")
    assert lab.process is not None
    pid = lab.process.pid
    lab.ok("exec", "web", "true")
    before = _descriptors(pid)
    for _ in range(5):
        body = {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True}
        _, made = lab.request("POST", "/containers/web/exec", body)
        headers = UPGRADE + "Content-Type: application/json\r\nContent-Length: 2\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(lab.paths.docker_socket))
            client.sendall(
                f"POST /exec/{made['Id']}/start HTTP/1.1\r\nHost: d\r\n{headers}\r\n{{}}".encode()
            )
            client.recv(100)
            client.sendall(b"typed\n")
    assert _settled(lab, pid, before) <= before


def test_many_clients_at_once(clean_lab: Lab) -> None:
    lab = clean_lab
    assert lab.process is not None
    pid = lab.process.pid
    lab.ok("run", "--rm", "busybox", "true")
    before = _descriptors(pid)

    def life(number: int) -> str:
        status, made = lab.request(
            "POST",
            f"/containers/create?name=many{number}",
            {
                "Image": "busybox",
                "Cmd": ["echo", f"number {number}"],
                "HostConfig": {"NetworkMode": "none"},
            },
        )
        assert status == 201, made
        assert lab.request("POST", f"/containers/{made['Id']}/start")[0] == 204
        assert lab.request("POST", f"/containers/{made['Id']}/wait") == (200, {"StatusCode": 0})
        _, text = lab.request("GET", f"/containers/{made['Id']}/logs?stdout=1")
        assert lab.request("DELETE", f"/containers/{made['Id']}")[0] == 204
        return str(text)[8:]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(life, range(48))) == [f"number {n}\n" for n in range(48)]
    assert lab.ok("ps", "-aq") == ""
    assert _settled(lab, pid, before + 2) <= before + 2  # idle connections close a little later
    with contextlib.suppress(FileNotFoundError):
        assert not list(Path(lab.paths.host_data() / "containers").iterdir())

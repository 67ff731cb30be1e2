"""A small Docker Engine that answers from a table and remembers what it was asked.

It speaks to our client and to the real one alike, so that both can be compared without a lab.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body.strip() else None


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    lines: list[Any] | None = None  # a stream of JSON lines
    frames: list[tuple[int, bytes]] | None = None  # multiplexed output
    hijack: Callable[[socket.socket], None] | None = None
    raw: bytes | None = None


Route = Callable[[Request], Answer]


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class FakeEngine:
    """Routes: method, expression of the path below /vX.Y, Answer or function; the last wins."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, re.Pattern[str], Route | Answer]] = []
        self.requests: list[Request] = []
        self.api_version = "1.50"

    def on(self, method: str, pattern: str, answer: Route | Answer | Any) -> None:
        if not isinstance(answer, Answer) and not callable(answer):
            answer = Answer(body=answer)
        self.routes.insert(0, (method, re.compile(pattern + r"\Z"), answer))

    def asked(self, method: str, pattern: str = ".*") -> list[Request]:
        compiled = re.compile(pattern)
        return [r for r in self.requests if r.method == method and compiled.search(r.path)]

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if request.path == "/_ping":
            return Answer(headers={"Api-Version": self.api_version, "Ostype": "linux"}, raw=b"OK")
        for method, pattern, route in self.routes:
            if method == request.method and pattern.match(request.path):
                return route(request) if callable(route) else route
        return Answer(404, {"message": "page not found"})

    @contextlib.contextmanager
    def serving(self, socket_path: Path) -> Iterator[str]:
        engine = self

        class Handler(_Handler):
            fake = engine

        server = _Server(str(socket_path), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{socket_path}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            socket_path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away early is part of the tests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEngine
    wbufsize = -1

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            data = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self) -> None:
        split = urlsplit(self.path)
        path = re.sub(r"^/v\d+\.\d+", "", split.path)
        request = Request(
            self.command,
            path,
            parse_qs(split.query, keep_blank_values=True),
            self._body(),
            dict(self.headers.items()),
        )
        answer = self.fake.answer(request)
        if answer.hijack is not None:
            self._hijack(answer)
        elif answer.lines is not None or answer.frames is not None:
            self._stream(answer)
        else:
            self._plain(answer)

    def _plain(self, answer: Answer) -> None:
        data = b"" if answer.body is None else json.dumps(answer.body).encode()
        if answer.raw is not None:
            data = answer.raw
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Type" not in answer.headers:
            self.send_header("Content-Type", "application/json")
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and answer.status not in (204, 304):
            self.wfile.write(data)
        self.wfile.flush()

    def _stream(self, answer: Answer) -> None:
        self.send_response(answer.status)
        kind = "application/json"
        if answer.frames is not None:
            kind = "application/vnd.docker.multiplexed-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = [frame(*item) for item in answer.frames or ()]
        pieces += [json.dumps(item).encode() + b"\r\n" for item in answer.lines or ()]
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _hijack(self, answer: Answer) -> None:
        assert answer.hijack is not None
        self.wfile.write(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        self.wfile.flush()
        self.close_connection = True
        answer.hijack(self.connection)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = _serve  # noqa: N815 - http.server asks so

"""A small, bounded HTTP client for reading a lab's APIs.

The other side may be under the influence of the very notebook that is being graded, so every
answer has a deadline and a size limit, and nothing is retried.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from labkit.base.errors import (
    Conflict,
    InvalidParameter,
    LabkitError,
    NotFound,
    SystemFailure,
    Unavailable,
)

__all__ = ["Api", "connect_address", "connect_unix"]

_MAX_ANSWER_BYTES = 16 << 20


def connect_unix(path: str | os.PathLike[str], *, timeout_s: float = 10.0) -> socket.socket:
    """A connection to the unix socket at `path`, however long the path is.

    A long path is reached through a descriptor of its folder, because sun_path holds 108 bytes.
    """
    text = os.fspath(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    folder = -1
    try:
        if len(os.fsencode(text)) > 107:
            folder = os.open(os.path.dirname(text), os.O_PATH | os.O_CLOEXEC)
            text = f"/proc/self/fd/{folder}/{os.path.basename(text)}"
        connection.connect(text)
    except OSError as error:
        connection.close()
        raise Unavailable(
            f"cannot reach the lab at {os.fspath(path)}: {error.strerror or error}",
            hint="start it with: labkit up",
        ) from error
    finally:
        if folder >= 0:
            os.close(folder)
    return connection


def connect_address(address: str, *, timeout_s: float = 10.0) -> socket.socket:
    """A connection to `unix://PATH` or `tcp://HOST:PORT` (as in DOCKER_HOST)."""
    kind, _, rest = address.partition("://")
    if kind == "unix":
        return connect_unix(rest, timeout_s=timeout_s)
    host, _, port = rest.partition(":")
    if kind not in ("tcp", "http") or not port.isdecimal():
        raise InvalidParameter(f"cannot read the address {address!r}: use unix:// or tcp://")
    try:
        return socket.create_connection((host, int(port)), timeout=timeout_s)
    except OSError as error:
        raise Unavailable(f"cannot reach {address}: {error.strerror or error}") from error


class Api:
    """One HTTP endpoint behind `connect`, which gives a fresh connected socket for each request.

    `timeout_s` bounds every single wait, `deadline_s` the whole answer.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        *,
        prefix: str = "",
        timeout_s: float = 20.0,
        deadline_s: float = 60.0,
        max_bytes: int = _MAX_ANSWER_BYTES,
    ) -> None:
        self._connect = connect
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The decoded JSON answer; LabkitError for a refusal."""
        return _decode(self.read("GET", path, query=query), path)

    def lines(self, path: str, query: Mapping[str, str] | None = None) -> list[Any]:
        """An answer made of one JSON document after the other."""
        text = self.read("GET", path, query=query).decode("utf-8", "replace")
        decoder, found, position = json.JSONDecoder(), [], 0
        text = text.strip()
        while position < len(text):
            value, end = decoder.raw_decode(text, position)
            found.append(value)
            while end < len(text) and text[end].isspace():
                end += 1
            position = end
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The decoded JSON answer to a POST."""
        return _decode(self.read("POST", path, body=body), path)

    def read(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The whole body of the answer, as bytes."""
        target = self._prefix + quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Host": "labkit", "Connection": "close"}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("labkit", timeout=self._timeout_s)
        connection.sock = self._connect()
        connection.sock.settimeout(self._timeout_s)
        try:
            connection.request(method, target, body=payload, headers=headers)
            response = connection.getresponse()
            data = self._read_bounded(response, path)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"the lab gave no usable answer to {path}: {error}") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise _error_for(response.status, data, path)
        return data

    def _read_bounded(self, response: http.client.HTTPResponse, path: str) -> bytes:
        end = time.monotonic() + self._deadline_s
        parts: list[bytes] = []
        size = 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                raise SystemFailure(f"the answer to {path} is larger than {self._max_bytes} bytes")
            if time.monotonic() > end:
                raise Unavailable(f"the answer to {path} did not end in {self._deadline_s:.0f} s")
        return b"".join(parts)


def _decode(data: bytes, path: str) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError as error:
        raise SystemFailure(f"the lab's answer to {path} is not JSON: {error}") from error


def _error_for(status: int, data: bytes, path: str) -> LabkitError:
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"{path} was refused with status {status}"
    kinds: dict[int, type[LabkitError]] = {
        400: InvalidParameter,
        404: NotFound,
        409: Conflict,
        503: Unavailable,
    }
    return kinds.get(status, SystemFailure)(message)

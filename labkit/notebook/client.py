"""A small client of the Docker Engine API and of labkit's own API.

It is built on `http.client` because its import is a fifth of the Docker SDK's, and because
two things are needed that the SDK hides: the raw JSON (for `--format`) and the half-close of a
hijacked stream (the end of stdin, after which output still flows).

Nothing here prints. Failures are `ApiError` (the other side answered) or `ConnectFailed`
(it did not); both are leaves of `labkit.base.errors`.
"""

from __future__ import annotations

import http.client
import json as jsonlib
import os
import select
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from labkit.base.errors import InvalidParameter, Unavailable
from labkit.base.paths import LabPaths
from labkit.notebook.apierrors import ApiError, ConnectFailed, api_error, error_from
from labkit.notebook.streams import HijackedStream, Response, StreamResponse

if TYPE_CHECKING:
    import ssl

__all__ = [
    "API_VERSION_MAX",
    "ApiError",
    "Client",
    "ConnectFailed",
    "HijackedStream",
    "LabClient",
    "Response",
    "StreamResponse",
    "api_error",
    "ensure_daemon",
    "is_daemon_running",
]

API_VERSION_MAX = "1.50"
_CHUNK = 1 << 16


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def encode_query(query: Mapping[str, Any] | None) -> str:
    """A query as Go's client writes it: sorted keys, true as 1, mappings as compact JSON."""
    if not query:
        return ""
    pairs: list[tuple[str, str]] = []
    for key in sorted(query):
        value = query[key]
        if value is None or value is False:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                item = "1"
            elif isinstance(item, Mapping):
                item = jsonlib.dumps(item, separators=(",", ":"), sort_keys=True)
            pairs.append((key, str(item)))
    return "?" + urlencode(pairs) if pairs else ""


class Client:
    """One engine's address and the requests it understands.

    `address` is `unix:///path`, `tcp://host:port` or `http(s)://host:port`; None means the
    lab's own engine. `tls` is an `ssl.SSLContext` for tcp. Idle connections are kept and
    reused; a client may be shared by threads and survives a fork.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float | None = None,
        name: str = "",
    ) -> None:
        self.address = address or f"unix://{LabPaths.from_environment().docker_socket}"
        self.context_name = name
        self.timeout_s = timeout_s
        self._tls = tls
        self._idle: list[http.client.HTTPConnection] = []
        self._idle_pid = os.getpid()
        self._lock = threading.Lock()
        self._api_version: str | None = None

    @property
    def is_local_lab(self) -> bool:
        """Whether this is the lab's own engine, which may be started on demand."""
        return self.address == f"unix://{LabPaths.from_environment().docker_socket}"

    @classmethod
    def from_environment(cls, *, host: str | None = None, context: str | None = None) -> Client:
        """The engine that `host`, `context`, DOCKER_HOST, DOCKER_CONTEXT or the current context of
        Docker's configuration name, in this order; the lab's own engine where none does."""
        from labkit.notebook.endpoint import resolve

        endpoint = resolve(host=host, context=context)
        if endpoint is None:
            return cls()
        return cls(endpoint.address, tls=endpoint.tls_context(), name=endpoint.context)

    # -- connections ---------------------------------------------------------------------

    def _new_connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        scheme, _, rest = self.address.partition("://")
        if scheme == "unix":
            return _UnixConnection(rest, timeout_s)
        if scheme not in ("tcp", "http", "https"):
            raise InvalidParameter(
                f"unable to parse docker host `{self.address}`",
                hint="use unix:///path/to/docker.sock or tcp://host:port",
            )
        authority = rest.split("/", 1)[0]
        host, _, port_text = authority.rpartition(":")
        port = int(port_text) if host and port_text.isdecimal() else None
        host = (host if port is not None else authority).strip("[]") or "localhost"
        if self._tls is not None or scheme == "https":
            return http.client.HTTPSConnection(
                host, port or 2376, timeout=timeout_s, context=self._tls
            )
        return http.client.HTTPConnection(host, port or 2375, timeout=timeout_s)

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        with self._lock:
            if self._idle_pid != os.getpid():
                # After a fork the parent goes on using these sockets; forget, do not close TLS.
                self._idle, self._idle_pid = [], os.getpid()
            while self._idle:
                connection = self._idle.pop()
                if connection.sock is not None and not _is_readable(connection.sock):
                    connection.sock.settimeout(timeout_s)
                    return connection
                connection.close()  # the engine closed it, or wrote where it should not
        return self._new_connection(timeout_s)

    def _release(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < 4 and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close idle connections. The client can still be used."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        # A client that nobody closed owns at most idle sockets; the fork's parent keeps its own.
        if getattr(self, "_idle_pid", None) == os.getpid():
            for connection in self._idle:
                connection.close()

    # -- requests ------------------------------------------------------------------------

    @property
    def api_version(self) -> str:
        """The version spoken: the smaller of ours and the engine's, asked once."""
        if self._api_version is None:
            self._api_version = self._negotiate()
        return self._api_version

    def _negotiate(self) -> str:
        forced = os.environ.get("DOCKER_API_VERSION")
        if forced:
            return forced.removeprefix("v")
        headers = self.ping()
        announced = headers.get("Api-Version", "") or "1.24"
        return min(API_VERSION_MAX, announced, key=_version_key)

    def ping(self, *, timeout_s: float | None = None) -> http.client.HTTPMessage:
        """Headers of `/_ping`; raises ConnectFailed when nothing answers."""
        response = self._send("HEAD", "/_ping", timeout_s=timeout_s, read=True)
        if response.status != 200:
            response = self._send("GET", "/_ping", timeout_s=timeout_s, read=True)
        return response.headers

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        check: bool = True,
    ) -> Response:
        """Send one request below `/vX.Y` and read the whole answer.

        Raises ApiError for a status of 400 and above when `check`.
        """
        response = self._send(
            method,
            self._path(path, query),
            json_body=json,
            body=body,
            headers=headers,
            timeout_s=timeout_s,
            read=True,
        )
        assert isinstance(response, Response)
        if check and response.status >= 400:
            raise error_from(response.status, response.body)
        return response

    def json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """JSON of the answer to one request; `body` is sent as JSON."""
        return self.request(method, path, query=query, json=body, timeout_s=timeout_s).json()

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> StreamResponse:
        """Send one request and return as soon as the headers of the answer are there."""
        response = self._send(
            method,
            self._path(path, query),
            json_body=json,
            body=body,
            headers=headers,
            timeout_s=timeout_s,
            read=False,
        )
        assert isinstance(response, StreamResponse)
        if response.status >= 400:
            with response:
                raise error_from(response.status, response.read())
        return response

    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[Any]:
        """The JSON values of a streaming answer, as they arrive (arguments as for `open`)."""
        with self.open(method, path, **arguments) as response:
            yield from response.json_lines()

    def hijack(
        self,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> HijackedStream:
        """POST an upgrade request and take over its connection."""
        merged = {"Connection": "Upgrade", "Upgrade": "tcp", **(headers or {})}
        if json is None:
            merged.setdefault("Content-Type", "text/plain")
        target = self._path(path, query)
        connection = self._new_connection(self.timeout_s)
        try:
            self._write(connection, "POST", target, *_encode(json, None, merged))
            sock = connection.sock
            assert sock is not None
            response = connection.getresponse()
            if response.status >= 400:
                raise error_from(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        reader = response.fp
        # What arrived together with the headers already sits in the reader's buffer.
        sock.setblocking(False)
        try:
            buffered = (reader.read1(_CHUNK) or b"") if reader is not None else b""
        except OSError:
            buffered = b""
        sock.settimeout(None)
        duplicate = sock if hasattr(sock, "unwrap") else sock.dup()
        if duplicate is not sock:
            response.close()
            connection.close()
        return HijackedStream(duplicate, buffered, response.status, response.headers)

    def _path(self, path: str, query: Mapping[str, Any] | None) -> str:
        return f"/v{self.api_version}{_escape(path)}{encode_query(query)}"

    def _send(
        self,
        method: str,
        target: str,
        *,
        json_body: Any = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        read: bool,
    ) -> Response | StreamResponse:
        data, merged = _encode(json_body, body, headers)
        limit = self.timeout_s if timeout_s is None else timeout_s
        connection = self._connection(limit) if read else self._new_connection(limit)
        try:
            self._write(connection, method, target, data, merged)
            response = connection.getresponse()
            if not read:
                return StreamResponse(connection, response)
            answer = Response(response.status, response.headers, response.read())
        except TimeoutError as error:
            connection.close()
            raise Unavailable(f"{self.address} did not answer within {limit} s") from error
        except (http.client.HTTPException, ConnectionError) as error:
            connection.close()
            raise self._lost(error) from error
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._release(connection)
        return answer

    def _write(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        data: Any,
        headers: Mapping[str, str],
    ) -> None:
        if connection.sock is None:
            try:
                connection.connect()
            except OSError as error:
                raise self._connect_failed(error) from error
        try:
            connection.request(
                method, target, body=data, headers=dict(headers), encode_chunked=_is_stream(data)
            )
        except (BrokenPipeError, ConnectionResetError):
            # The engine may refuse an upload before it has read all of it; its answer says why.
            if not _is_stream(data):
                raise

    def _connect_failed(self, error: OSError) -> ConnectFailed:
        if isinstance(error, PermissionError):
            kind = "unix" if self.address.startswith("unix") else "tcp"
            path = self.address.partition("://")[2]
            return ConnectFailed(
                "permission denied while trying to connect to the Docker daemon socket at "
                f'{self.address}: Head "http://{quote(path, safe="")}/_ping": '
                f"dial {kind} {path}: connect: permission denied",
                hint="the socket belongs to another user",
            )
        return ConnectFailed(
            f"Cannot connect to the Docker daemon at {self.address}. Is the docker daemon running?",
            hint="start the lab with: labkit up",
        )

    def _lost(self, error: Exception) -> Unavailable:
        paths = LabPaths.from_environment()
        hint = None
        if self.address in (f"unix://{paths.docker_socket}", f"unix://{paths.lab_socket}"):
            # It listens before it is sure that it can serve; its log says why it could not.
            from labkit.notebook.spawn import last_error

            said = last_error(paths)
            hint = f"the daemon's last error ({paths.daemon_log}): {said}" if said else None
        return Unavailable(
            f"error during connect: {self.address} closed the connection: {error}", hint=hint
        )


class LabClient(Client):
    """labkit's own API (paths begin with `/v1/`) on labkit.sock: views, boxes, status."""

    def __init__(self, address: str | None = None, *, timeout_s: float | None = 90.0) -> None:
        super().__init__(
            address or f"unix://{LabPaths.from_environment().lab_socket}", timeout_s=timeout_s
        )

    def _path(self, path: str, query: Mapping[str, Any] | None) -> str:
        return f"{_escape(path)}{encode_query(query)}"


def _encode(
    json_body: Any, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str] | None
) -> tuple[Any, dict[str, str]]:
    merged = {"User-Agent": "labkit", **(headers or {})}
    if json_body is None:
        if body is not None and not isinstance(body, bytes):
            merged["Transfer-Encoding"] = "chunked"
        return body, merged
    merged.setdefault("Content-Type", "application/json")
    return jsonlib.dumps(json_body, separators=(",", ":")).encode() + b"\n", merged


def _escape(path: str) -> str:
    return quote(path, safe="/:@+,=~!$&()*;")


def _is_stream(data: Any) -> bool:
    return data is not None and not isinstance(data, bytes)


def _is_readable(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in text.split("."))


def ensure_daemon(
    paths: LabPaths | None = None, *, wait_s: float = 30.0, options: Sequence[str] = ()
) -> LabPaths:
    """Start the lab's daemon unless it answers, and wait until it does.

    `options` are arguments of `python -m labkit.daemon`; they are ignored when one is running.
    Two callers at once start one daemon. Raises Unavailable with the last lines of the daemon's
    log when it ended while starting (at once) or has not answered after `wait_s` seconds, which is
    long because a machine without acceleration takes ten to import what others do in a tenth.
    """
    from labkit.notebook.spawn import ensure

    return ensure(paths or LabPaths.from_environment(), wait_s, options)


def is_daemon_running(paths: LabPaths) -> bool:
    """Whether the lab's engine answers now; starts nothing."""
    from labkit.notebook.spawn import answers

    return answers(paths)

"""`--log-driver syslog` and `journald`: a container's lines, sent on to a socket the user names.

The shim writes the lines to files as always; here a task per container reads them back and sends
them, and remembers how far it came. A daemon that dies loses nothing: the next one goes on there.
Messages are those of RFC 3164 (as Docker sends them to a local socket), RFC 5424, or of
systemd-journald's native protocol. A receiver that goes away is tried again until the container is
removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labkit.base.errors import InvalidParameter, StartFailure
from labkit.host.engine.container import Container
from labkit.host.engine.filters import parse_time_ns
from labkit.host.engine.hostconfig import LogConfig
from labkit.host.engine.logdrivers import is_forwarded, log_attributes, log_file, log_tag
from labkit.host.engine.logfiles import LogFiles
from labkit.host.engine.logs import log_source
from labkit.host.engine.times import format_time

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["Record", "check_address", "check_receiver", "messages", "start_forwarding"]

_FACILITIES_TEXT = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock "
    "local0 local1 local2 local3 local4 local5 local6 local7"
)
_FACILITIES = tuple(_FACILITIES_TEXT.split())
_INFO, _ERROR = 6, 3
_SCHEMES = ("unix", "unixgram", "tcp", "udp")
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_RETRY_S = 1.0
_DATAGRAM_BYTES = 60_000
_OPTION = {"syslog": "syslog-address", "journald": "journald-address"}


@dataclass(frozen=True, slots=True)
class Record:
    """One line as the log keeps it."""

    text: str
    stream: str
    at_ns: int


def check_address(log: LogConfig) -> None:
    """Refuse a driver's options that lead nowhere, with Docker's sentences where it has them."""
    options = log.config or {}
    key = _OPTION[log.type]
    address = options.get(key)
    if not address:
        raise InvalidParameter(
            f"failed to initialize logging driver: {log.type} needs --log-opt {key}=… here",
            hint="a lab host runs no log service; name a socket, such as unixgram:///tmp/log.sock",
        )
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES or (log.type == "journald" and parts.scheme != "unixgram"):
        raise InvalidParameter(f"{key} should be in form proto://address, got {address}")
    if parts.scheme.startswith("unix") and not parts.path.startswith("/"):
        raise InvalidParameter(f"{key} should be in form proto://address, got {address}")
    if not parts.scheme.startswith("unix"):
        try:
            named = parts.hostname and parts.port is not None
        except ValueError:
            named = False
        if not named and parts.hostname is None:
            raise InvalidParameter(f"{key} should be in form proto://address, got {address}")
    facility = options.get("syslog-facility", "daemon")
    if facility not in _FACILITIES and not (facility.isdecimal() and int(facility) <= 23):
        raise InvalidParameter("invalid syslog facility")
    if options.get("syslog-format", "") not in _FORMATS:
        raise InvalidParameter("Invalid syslog format")


# -- messages ------------------------------------------------------------------------------------


def messages(container: Container, record: Record) -> bytes:
    """`record` as the driver's protocol has it."""
    log = container.host.log_config
    source = log_source(container)
    options = log.config or {}
    tag = log_tag(options.get("tag") or "{{.ID}}", source)
    text = record.text.removesuffix("\n")
    severity = _ERROR if record.stream == "stderr" else _INFO
    if log.type == "journald":
        fields = {
            "MESSAGE": text,
            "PRIORITY": str(severity),
            "CONTAINER_ID": container.id[:12],
            "CONTAINER_ID_FULL": container.id,
            "CONTAINER_NAME": container.name,
            "CONTAINER_TAG": tag,
            "IMAGE_NAME": source.image,
            "SYSLOG_IDENTIFIER": tag,
            "SYSLOG_TIMESTAMP": format_time(record.at_ns),
        }
        for name, value in log_attributes(log, source).items():
            if name != "tag":
                fields[_journal_name(name)] = value
        return b"".join(_journal_field(name, value) for name, value in fields.items() if name)
    word = options.get("syslog-facility", "daemon")
    facility = int(word) if word.isdecimal() else _FACILITIES.index(word)
    head = f"<{facility * 8 + severity}>"
    form = options.get("syslog-format", "")
    if form.startswith("rfc5424"):
        moment = _rfc3339(record.at_ns, micro=form.endswith("micro"))
        line = f"{head}1 {moment} {os.uname().nodename} {tag} {os.getpid()} {tag} - {text}\n"
        return line.encode("utf-8", "replace")
    local = time.localtime(record.at_ns // 1_000_000_000)
    moment = f"{time.strftime('%b', local)} {local.tm_mday:2d} {time.strftime('%H:%M:%S', local)}"
    host = f" {os.uname().nodename}" if form == "rfc3164" else ""
    return f"{head}{moment}{host} {tag}[{os.getpid()}]: {text}\n".encode("utf-8", "replace")


def _rfc3339(at_ns: int, *, micro: bool) -> str:
    seconds, rest = divmod(at_ns, 1_000_000_000)
    base = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{base}.{rest // 1000:06d}Z" if micro else f"{base}Z"


def _journal_name(name: str) -> str:
    """Letters, digits and underscores, not first an underscore (systemd.journal-fields(7))."""
    return "".join(char if char.isalnum() else "_" for char in name.upper()).lstrip("_0123456789")


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


# -- the receiver --------------------------------------------------------------------------------


def _connect(context: Context, log: LogConfig) -> socket.socket:
    """A connected socket; OSError when nobody is there."""
    parts = urlsplit((log.config or {})[_OPTION[log.type]])
    if not parts.scheme.startswith("unix"):
        kind = socket.SOCK_STREAM if parts.scheme == "tcp" else socket.SOCK_DGRAM
        where = (parts.hostname or "localhost", parts.port or 514)
        family, _, _, _, address = socket.getaddrinfo(*where, type=kind)[0]
        return _connected(socket.socket(family, kind), address)
    path = context.opened(parts.path)
    kinds = (socket.SOCK_DGRAM,) if parts.scheme == "unixgram" else (
        socket.SOCK_DGRAM, socket.SOCK_STREAM,
    )  # fmt: skip
    # A socket's address is short; the folder may be deep.
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for kind in kinds:
            with contextlib.suppress(OSError):
                name = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
                return _connected(socket.socket(socket.AF_UNIX, kind), name)
        os.stat(path)
        raise ConnectionRefusedError(111, "Connection refused")
    finally:
        os.close(folder)


def _connected(made: socket.socket, address: Any) -> socket.socket:
    try:
        made.settimeout(10)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


async def check_receiver(context: Context, container: Container) -> None:
    """Before a start: StartFailure, in Docker's words, when nobody would take the lines."""
    log = container.host.log_config
    if not is_forwarded(log):
        return
    try:
        (await asyncio.to_thread(_connect, context, log)).close()
    except OSError as error:
        parts = urlsplit((log.config or {})[_OPTION[log.type]])
        where = parts.path if parts.scheme.startswith("unix") else parts.netloc
        raise StartFailure(
            "failed to create task for container: failed to initialize logging driver: "
            f"dial {parts.scheme} {where}: connect: {(error.strerror or str(error)).lower()}"
        ) from error


class _Sender:
    """Runs in threads, one call at a time."""

    def __init__(self, context: Context, container: Container, path: Path) -> None:
        self._context = context
        self._container = container
        self._cursor = path.with_name("forwarded.json")
        self._files = LogFiles(path)
        self._socket: socket.socket | None = None

    def open(self) -> None:
        try:
            found = json.loads(self._cursor.read_text())
            self._files.open_at(int(found["inode"]), int(found["offset"]))
        except (OSError, ValueError, KeyError, TypeError):
            self._files.open(None)

    def step(self) -> bool:
        """Send the next lines; False when there are none. OSError: the receiver is away."""
        before = self._files.position()
        lines = self._files.read()
        if not lines:
            return False
        try:
            if self._socket is None:
                self._socket = _connect(self._context, self._container.host.log_config)
            for line in lines.splitlines():
                record = _record(line)
                if record is not None:
                    data = messages(self._container, record)
                    if self._socket.type == socket.SOCK_DGRAM:
                        self._socket.send(data[:_DATAGRAM_BYTES])
                    else:
                        self._socket.sendall(data)
        except OSError:
            self._forget_socket()
            self._files.close()
            self._files.open_at(*before)
            raise
        inode, offset = self._files.position()
        temporary = self._cursor.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({"inode": inode, "offset": offset}))
            temporary.replace(self._cursor)
        return True

    def _forget_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._forget_socket()
        self._files.close()


def _record(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        return Record(found["log"], found["stream"], parse_time_ns(found["time"], 0))
    except (ValueError, KeyError, TypeError, InvalidParameter):
        return None


def start_forwarding(context: Context, container: Container) -> None:
    """Follow the container's log until it has ended and all of it is sent."""
    log = container.host.log_config
    path = log_file(context.folder(container.id), container.id, log)
    if is_forwarded(log) and path is not None:
        context.spawn(_forward(context, container, path), f"forward {container.name}")


async def _forward(context: Context, container: Container, path: Path) -> None:
    grown = asyncio.Event()
    unwatch = context.folders.watch(path.parent, grown.set)
    sender = _Sender(context, container, path)
    try:
        await asyncio.to_thread(sender.open)
        while container.id in context.containers:
            is_over = not container.state.is_live
            grown.clear()
            try:
                if await asyncio.to_thread(sender.step):
                    continue
            except OSError:
                await asyncio.sleep(_RETRY_S)
                continue
            if is_over:
                return
            waits = [asyncio.ensure_future(event.wait()) for event in (grown, container.exited)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()
    finally:
        unwatch()
        await asyncio.shield(asyncio.to_thread(sender.close))

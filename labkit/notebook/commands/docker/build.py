"""`build` as Docker's client speaks to the classic builder, and `builder prune`.

The context travels as a tar while it is read; only what `.dockerignore` leaves is opened.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, InvalidParameter, LabkitError
from labkit.base.gitcontext import checkout, is_git_url
from labkit.base.quantities import format_size
from labkit.notebook.commands.docker import build_context, config_file
from labkit.notebook.commands.progress import plain_line, show_progress

if TYPE_CHECKING:
    from labkit.notebook.commands.surface import Surface
    from labkit.notebook.commands.tree import Call

__all__ = ["build", "prune"]

Count = Callable[[int], None]

_CHUNK = 1 << 16
_EVERY_S = 0.1
_SENDING = "Sending build context to Docker daemon"
_ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


class _Told:
    """What the client says while it sends: on a terminal as it goes, elsewhere the last of it."""

    def __init__(self, call: Call, words: str = _SENDING) -> None:
        self._surface = call.surface
        self._quiet = call.flags["quiet"]
        self._is_live = not self._quiet and bool(
            getattr(call.surface, "stdout_is_terminal", call.surface.is_terminal)
        )
        self._words = words
        self._said = 0.0
        self.count = 0
        self.held = ""

    def add(self, count: int) -> None:
        self.count += count
        now = time.monotonic()
        if self._is_live and now - self._said > _EVERY_S:
            self._said = now
            self._surface.out(f"{self._line()}\r")

    def _line(self) -> str:
        return f"{self._words} {format_size(self.count):>8}"

    def end(self) -> None:
        text = f"{self._line()}\r\r\n"
        if self._quiet:
            self.held += text
        else:
            self._surface.out(text)


def _uncounted(_size: int) -> None:
    """What is compressed is counted behind the compressor."""


@dataclass(frozen=True, slots=True)
class _Upload:
    """A stream to send, and the Dockerfile's name in it ("" lets the engine choose)."""

    pieces: Iterator[bytes]
    dockerfile: str


def build(call: Call) -> int:
    """Build an image from a Dockerfile."""
    with ExitStack() as stack:
        return _build(call, stack)


def _build(call: Call, stack: ExitStack) -> int:
    flags = call.flags
    if flags["squash"] and not _is_experimental(call):
        raise CommandError(
            '"--squash" is only supported on a Docker daemon with experimental features enabled'
        )
    told = _Told(call)
    count: Count = _uncounted if flags["compress"] else told.add
    upload = _prepared(call, count, stack)
    pieces = _compressed(upload.pieces, told.add) if flags["compress"] else upload.pieces
    headers = {
        **config_file.header_fields(),
        **config_file.auth_headers(),
        "Content-Type": "application/x-tar",
    }
    query = {"dockerfile": upload.dockerfile or None, **_query(call)}
    sink = _QuietSink(call.surface) if flags["quiet"] else None
    try:
        messages = call.client.stream(
            "POST", "/build", query=query, body=_ended(pieces, told), headers=headers
        )
        aux = show_progress(messages, sink or call.surface)
    except LabkitError:
        if sink is not None:
            call.surface.err(told.held + sink.text)
        raise
    identifier = str(aux.get("ID") or "")
    if sink is not None:
        identifier = sink.text
        call.surface.out(sink.text)
    if flags["iidfile"]:
        if not identifier:
            raise CommandError(
                f"server did not provide an image ID. Cannot write {flags['iidfile']}"
            )
        _write_id(call.cwd / flags["iidfile"], str(flags["iidfile"]), identifier)
    return 0


def _is_experimental(call: Call) -> bool:
    return call.client.ping().get("Docker-Experimental") == "true"


def _write_id(path: Path, shown: str, identifier: str) -> None:
    try:
        path.write_text(identifier)
    except OSError as error:
        raise CommandError(f"open {shown}: {(error.strerror or '').lower()}") from None


class _QuietSink:
    """A surface for -q: what the engine says is kept, and shown only when the build fails."""

    def __init__(self, surface: Surface) -> None:
        self._surface = surface
        self.text = ""

    def progress(self, message: Mapping[str, Any]) -> None:
        self.text += plain_line(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._surface, name)


# -- what is sent --------------------------------------------------------------------------


def _prepared(call: Call, count: Count, stack: ExitStack) -> _Upload:
    source, dockerfile = call.args[0], str(call.flags["file"])
    if dockerfile == "-" and source == "-":
        raise CommandError(
            "invalid argument: can't use stdin for both build context and dockerfile"
        )
    if source == "-":
        return _from_reader(_chunks(_stdin(call)), dockerfile, count)
    given = _stdin(call).read() if dockerfile == "-" else None
    if given is not None:
        dockerfile = ""
    folder = call.cwd / source
    if folder.exists():
        pass
    elif is_git_url(source):
        target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-context-")))
        try:
            folder = checkout(source, target)
        except InvalidParameter as error:
            text = f"unable to prepare context: {error.message}"
            raise CommandError(text, hint=error.hint) from None
        return _local(folder, folder, dockerfile, given, count)
    elif source.startswith(("http://", "https://")):
        return _from_reader(_downloaded(call, source, stack), dockerfile, count)
    else:
        raise CommandError(f'unable to prepare context: path "{source}" not found')
    return _local(folder, call.cwd, dockerfile, given, count)


def _local(folder: Path, cwd: Path, dockerfile: str, given: bytes | None, count: Count) -> _Upload:
    context = build_context.local_context(folder, cwd, dockerfile, given)
    return _Upload(build_context.archive(context, count), context.dockerfile)


def _stdin(call: Call) -> Any:
    if call.surface.stdin is None:
        raise CommandError("there is no stdin to read from", hint="%%docker build - reads the cell")
    return call.surface.stdin


def _chunks(source: Any) -> Iterator[bytes]:
    while data := source.read(_CHUNK):
        yield data


def _from_reader(pieces: Iterable[bytes], dockerfile: str, count: Count) -> _Upload:
    """A stream that is an archive, or else a Dockerfile on its own."""
    rest = iter(pieces)
    head = b""
    while len(head) < 512 and (piece := next(rest, b"")):
        head += piece

    def counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            count(len(piece))
            yield piece

    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return _Upload(counted(chain([head], rest)), dockerfile)
    if dockerfile:
        raise CommandError(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag "
            "correspond to Dockerfiles"
        )
    data = b"".join([head, *rest])

    alone = build_context.single_file("Dockerfile", data, int(time.time()))
    return _Upload(counted(alone), "Dockerfile")


def _downloaded(call: Call, url: str, stack: ExitStack) -> Iterator[bytes]:
    """The body behind a URL; says how much there was."""
    import urllib.error
    import urllib.request

    failure = f"unable to prepare context: unable to download remote context {url}: "
    try:
        answer = stack.enter_context(urllib.request.urlopen(url, timeout=60))  # noqa: S310 - http and https only
    except urllib.error.HTTPError as error:
        error.close()
        raise CommandError(
            f"{failure}failed to GET {url} with status {error.code} {error.reason}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise CommandError(f'{failure}Get "{url}": {reason}') from None
    told = _Told(call, f"Downloading build context from remote url: {url}")
    while data := answer.read(_CHUNK):
        told.add(len(data))
        yield data
    told.end()


def _compressed(pieces: Iterator[bytes], count: Count) -> Iterator[bytes]:
    """gzip; what is counted is what travels."""
    import zlib

    squeeze = zlib.compressobj(wbits=31)
    for data in chain((squeeze.compress(piece) for piece in pieces), _last(squeeze.flush)):
        if data:
            count(len(data))
            yield data


def _last(make: Callable[[], bytes]) -> Iterator[bytes]:
    yield make()


def _ended(pieces: Iterator[bytes], told: _Told) -> Iterator[bytes]:
    """`pieces`, joined to a useful size; the last word about them at the end."""
    batch = bytearray()
    for piece in pieces:
        batch += piece
        if len(batch) >= _CHUNK:
            yield bytes(batch)
            batch.clear()
    if batch:
        yield bytes(batch)
    told.end()


# -- what is asked -------------------------------------------------------------------------


def _query(call: Call) -> dict[str, Any]:
    """The options as the query of `POST /build`; what was not given is left out."""
    flags = call.flags
    arguments = dict(config_file.proxy_arguments(call.client.address))
    given: dict[str, str | None] = dict(arguments)
    for text in flags["build-arg"]:
        name, equals, value = text.partition("=")
        given[name] = value if equals else os.environ.get(name)
    labels = {}
    for text in flags["label"]:
        name, _, value = text.partition("=")
        labels[name] = value

    def listed(value: Any) -> str | None:
        return json.dumps(value, separators=(",", ":")) if value else None

    query: dict[str, Any] = {
        "t": flags["tag"] or None,
        "buildargs": listed(dict(sorted(given.items()))),
        "labels": listed(dict(sorted(labels.items()))),
        "cachefrom": listed(flags["cache-from"]),
        "ulimits": listed([{k: u[k] for k in ("Name", "Hard", "Soft")} for u in flags["ulimit"]]),
        "extrahosts": flags["add-host"] or None,
        "securityopt": flags["security-opt"] or None,
        "rm": None if flags["rm"] else "0",
        "version": "1",
    }
    switches = {"quiet": "q", "no-cache": "nocache", "pull": "pull", "force-rm": "forcerm"}
    query |= {key: "1" for flag, key in switches.items() if flags[flag]}
    numbers = {
        "memory": "memory",
        "memory-swap": "memswap",
        "cpu-shares": "cpushares",
        "cpu-period": "cpuperiod",
        "cpu-quota": "cpuquota",
        "shm-size": "shmsize",
    }
    query |= {key: str(flags[flag]) for flag, key in numbers.items() if flags[flag]}
    words = {
        "cpuset-cpus": "cpusetcpus",
        "cpuset-mems": "cpusetmems",
        "cgroup-parent": "cgroupparent",
        "isolation": "isolation",
        "platform": "platform",
        "target": "target",
    }
    query |= {key: flags[flag] for flag, key in words.items() if flags[flag]}
    if flags["network"] != "default":
        query["networkmode"] = flags["network"]
    if flags["squash"]:
        query["squash"] = "1"
    return query


# -- the cache -----------------------------------------------------------------------------


def prune(call: Call) -> None:
    """Remove build cache."""
    from labkit.notebook.commands.formatting import filters_of

    everything = call.flags["all"]
    if not call.flags["force"]:
        kind = "all build cache" if everything else "all dangling build cache"
        question = f"WARNING! This will remove {kind}. Are you sure you want to continue? [y/N] "
        if call.surface.ask(question, flag="--force").strip().lower() != "y":
            return
    query: dict[str, Any] = {"filters": filters_of(call.flags["filter"]) or ""}
    if everything:
        query["all"] = "1"
    if call.flags["keep-storage"]:
        query["keep-storage"] = str(call.flags["keep-storage"])
    found = call.client.request("POST", "/build/prune", query=query).json() or {}
    removed = found.get("CachesDeleted") or ()
    if removed:
        call.surface.out(
            "".join(f"{line}\n" for line in ("Deleted build cache objects:", *removed, ""))
        )
    call.surface.out(f"Total reclaimed space: {format_size(found.get('SpaceReclaimed') or 0)}\n")

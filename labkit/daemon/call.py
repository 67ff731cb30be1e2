"""One request as a handler sees it: parsed, typed, with Docker's sentences for nonsense.

Booleans, numbers, times and filters arrive as text in the query; bodies are JSON objects. What
cannot be understood is an InvalidParameter here, so that no handler ever sees a wrong type.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from aiohttp import web

from labkit.base.errors import InvalidParameter

__all__ = ["JSON_BODY_BYTES_MAX", "Call", "Filters", "finish", "json_answer", "parse_json"]

Filters = dict[str, list[str]]
S = TypeVar("S")
T = TypeVar("T")

JSON_BODY_BYTES_MAX = 16 << 20
"""The largest JSON body that is read. Docker's daemon has no bound; what is larger than this the
kernel would refuse as arguments and environment anyway."""

_FALSE = frozenset({"", "0", "no", "false", "none"})
_INT = re.compile(r"[+-]?[0-9]+\Z")
_TIMESTAMP = re.compile(r"(-?[0-9]{1,12})(?:\.([0-9]{1,9})[0-9]*)?\Z")
_INT_MAX = (1 << 63) - 1
_DEPTH_MAX = 200
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call(Generic[S]):
    """A request on its way to its handler.

    `state` is what the API serves (an Engine, or the lab), `params` the path's variables,
    `version` the API version of the path, `number` this request's number in the log.
    """

    request: web.Request
    state: S
    params: Mapping[str, str]
    version: tuple[int, int]
    number: int

    # -- the query -----------------------------------------------------------------------------

    def text(self, name: str) -> str | None:
        """A query value; None when it is absent or empty, which Docker treats alike."""
        value = self.request.query.get(name)
        if value and "\0" in value:
            raise InvalidParameter(f"invalid value for {name}: it contains a NUL byte")
        return value or None

    def texts(self, name: str) -> list[str]:
        """Every value of a query key that may be repeated, without the empty ones."""
        values = [value for value in self.request.query.getall(name, []) if value]
        if any("\0" in value for value in values):
            raise InvalidParameter(f"invalid value for {name}: it contains a NUL byte")
        return values

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A query flag: everything but "", 0, no, false and none is true."""
        value = self.request.query.get(name)
        return default if value is None else value.strip().lower() not in _FALSE

    def integer(self, name: str) -> int | None:
        """A query number; None when it is absent or empty."""
        value = self.request.query.get(name)
        if not value:
            return None
        if _INT.match(value) is None:
            raise InvalidParameter(f'strconv.Atoi: parsing "{value[:64]}": invalid syntax')
        if len(value) > 19 or abs(int(value)) > _INT_MAX:
            raise InvalidParameter(f'strconv.Atoi: parsing "{value[:64]}": value out of range')
        return int(value)

    def nanoseconds(self, name: str) -> int | None:
        """A Unix time `seconds[.fraction]` as nanoseconds; absent, empty and 0 mean none."""
        value = self.request.query.get(name)
        if not value or value == "0":
            return None
        match = _TIMESTAMP.match(value)
        if match is None:
            raise InvalidParameter(f'invalid value for "{name}": value must be a unix timestamp')
        seconds, fraction = match.groups()
        return int(seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))

    def filters(self) -> Filters:
        """The `filters` of a list call, normalised to `{"name": ["value", …]}`.

        Docker's client sends `{"name": {"value": true}}`, docker-py `{"name": ["value"]}`; a
        value marked false is not wanted.
        """
        raw = self.request.query.get("filters")
        if not raw:
            return {}
        try:
            found = parse_json(raw)
        except InvalidParameter:
            raise InvalidParameter("invalid filter") from None
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InvalidParameter("invalid filter")
        return {name: _filter_values(values) for name, values in found.items()}

    # -- the body ------------------------------------------------------------------------------

    async def body(self) -> dict[str, Any]:
        """The body as an object. Raises InvalidParameter with Docker's words when it is none."""
        found = await _read_json(self.request)
        if found is None:
            raise InvalidParameter("invalid JSON: got EOF while reading request body")
        return _as_object(found)

    async def optional_body(self) -> dict[str, Any]:
        """The body as an object, `{}` when there is none."""
        found = await _read_json(self.request)
        return {} if found is None else _as_object(found)


def _filter_values(values: Any) -> list[str]:
    if isinstance(values, dict):
        wanted = [value for value, on in values.items() if on]
    elif isinstance(values, list):
        wanted = values
    else:
        raise InvalidParameter("invalid filter")
    if not all(isinstance(value, str) for value in wanted):
        raise InvalidParameter("invalid filter")
    return list(wanted)


def _check_words(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Go's decoder replaces lone surrogates; here they are refused, because neither a record nor
    a file name could hold them. NUL bytes end strings early in every system call."""
    for pair in pairs:
        for word in pair:
            _check_word(word)
    return dict(pairs)


def _check_word(word: Any) -> None:
    if isinstance(word, str):
        if "\0" in word:
            raise ValueError("a string contains a NUL byte")
        if not word.isascii():
            word.encode()
    elif isinstance(word, list):
        for item in word:
            _check_word(item)


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def _parse_integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > _INT_MAX:
        raise ValueError(f"json: cannot unmarshal number {digits[:40]} into an int64")
    return int(digits)


async def _read_json(request: web.Request) -> Any:
    """The parsed body, or None when there is none at all."""
    if not request.body_exists:
        return None
    raw = await request.read()
    kind = request.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        if not raw:
            return None
        word = "unsupported" if kind else "malformed"
        tail = ": must be 'application/json'" if kind else ": mime: no media type"
        raise InvalidParameter(f"{word} Content-Type header ({kind[:100]}){tail}")
    if not raw.strip():
        raise InvalidParameter("invalid JSON: got EOF while reading request body")
    try:
        return parse_json(raw.decode())
    except UnicodeDecodeError:
        raise InvalidParameter("invalid JSON: a string is not valid UTF-8") from None


def parse_json(text: str) -> Any:
    """The value of `text`, free of what records, file names and system calls cannot hold.

    Raises InvalidParameter for anything else, and for nesting deeper than any request means.
    """
    _check_depth(text)
    try:
        return json.loads(
            text,
            object_pairs_hook=_check_words,
            parse_constant=_refuse_constant,
            parse_int=_parse_integer,
        )
    except UnicodeError:
        raise InvalidParameter("invalid JSON: a string is not valid UTF-8") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise InvalidParameter("unexpected content after JSON") from None
        raise InvalidParameter(f"invalid JSON: {error.msg} (at byte {error.pos})") from None
    except ValueError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the parser meets it: CPython's own recursion limit, once hit
    inside its C code, has been seen to leave the interpreter's depth counter wrong."""
    if text.count("[") + text.count("{") <= _DEPTH_MAX:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        mark = match.group()
        depth += (mark in "[{") - (mark in "]}")
        if depth > _DEPTH_MAX:
            raise InvalidParameter("invalid JSON: exceeded max depth")


def _as_object(found: Any) -> dict[str, Any]:
    if isinstance(found, dict):
        return found
    kind = {list: "array", str: "string", bool: "bool", type(None): "null"}.get(
        type(found), "number"
    )
    raise InvalidParameter(f"invalid JSON: json: cannot unmarshal {kind} into an object")


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`value` as Docker writes JSON: compact, one line, newline at the end."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n"
    return web.Response(
        body=body.encode("utf-8", "replace"),
        status=status,
        content_type="application/json",
        headers=headers,
    )


_RUNNING: set[asyncio.Task[Any]] = set()


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end even when the client that asked for it goes away meanwhile.

    A handler is cancelled when its connection closes; a half-done start or removal would help
    nobody. The task is held here, because the loop keeps only weak references.
    """
    task = asyncio.ensure_future(work)
    _RUNNING.add(task)
    task.add_done_callback(_forget)
    return await asyncio.shield(task)


def _forget(task: asyncio.Task[Any]) -> None:
    _RUNNING.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved: the client it was for may be gone

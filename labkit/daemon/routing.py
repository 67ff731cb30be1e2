"""Tables of endpoints, and the one place where requests become answers.

Docker's paths need two things that aiohttp's own dispatcher lacks: an optional `/vX.Y` in front of
everything, and image names with slashes in the middle of a path. So each API is a table of
`Route`s; aiohttp sees a single catch-all. Errors become `{"message": …}` here and nowhere else.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

from aiohttp import web

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.daemon.call import JSON_BODY_BYTES_MAX, Call, json_answer
from labkit.daemon.identity import API_VERSION, API_VERSION_MIN

__all__ = ["Handler", "Route", "Router", "build_app", "delete", "error_answer", "get", "post"]

_LOG = logging.getLogger("labkit.api")
_PREFIX = re.compile(r"/v([0-9.]+)(?=/)")
_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})\Z")
_VARIABLE = re.compile(r"\{(\w+)(:path)?\}")
_LOGGED_CHARS = 200
_NUMBERS = itertools.count(1)

S = TypeVar("S")
Handler = Callable[[Call[Any]], Awaitable[web.StreamResponse]]


def _as_pair(version: str) -> tuple[int, int]:
    match = _VERSION.match(version)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


_OLDEST = _as_pair(API_VERSION_MIN)
_NEWEST = _as_pair(API_VERSION)


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. In `path`, `{x}` is one segment and `{x:path}` may contain slashes."""

    method: str
    path: str
    handler: Handler

    def pattern(self) -> re.Pattern[str]:
        """The path as a regular expression with named groups."""
        parts = _VARIABLE.split(self.path)
        text = re.escape(parts[0])
        for name, several, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            text += f"(?P<{name}>{'.+' if several else '[^/]+'})" + re.escape(rest)
        return re.compile(text + r"\Z", re.DOTALL)


def get(path: str, handler: Handler) -> Route:
    """A GET endpoint."""
    return Route("GET", path, handler)


def post(path: str, handler: Handler) -> Route:
    """A POST endpoint."""
    return Route("POST", path, handler)


def delete(path: str, handler: Handler) -> Route:
    """A DELETE endpoint."""
    return Route("DELETE", path, handler)


class Router:
    """Finds the handler of a method and a path; the first route that matches wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._table: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        for route in routes:
            first = route.path.split("/", 2)[1]
            key = (route.method, first)
            self._table.setdefault(key, []).append((route.pattern(), route.handler))

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        """The handler and the path's variables; None is 404 whichever of the two is wrong."""
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for pattern, handler in self._table.get((method, first), ()):
            match = pattern.match(path)
            if match is not None:
                return handler, match.groupdict()
        return None


def check_version(version: str) -> tuple[int, int]:
    """The pair of numbers. Raises InvalidParameter when it is not between ours."""
    found = _as_pair(version)
    if found < _OLDEST:
        raise InvalidParameter(
            f"client version {version[:32]} is too old. Minimum supported API version is "
            f"{API_VERSION_MIN}, please upgrade your client to a newer version"
        )
    if found > _NEWEST:
        raise InvalidParameter(
            f"client version {version} is too new. Maximum supported API version is {API_VERSION}"
        )
    return found


def error_answer(error: LabkitError, *, with_hint: bool) -> web.Response:
    """The answer that tells a client about `error`. 304 has no body (RFC 9110, 15.4.5)."""
    if error.http_status == 304:
        return web.Response(status=304)
    body = {"message": error.message}
    if with_hint and error.hint:
        body["hint"] = error.hint
    return json_answer(body, status=error.http_status)


def _path(request: web.Request) -> str:
    """The path for a line of the log; nobody needs to read more of a long one."""
    return (
        request.path if len(request.path) <= _LOGGED_CHARS else request.path[:_LOGGED_CHARS] + "…"
    )


def build_app(
    state: S, routes: Iterable[Route], *, versioned: bool, headers: Mapping[str, str]
) -> web.Application:
    """An application that serves `routes` over `state`.

    `versioned` accepts and checks Docker's `/vX.Y` prefix. Labkit's own API has no such prefix
    and its errors carry a `hint` as well.
    """
    router = Router(routes)

    async def route(request: web.Request, number: int) -> web.StreamResponse:
        path, version = unquote(request.rel_url.raw_path), _NEWEST
        if versioned:
            match = _PREFIX.match(path)
            if match is not None:
                version, path = check_version(match.group(1)), path[match.end() :]
        found = router.find(request.method, path)
        if found is None:
            return json_answer({"message": "page not found"}, status=404)
        handler, params = found
        if any("\0" in value for value in params.values()):
            raise InvalidParameter("the path contains a NUL byte")
        return await handler(Call(request, state, params, version, number))

    async def serve(request: web.Request) -> web.StreamResponse:
        number = next(_NUMBERS)
        try:
            return await route(request, number)
        except LabkitError as error:
            level = logging.WARNING if error.http_status >= 500 else logging.DEBUG
            _LOG.log(level, "request %d %s %s: %s", number, request.method, _path(request), error)
            return error_answer(error, with_hint=not versioned)
        except web.HTTPRequestEntityTooLarge:
            return json_answer({"message": "http: request body too large"}, status=413)
        except web.HTTPException as error:
            return json_answer({"message": error.reason}, status=error.status)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 - the log gets it whole, the client one sentence
            _LOG.exception("request %d %s %s failed", number, request.method, _path(request))
            message = f"internal error in request {number}; the daemon's log has the details"
            return json_answer({"message": message}, status=500)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)

    app = web.Application(client_max_size=JSON_BODY_BYTES_MAX)
    app.router.add_route("*", r"/{tail:[\s\S]*}", serve)
    app.on_response_prepare.append(add_headers)
    return app

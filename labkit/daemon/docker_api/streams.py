"""Answers that go on: JSON objects one per line, and bytes, sent the moment they exist."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

from labkit.base.errors import LabkitError

__all__ = ["send_bytes", "send_json_lines"]

_LOG = logging.getLogger("labkit.api")


async def _open(
    request: web.Request, content_type: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def send_json_lines(
    request: web.Request,
    lines: AsyncIterator[Mapping[str, Any]],
    *,
    in_band_errors: bool = False,
) -> web.StreamResponse:
    """Send each object as one line.

    With `in_band_errors` the first object is awaited before the status goes out, so that a
    request that fails at once gets its own status code; a later failure, when 200 has been said
    already, becomes `{"error", "errorDetail"}` (api map, section 1). Without, headers go at once.
    """
    first: Mapping[str, Any] | None = None
    if in_band_errors:
        first = await anext(lines, None)
    response = await _open(request, "application/json")
    try:
        if first is not None:
            await response.write(_line(first))
        async for item in lines:
            await response.write(_line(item))
    except ConnectionError:
        raise  # the client has left
    except Exception as error:  # noqa: BLE001 - after 200 nothing else can be said but in the stream
        message = _ended_early(request, error)
        if in_band_errors:
            await response.write(_line({"errorDetail": {"message": message}, "error": message}))
    finally:
        await _close(lines)
    await response.write_eof()
    return response


async def send_bytes(
    request: web.Request,
    chunks: AsyncIterator[bytes],
    content_type: str,
    *,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Send `chunks` as they come; headers at once."""
    response = await _open(request, content_type, headers)
    try:
        async for chunk in chunks:
            await response.write(chunk)
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - the head is out: the stream can only end
        _ended_early(request, error)
    finally:
        await _close(chunks)
    await response.write_eof()
    return response


def _ended_early(request: web.Request, error: Exception) -> str:
    """Log why a stream ended; what its client is told of it."""
    if isinstance(error, LabkitError):
        _LOG.warning("stream %s ended early: %s", request.path, error)
        return error.message
    _LOG.error("stream %s ended by a mistake of labkit's", request.path, exc_info=error)
    return "internal error; labkit logs has the details"


def _line(item: Mapping[str, Any]) -> bytes:
    return (json.dumps(item, separators=(",", ":"), ensure_ascii=False) + "\n").encode(
        "utf-8", "replace"
    )


async def _close(stream: object) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        with contextlib.suppress(RuntimeError):  # already running means already being closed
            await close()

"""Endpoints that make images of what is there: commit and import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, NotFound
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.pipes import RequestBody
from labkit.daemon.docker_api.streams import send_json_lines
from labkit.daemon.routing import Route, post
from labkit.host.engine.commits import CommitOptions, import_image

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine
    from labkit.host.image.tarread import ByteSource

__all__ = ["ROUTES", "import_tar"]

_SCHEMES = ("http://", "https://")


async def commit(call: Call[Engine]) -> web.Response:
    """POST /commit?container=&repo=&tag=&comment=&author=&changes=&pause=."""
    reference = call.text("container")
    if reference is None:
        raise NotFound("No such container: ")
    body = await call.optional_body()
    options = CommitOptions(
        repository=call.text("repo") or "",
        tag=call.text("tag") or "",
        comment=call.text("comment") or "",
        author=call.text("author") or "",
        changes=call.texts("changes"),
        pause=call.flag("pause", default=True),
    )
    made = await finish(call.state.container_commit(reference, options, body))
    return json_answer(made, status=201)


async def import_tar(call: Call[Engine]) -> web.StreamResponse:
    """POST /images/create?fromSrc=-&repo=&tag=&message=&changes=: a tar becomes an image.

    The source is the request's body, or an http(s) address that the engine fetches.
    """
    origin = call.text("fromSrc") or "-"

    async def lines() -> AsyncIterator[dict[str, Any]]:
        source: ByteSource = RequestBody(call.request)
        if origin != "-":
            if not origin.startswith(_SCHEMES):
                raise InvalidParameter(
                    f'invalid import source "{origin[:200]}": only http and https are fetched'
                )
            yield {"status": f"Downloading from {origin}"}
            source = await asyncio.to_thread(_fetch, origin)
        made = await finish(
            import_image(
                call.state.context,
                source,
                repository=call.text("repo") or "",
                tag=call.text("tag") or "",
                message=call.text("message") or "",
                changes=call.texts("changes"),
            )
        )
        yield {"status": made}

    return await send_json_lines(call.request, lines(), in_band_errors=True)


def _fetch(address: str) -> IO[bytes]:
    """What is at `address`, in a file without a name."""
    import shutil
    import tempfile
    import urllib.request

    file = tempfile.TemporaryFile()  # noqa: SIM115 - the import reads it to its end
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - checked above
            shutil.copyfileobj(answer, file)
    except (OSError, ValueError) as error:
        file.close()
        raise InvalidParameter(f"cannot fetch {address}: {error}") from error
    file.seek(0)
    return file


ROUTES: tuple[Route, ...] = (post("/commit", commit),)

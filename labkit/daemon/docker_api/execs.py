"""Endpoints of exec: another process in a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import Conflict, LabkitError
from labkit.daemon.call import Call, finish, json_answer
from labkit.daemon.docker_api.container_io import stream_type
from labkit.daemon.docker_api.containers import console_size
from labkit.daemon.docker_api.detach import DetachKeys, parse_keys
from labkit.daemon.routing import Route, get, post
from labkit.daemon.tunnel import Tunnel, hijack, relay

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine

__all__ = ["ROUTES"]


async def create(call: Call[Engine]) -> web.Response:
    """POST /containers/X/exec."""
    body = await call.body()
    return json_answer(await finish(call.state.exec_create(call.params["id"], body)), status=201)


async def start(call: Call[Engine]) -> web.StreamResponse:
    """POST /exec/ID/start: detached a plain 200, otherwise the connection becomes its stdio.

    The stream opens before the process starts, as in Docker's engine: docker-py reads the answer's
    head through a buffer and loses whatever output comes along with it.
    """
    body = await call.optional_body()
    exec_id = call.params["id"]
    known = await call.state.exec_inspect(exec_id)
    if body.get("Detach"):
        await finish(call.state.exec_start(exec_id, body))
        return web.Response(status=200)
    await _check_container(call.state, str(known.get("ContainerID", "")))
    configured = known.get("DetachKeys")
    keys = parse_keys(configured if isinstance(configured, str) else None)
    tty = bool(known.get("ProcessConfig", {}).get("tty"))
    tunnel = hijack(call.request, stream_type(call, tty=tty))
    # To its end also when the client leaves at once: what it sent is still typed.
    await finish(_serve(call.state, exec_id, body, tunnel, keys))
    return tunnel.response


async def _serve(
    engine: Engine, exec_id: str, body: dict[str, Any], tunnel: Tunnel, keys: bytes
) -> None:
    try:
        session = await engine.exec_start(exec_id, body)
    except LabkitError as error:
        tty = bool((await engine.exec_inspect(exec_id))["ProcessConfig"]["tty"])
        tunnel.writer.write(_as_output(error, tty=tty))
        await tunnel.close()
        return
    except BaseException:
        await tunnel.close()
        raise
    assert session is not None
    if await relay(tunnel, session, DetachKeys(keys) if session.tty else None):
        container = (await engine.exec_inspect(exec_id))["ContainerID"]
        await engine.container_event(container, "exec_detach", execID=exec_id)


async def _check_container(engine: Engine, container_id: str) -> None:
    """What can still be said with a status, before the stream opens."""
    state = (await engine.container_inspect(container_id))["State"]
    if not state.get("Running"):
        raise Conflict(f"container {container_id} is not running")
    if state.get("Paused"):
        raise Conflict(
            f"Container {container_id} is paused, unpause the container before exec",
            hint=f"docker unpause {container_id[:12]}",
        )


def _as_output(error: LabkitError, *, tty: bool) -> bytes:
    """A command that cannot be started says why on its stdout, and the exec's inspection has the
    code (126 or 127): Docker's clients show both."""
    text = error.message.encode() + b"\r\n"
    return text if tty else b"\1\0\0\0" + len(text).to_bytes(4, "big") + text


async def inspect(call: Call[Engine]) -> web.Response:
    """GET /exec/ID/json: `ExitCode` becomes the client's own exit code."""
    return json_answer(await call.state.exec_inspect(call.params["id"]))


async def resize(call: Call[Engine]) -> web.Response:
    """POST /exec/ID/resize?h=&w=."""
    rows, columns = console_size(call)
    await call.state.exec_resize(call.params["id"], rows=rows, columns=columns)
    return web.Response(status=200)


ROUTES: tuple[Route, ...] = (
    post("/containers/{id}/exec", create),
    post("/exec/{id}/start", start),
    get("/exec/{id}/json", inspect),
    post("/exec/{id}/resize", resize),
)

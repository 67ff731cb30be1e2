"""Endpoints of the builder: `docker build` as the classic client speaks it, and its prune."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.daemon.call import Call, finish, json_answer, parse_json
from labkit.daemon.docker_api.pipes import RequestBody
from labkit.daemon.docker_api.streams import send_json_lines
from labkit.daemon.routing import Route, post

if TYPE_CHECKING:
    from labkit.host.engine.engine import Engine
    from labkit.host.image.builder.ports import BuildOptions

__all__ = ["ROUTES"]

_LIMITS = {
    "memory": "Memory",
    "memswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpuquota": "CpuQuota",
    "cpuperiod": "CpuPeriod",
    "shmsize": "ShmSize",
}
_WORDS = {"cpusetcpus": "CpusetCpus", "cpusetmems": "CpusetMems", "cgroupparent": "CgroupParent"}


def _json(call: Call[Engine], name: str, kind: type) -> Any:
    """A query value that is JSON of one kind; `kind()` when it is absent."""
    text = call.text(name)
    if text is None:
        return kind()
    found = parse_json(text)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise InvalidParameter(f"error reading {name}: not a JSON {kind.__name__}")
    return found


def _map(call: Call[Engine], name: str, *, nulls: bool = False) -> dict[str, Any]:
    found = _json(call, name, dict)
    for value in found.values():
        if not isinstance(value, str) and not (nulls and value is None):
            raise InvalidParameter(f"error reading {name}: its values must be strings")
    return dict(found)


def _host_config(call: Call[Engine]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in _LIMITS.items():
        value = call.integer(name)
        if value:
            found[key] = value
    for name, key in _WORDS.items():
        text = call.text(name)
        if text:
            found[key] = text
    hosts = [host for host in call.request.query.getall("extrahosts", []) if host]
    if hosts:
        found["ExtraHosts"] = hosts
    options = [option for option in call.request.query.getall("securityopt", []) if option]
    if options:
        found["SecurityOpt"] = options
    ulimits = _json(call, "ulimits", list)
    if ulimits:
        found["Ulimits"] = ulimits
    return found


def _registries(header: str | None) -> dict[str, Mapping[str, Any]]:
    """X-Registry-Config: credentials by registry. Docker ignores what it cannot read."""
    if not header:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)}


def _options(call: Call[Engine]) -> BuildOptions:
    from labkit.host.image.builder.ports import BuildOptions

    if call.flag("squash"):
        raise Unsupported("squash is only supported with experimental mode")
    arguments = _map(call, "buildargs", nulls=True)
    epoch = arguments.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not (epoch.isdecimal() and len(epoch) < 12):
        raise InvalidParameter(f"invalid SOURCE_DATE_EPOCH: {epoch[:64]}")
    cache_from = _json(call, "cachefrom", list)
    if not all(isinstance(name, str) for name in cache_from):
        raise InvalidParameter("error reading cachefrom: not a list of strings")
    return BuildOptions(
        dockerfile=call.text("dockerfile") or "Dockerfile",
        remote=call.text("remote") or "",
        tags=[tag for tag in call.request.query.getall("t", []) if tag],
        arguments=arguments,
        labels=_map(call, "labels"),
        target=call.text("target") or "",
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        quiet=call.flag("q"),
        platform=call.text("platform") or "",
        cache_from=cache_from,
        network=call.text("networkmode") or "default",
        host_config=_host_config(call),
        registries=_registries(call.request.headers.get("X-Registry-Config")),
        epoch_s=None if epoch is None else int(epoch),
    )


async def build(call: Call[Engine]) -> web.StreamResponse:
    """POST /build: a tar of the context in, lines of progress out."""
    from labkit.host.engine.builds import build_image

    lines = build_image(call.state.context, _options(call), RequestBody(call.request))
    return await send_json_lines(call.request, lines, in_band_errors=True)


async def prune(call: Call[Engine]) -> web.Response:
    """POST /build/prune."""
    from labkit.host.engine.builds import prune_builds

    keep = call.integer("keep-storage") or call.integer("reserved-space") or 0
    work = prune_builds(call.state.context, call.filters(), keep_bytes=keep)
    return json_answer(await finish(work))


ROUTES: tuple[Route, ...] = (
    post("/build", build),
    post("/build/prune", prune),
)

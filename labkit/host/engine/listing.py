"""GET /containers/json: which containers, and what `docker ps` shows of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, NotFound
from labkit.base.quantities import format_age
from labkit.host.engine.container import Container
from labkit.host.engine.filters import (
    Filters,
    check_names,
    matches_boolean,
    matches_labels,
    matches_pattern,
)
from labkit.host.engine.inspection import mount_json, networks_json, published
from labkit.host.engine.states import STATES

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["containers", "status_text", "summary"]

Json = dict[str, Any]

_FILTERS_TEXT = (
    "ancestor before exited expose health id is-task isolation label name network publish "
    "since status volume"
)
_FILTERS = frozenset(_FILTERS_TEXT.split())


def status_text(container: Container, now_ns: int | None = None) -> str:
    """Docker's words: `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`."""
    state = container.state
    now = now_ns if now_ns is not None else time.time_ns()

    def age(since_ns: int) -> str:
        return format_age(max(now - since_ns, 0) / 1e9)

    match state.status:
        case "running":
            health = (state.health or {}).get("Status")
            words = {"starting": " (health: starting)"}.get(
                str(health), f" ({health})" if health else ""
            )
            return f"Up {age(state.started_at_ns)}{words}"
        case "paused":
            return f"Up {age(state.started_at_ns)} (Paused)"
        case "restarting":
            return f"Restarting ({state.exit_code}) {age(state.finished_at_ns)} ago"
        case "removing":
            return "Removal In Progress"
        case "dead":
            return "Dead"
        case "created":
            return "Created"
        case _:
            if not state.finished_at_ns:
                return "Created"
            return f"Exited ({state.exit_code}) {age(state.finished_at_ns)} ago"


async def containers(
    context: Context,
    *,
    all_states: bool,
    limit: int | None,
    size: bool,
    filters: Filters | None,
) -> list[Json]:
    """GET /containers/json, newest first."""
    wanted = dict(filters or {})
    check_names(wanted, _FILTERS)
    newest = sorted(
        context.containers.values(), key=lambda item: item.definition.created_ns, reverse=True
    )
    matches = _Matcher(context, wanted)
    # A filter on the state, like a limit, looks at every container.
    every = all_states or bool(limit) or bool(wanted.get("status") or wanted.get("exited"))
    found = []
    for container in newest:
        if not every and not container.state.is_running:
            continue
        if not matches(container):
            continue
        found.append(container)
        if limit and len(found) == limit:
            break
    return [await summary(context, container, size=size) for container in found]


async def summary(context: Context, container: Container, *, size: bool = False) -> Json:
    """One row."""
    definition = container.definition
    config = container.config
    found: Json = {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": definition.image,
        "ImageID": definition.image_id,
        "Command": _command(definition.path, definition.args),
        "Created": definition.created_ns // 1_000_000_000,
        "Ports": _ports(context, container),
        "Labels": config.labels or {},
        "State": container.state.status,
        "Status": status_text(container),
        "HostConfig": {"NetworkMode": container.host.network_mode},
        "NetworkSettings": {"Networks": networks_json(context, container)},
        "Mounts": [mount_json(context, mount) for mount in definition.mounts],
    }
    if size:
        found["SizeRw"], found["SizeRootFs"] = await sizes(context, container)
    return found


async def sizes(context: Context, container: Container) -> tuple[int, int]:
    """Bytes the container wrote, and with its image's."""
    written = await asyncio.to_thread(context.ports.snapshots.size, container.id)
    try:
        image = await asyncio.to_thread(context.ports.images.get, container.definition.image_id)
    except NotFound:
        return written, written
    return written, written + int(image.size)


def _command(path: str, args: Sequence[str]) -> str:
    """Docker quotes arguments with blanks, and only those."""
    words = [f"'{word}'" if " " in word else word for word in args]
    return " ".join((path, *words))


def _ports(context: Context, container: Container) -> list[Json]:
    found: list[Json] = []
    for port, bindings in published(context, container).items():
        number, _, protocol = port.partition("/")
        row: Json = {"PrivatePort": int(number), "Type": protocol}
        if bindings is None:
            found.append(row)
        for binding in bindings or ():
            host = {"IP": binding["HostIp"], "PublicPort": int(binding["HostPort"])}
            found.append({**host, **row})
    return sorted(found, key=lambda row: (row["PrivatePort"], row["Type"], row.get("IP", "")))


class _Matcher:
    """All filters at once: values of one are alternatives, except labels, which must all hold."""

    def __init__(self, context: Context, filters: Filters) -> None:
        self._context = context
        self._filters = filters
        for value in filters.get("status", ()):
            if value not in STATES:
                raise InvalidParameter(
                    f"invalid filter 'status={value}'", hint=f"states are {', '.join(STATES)}"
                )
        for value in filters.get("health", ()):
            if value not in ("starting", "healthy", "unhealthy", "none"):
                raise InvalidParameter(f"invalid filter 'health={value}'")
        self._exited = [self._number(value) for value in filters.get("exited", ())]
        self._is_task = matches_boolean(filters, "is-task", default=False)
        self._before = self._bound("before")
        self._since = self._bound("since")
        self._ancestors = self._images(filters.get("ancestor", ()))

    @staticmethod
    def _number(value: str) -> int:
        if not value.lstrip("-").isdecimal():
            raise InvalidParameter(f"invalid filter 'exited={value}'")
        return int(value)

    def _bound(self, name: str) -> int | None:
        values = self._filters.get(name)
        if not values:
            return None
        return self._context.find(values[-1]).definition.created_ns

    def _images(self, references: Sequence[str]) -> set[str] | None:
        if not references:
            return None
        found = set()
        for reference in references:
            try:
                image = self._context.ports.images.get(reference)
            except (NotFound, InvalidParameter):
                continue
            found.add(image.id)
        return found

    def _networks(self, container: Container) -> tuple[str, ...]:
        endpoints = self._context.networks.endpoints_of(container.id)
        return (*endpoints, *(endpoint.network_id for endpoint in endpoints.values()))

    def __call__(self, container: Container) -> bool:
        filters, definition = self._filters, container.definition
        if self._is_task:
            return False  # tasks come with the cluster
        if self._before is not None and definition.created_ns >= self._before:
            return False
        if self._since is not None and definition.created_ns <= self._since:
            return False
        if self._ancestors is not None and definition.image_id not in self._ancestors:
            return False
        if self._exited and not (
            container.state.status == "exited" and container.state.exit_code in self._exited
        ):
            return False
        names = (container.name, f"/{container.name}")
        health = str((container.state.health or {}).get("Status", "none"))
        return (
            matches_pattern(filters.get("id", ()), (container.id,))
            and matches_pattern(filters.get("name", ()), names)
            and matches_labels(filters.get("label", ()), container.config.labels or {})
            and _one_of(filters.get("status", ()), (container.state.status,))
            and _one_of(filters.get("health", ()), (health,))
            and _one_of(filters.get("isolation", ()), ("default", ""))
            and _one_of(filters.get("network", ()), self._networks(container))
            and _one_of(
                filters.get("volume", ()),
                tuple(
                    text
                    for mount in definition.mounts
                    for text in (mount.name, mount.target, mount.source)
                    if text
                ),
            )
            and _ports_match(filters.get("expose", ()), container.config.exposed_ports or ())
            and _ports_match(filters.get("publish", ()), tuple(container.host.port_bindings or ()))
        )


def _one_of(wanted: Sequence[str], found: Sequence[str]) -> bool:
    return not wanted or any(value in found for value in wanted)


def _ports_match(wanted: Sequence[str], ports: Sequence[str]) -> bool:
    """`80`, `80/udp` or `8000-8080/tcp` against `80/tcp`."""
    if not wanted:
        return True
    for value in wanted:
        span, _, protocol = value.partition("/")
        first, _, last = span.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise InvalidParameter(f"invalid filter 'expose={value}'")
        for port in ports:
            number, _, kind = port.partition("/")
            if (
                number.isdecimal()
                and (kind or "tcp") == (protocol or "tcp")
                and int(first) <= int(number) <= int(last or first)
            ):
                return True
    return False

"""What only labkit shows: the state machine with every container on it, timelines, owners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.base.errors import NotFound
from labkit.host.engine.container import Container
from labkit.host.engine.listing import status_text
from labkit.host.engine.states import STATES, TRANSITIONS

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["exec_timeline", "lifecycle", "process_owners", "timeline"]

Json = dict[str, Any]


def lifecycle(context: Context) -> Json:
    """The transition table and where each container stands on it."""
    return {
        "states": list(STATES),
        "transitions": [
            {"from": row.source, "to": row.target, "action": row.action} for row in TRANSITIONS
        ],
        "containers": [
            {
                "id": container.id,
                "name": container.name,
                "image": container.definition.image,
                "state": container.state.status,
                "status": status_text(container),
                "exit_code": container.state.exit_code,
                "history": [
                    {"state": change.state, "at_ns": change.at_ns, "action": change.action}
                    for change in container.history
                ],
            }
            for container in context.containers.values()
        ],
    }


def timeline(context: Context, reference: str) -> Json:
    """The last start of a container, also of one that is gone (by its full id or name)."""
    wanted = reference.removeprefix("/")
    try:
        identifier = context.find(wanted).id
    except NotFound:
        identifier = _gone(context, wanted)
    found = context.timelines.get(identifier)
    if found is None:
        raise NotFound(
            f"no timeline of container {reference}: it has not been started since the engine was"
        )
    return found


def _gone(context: Context, wanted: str) -> str:
    """The id of a removed container, newest first, by id, prefix or the name it had."""
    for identifier, found in reversed(context.timelines.items()):
        about = found["container"]
        if about["name"] == wanted or (wanted and str(about["id"]).startswith(wanted)):
            return identifier
    raise NotFound(f"No such container: {wanted}")


def exec_timeline(context: Context, exec_id: str) -> Json:
    """The start of one exec."""
    found = context.timelines.get(exec_id)
    if found is None:
        raise NotFound(f"No such exec instance: {exec_id}")
    return found


def _owners(container: Container) -> list[Json]:
    about = {"id": container.id, "name": container.name, "image": container.definition.image}
    rows: list[Json] = []
    if container.shim is None:
        return rows
    rows.append({"pid": container.shim.pid, "owner": {"kind": "shim", **about}})
    exec_pids = set()
    for process in container.execs.values():
        if process.shim is not None:
            rows.append({"pid": process.shim.pid, "owner": {"kind": "shim", **about}})
            rows.append({"pid": process.pid, "owner": {"kind": "exec", **about}})
            exec_pids.add(process.pid)
    rows.extend(
        {"pid": pid, "owner": {"kind": "container", **about}}
        for pid in container.shim.pids()
        if pid not in exec_pids
    )
    return rows


def process_owners(context: Context) -> list[Json]:
    """Every process that belongs to a container, with what it is."""
    return [row for container in context.containers.values() for row in _owners(container)]

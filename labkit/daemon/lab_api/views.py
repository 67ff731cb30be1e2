"""What the pictures in the notebook are drawn from: namespaces, lifecycles, timelines."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.daemon.call import Call, json_answer
from labkit.daemon.lab_api.confinement import confinements
from labkit.daemon.processes import Owner, describe_all, namespaces_of
from labkit.daemon.routing import Route, get

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES", "owners_of"]


def owners_of(lab: Lab) -> dict[int, Owner]:
    """The lab's own processes by pid; their descendants are found by the walk through /proc."""
    owners = {1: Owner("host", name="pid 1"), os.getpid(): Owner("labkit", name="labkitd")}
    if lab.host is not None and lab.host.anchor_pid:
        owners[lab.host.anchor_pid] = Owner("anchor", name=lab.node)
    for entry in lab.engine.process_owners():
        owner = entry["owner"]
        owners[int(entry["pid"])] = Owner(
            owner["kind"], owner.get("id", ""), owner.get("name", ""), owner.get("image", "")
        )
    for box in lab.boxes.living():
        owners[box.pid] = Owner("box", box.id, box.name, box.labels.get("image", ""))
    return owners


async def namespaces(call: Call[Lab]) -> web.Response:
    """GET /v1/views/namespaces."""
    from labkit.host.isolation.confinement import capability_catalogue

    lab = call.state
    taken_at_ns = time.time_ns()
    processes, others = await asyncio.to_thread(describe_all, owners_of(lab))
    return json_answer(
        {
            "host": {"name": lab.node, "namespaces": host_namespaces(lab)},
            "processes": processes,
            "others": others,
            "confinement": await confinements(lab),
            "capabilities": capability_catalogue(),
            "taken_at_ns": taken_at_ns,
        }
    )


def host_namespaces(lab: Lab) -> dict[str, int]:
    """The lab host's namespaces; without a lab host the machine's, as the daemon sees them."""
    pid = lab.host.anchor_pid if lab.host is not None else 0
    return (namespaces_of(pid) if pid else {}) or namespaces_of("self")


async def lifecycle(call: Call[Lab]) -> web.Response:
    """GET /v1/views/lifecycle: the table of states, and how each container went through it."""
    return json_answer(call.state.engine.lifecycle())


async def container_timeline(call: Call[Lab]) -> web.Response:
    """GET /v1/containers/X/timeline: the kernel steps of its last start."""
    found: dict[str, Any] = call.state.engine.container_timeline(call.params["id"])
    return json_answer(found)


async def exec_timeline(call: Call[Lab]) -> web.Response:
    """GET /v1/execs/X/timeline: the kernel steps of one exec."""
    return json_answer(call.state.engine.exec_timeline(call.params["id"]))


ROUTES: tuple[Route, ...] = (
    get("/v1/views/namespaces", namespaces),
    get("/v1/views/lifecycle", lifecycle),
    get("/v1/containers/{id}/timeline", container_timeline),
    get("/v1/execs/{id}/timeline", exec_timeline),
)

"""Create, start, pause, rename, update, wait: the endpoints that change one container."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform as machine
import time
from collections.abc import Awaitable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, NotFound, NotModified
from labkit.base.ids import new_id
from labkit.host.engine import hostfiles, networking, specs, validate
from labkit.host.engine.config import ContainerConfig, command_line, image_config, merged
from labkit.host.engine.container import Container, Definition, State
from labkit.host.engine.events import EventLog
from labkit.host.engine.hostconfig import HostConfig, NetworkingConfig, RestartPolicy, UpdateConfig
from labkit.host.engine.limits import limits_of
from labkit.host.engine.mounts import fill_volumes, resolve_mounts
from labkit.host.engine.names import check_name, random_name
from labkit.host.engine.removal import discard_files
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.runtimes import check_runtime
from labkit.host.engine.settings import with_log_defaults
from labkit.host.engine.starting import launch
from labkit.host.engine.states import Change
from labkit.host.engine.wire import read
from labkit.host.isolation.spec import RootSpec

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["create", "pause", "rename", "start", "unpause", "update", "wait"]

Json = dict[str, Any]

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}
_CONFIG_KEYS = frozenset(field.metadata["key"].lower() for field in fields(ContainerConfig))


# -- create --------------------------------------------------------------------------------------


def _parsed(body: Mapping[str, Any]) -> tuple[ContainerConfig, HostConfig, NetworkingConfig]:
    if not isinstance(body, Mapping):
        raise InvalidParameter("invalid JSON: expected an object")
    folded = {str(key).lower(): value for key, value in body.items()}
    if not _CONFIG_KEYS & folded.keys():
        raise InvalidParameter("config cannot be empty in order to create a container")
    return (
        read(ContainerConfig, body, name="CreateRequest"),
        read(HostConfig, folded.get("hostconfig") or {}, name="CreateRequest.HostConfig"),
        read(
            NetworkingConfig,
            folded.get("networkingconfig") or {},
            name="CreateRequest.NetworkingConfig",
        ),
    )


def _check_platform(image: Any, reference: str, platform: str | None) -> None:
    if not platform:
        return
    parts = platform.split("/")
    wanted = parts[1] if len(parts) > 1 else parts[0]
    found = str(image.config.get("architecture") or "")
    if len(parts) == 1 and parts[0] == "linux":
        return
    if parts[0] != "linux" or (found and wanted != found):
        raise NotFound(
            f"image with reference {reference} was found but its platform (linux/{found}) does "
            f"not match the specified platform ({platform})",
            hint=f"this machine runs linux/{_ARCHITECTURES.get(machine.machine(), 'amd64')} images",
        )


async def create(
    context: Context, body: Mapping[str, Any], *, name: str | None, platform: str | None
) -> Json:
    """POST /containers/create."""
    own, host, networking = _parsed(body)
    host = replace(host, log_config=with_log_defaults(context.settings, host.log_config))
    chosen = check_name(name) if name else random_name(context.names.__contains__)
    image = await asyncio.to_thread(context.ports.images.get, own.image)
    _check_platform(image, own.image, platform)
    validate.check_config(own)
    validate.check_host(host, own)
    check_runtime(context, host.runtime)
    config = merged(own, image_config(image.config))
    validate.check_config(config)
    argv = command_line(config)
    host = validate.with_defaults(host)
    warnings = _warnings(context, host)
    identifier = new_id()
    if not config.hostname and not host.network_mode.startswith("container:"):
        config = replace(config, hostname=specs.default_hostname(identifier, host))
    context.claim_name(chosen, identifier)
    try:
        definition = Definition(
            id=identifier,
            created_ns=time.time_ns(),
            image_id=image.id,
            image=own.image,
            path=argv[0],
            args=argv[1:],
            config=config,
            host=host,
            networking=networking,
            mounts=await resolve_mounts(context, config, host),
        )
        container = await _make(context, definition, chosen, image)
    except BaseException:
        context.names.pop(chosen, None)
        raise
    return {"Id": container.id, "Warnings": warnings}


async def _make(context: Context, definition: Definition, name: str, image: Any) -> Container:
    """Folder, writable layer, then the row; undone together when one fails."""
    container = Container(definition, name)
    folder = context.folder(definition.id)
    endpoints = networking.endpoints_for(context, definition)
    networking.check_endpoints(context, endpoints)
    try:
        # One trip to a thread for all the files: each costs a third of a millisecond.
        container.root = await asyncio.to_thread(_make_files, context, definition, folder, image)
        change = Change("created", definition.created_ns, "create")
        event = context.events.make("container", "create", container.id, container.attributes())
        await context.records.write(
            (
                "INSERT INTO containers(id, name, definition, state) VALUES (?, ?, ?, ?)",
                (
                    container.id,
                    name,
                    json.dumps(definition.to_json()),
                    json.dumps(container.state.to_json()),
                ),
            ),
            context.history_row(container.id, change),
            EventLog.write_of(event),
            *networking.endpoint_rows(container.id, endpoints),
        )
    except BaseException:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(discard_files, context, definition.id)
        raise
    container.history.append(change)
    context.containers[container.id] = container
    context.networks.by_container[container.id] = endpoints
    context.events.publish(event)
    return container


def _make_files(context: Context, definition: Definition, folder: Path, image: Any) -> RootSpec:
    folder.mkdir(0o710)
    root = context.ports.snapshots.prepare(definition.id, image)
    hostfiles.write_host_files(folder, definition.config, definition.host)
    fill_volumes(context, definition.mounts, RootFiles(root))
    return root


def _warnings(context: Context, host: HostConfig) -> list[str]:
    found = []
    if host.oom_kill_disable and not host.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result "
            "in the system running out of resources."
        )
    return found + context.ports.runtime.warnings_for(limits_of(host))


# -- start, pause --------------------------------------------------------------------------------


async def start(context: Context, reference: str) -> None:
    """POST /containers/X/start."""
    container = context.find(reference)
    async with container.lock:
        state = container.state
        if container.removing or state.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        if state.status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if state.is_running:
            raise NotModified(f"container {container.id} is already running")
        await launch(context, container)


def _live(container: Container) -> None:
    """Conflict unless the container's process exists and nobody is restarting it."""
    if container.state.status == "restarting":
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if not container.state.is_live or container.shim is None:
        raise Conflict(f"container {container.id} is not running")


async def pause(context: Context, reference: str) -> None:
    """POST /containers/X/pause."""
    container = context.find(reference)
    async with container.lock:
        _live(container)
        if container.state.status == "paused":
            raise Conflict(f"Container {container.id} is already paused")
        assert container.shim is not None
        await container.shim.pause()
        event = context.events.make("container", "pause", container.id, container.attributes())
        await context.transit(container, "pause", container.state, events=(event,))


async def unpause(context: Context, reference: str) -> None:
    """POST /containers/X/unpause."""
    container = context.find(reference)
    async with container.lock:
        if container.state.status != "paused" or container.shim is None:
            raise Conflict(f"Container {container.id} is not paused")
        await container.shim.resume()
        event = context.events.make("container", "unpause", container.id, container.attributes())
        await context.transit(container, "unpause", container.state, events=(event,))


# -- rename, update, wait ------------------------------------------------------------------------


async def rename(context: Context, reference: str, new_name: str) -> None:
    """POST /containers/X/rename."""
    container = context.find(reference)
    if not new_name.removeprefix("/"):
        raise InvalidParameter("Neither old nor new names may be empty")
    name = check_name(new_name)
    async with container.lock:
        old = container.name
        if name == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        context.claim_name(name, container.id)
        event = context.events.make(
            "container",
            "rename",
            container.id,
            {**container.attributes(), "name": name, "oldName": f"/{old}"},
        )
        try:
            await context.records.write(
                ("UPDATE containers SET name = ? WHERE id = ?", (name, container.id)),
                EventLog.write_of(event),
            )
        except BaseException:
            context.names.pop(name, None)
            raise
        container.name = name
        context.names.pop(old, None)
        context.events.publish(event)
        await networking.renamed(context, container)


async def update(context: Context, reference: str, body: Mapping[str, Any]) -> Json:
    """POST /containers/X/update."""
    wanted = read(UpdateConfig, body, name="UpdateConfig")
    container = context.find(reference)
    async with container.lock:
        if container.removing:
            raise Conflict(
                f"Cannot update container {container.id}: container is marked for removal"
            )
        host = _updated(container, wanted)
        validate.check_resources(host)
        warnings: list[str] = []
        if container.shim is not None and container.state.is_live:
            warnings = await container.shim.update(limits_of(host))
        definition = replace(container.definition, host=host)
        event = context.events.make("container", "update", container.id, container.attributes())
        await context.records.write(
            (
                "UPDATE containers SET definition = ? WHERE id = ?",
                (json.dumps(definition.to_json()), container.id),
            ),
            EventLog.write_of(event),
        )
        container.definition = definition
        context.events.publish(event)
    return {"Warnings": warnings}


def _updated(container: Container, wanted: UpdateConfig) -> HostConfig:
    """The HostConfig with every value that the update names."""
    host = container.host
    changes: dict[str, Any] = {
        field.name: getattr(wanted, field.name)
        for field in fields(UpdateConfig)
        if getattr(wanted, field.name)
        and not isinstance(getattr(wanted, field.name), RestartPolicy)
    }
    if wanted.pids_limit is not None and wanted.pids_limit <= 0:
        changes["pids_limit"] = None
    policy = wanted.restart_policy
    if policy.name:
        if host.auto_remove and policy.name != "no":
            raise InvalidParameter(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        validate.check_restart_policy(policy)
        changes["restart_policy"] = policy
    if wanted.memory and not wanted.memory_swap and 0 < host.memory_swap < wanted.memory:
        raise InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    if wanted.nano_cpus and (host.cpu_quota or host.cpu_period):
        raise InvalidParameter(
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota or Period has already "
            "been set"
        )
    if (wanted.cpu_quota or wanted.cpu_period) and host.nano_cpus and not wanted.nano_cpus:
        raise InvalidParameter(
            "Conflicting options: CPU Quota or Period cannot be updated as NanoCPUs has already "
            "been set"
        )
    return replace(host, **changes)


def wait(context: Context, reference: str, *, condition: str) -> Awaitable[Json]:
    """POST /containers/X/wait: registers at once."""
    container = context.find(reference)
    state: State = container.state
    match condition:
        case "not-running":
            future = container.waiter("not-running")
            if not state.is_running:
                future.set_result({"StatusCode": state.exit_code})
            return future
        case "next-exit":
            return container.waiter("next-exit")
        case "removed":
            return container.waiter("removed")
    raise InvalidParameter(f'invalid condition: "{condition}"')

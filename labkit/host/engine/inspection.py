"""GET /containers/X/json and /changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.host.engine.container import Container, MountRecord
from labkit.host.engine.networking_ports import ports_json
from labkit.host.engine.networks_json import endpoint_json
from labkit.host.engine.times import format_time
from labkit.host.engine.wire import write

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["changes", "inspect", "mount_json", "networks_json", "published"]

Json = dict[str, Any]


def networks_json(context: Context, container: Container) -> Json:
    """NetworkSettings.Networks: the container's endpoints by the network's name."""
    networks = context.networks
    return {
        name: endpoint_json(endpoint, networks.networks.get(endpoint.network_id))
        for name, endpoint in networks.endpoints_of(container.id).items()
    }


def mount_json(context: Context, mount: MountRecord) -> Json:
    """One entry of Mounts."""
    found: Json = {"Type": mount.kind}
    if mount.name:
        found["Name"] = mount.name
    found["Source"] = context.shown(mount.source)
    found["Destination"] = mount.target
    if mount.kind == "volume":
        found["Driver"] = "local"
    found["Mode"] = mount.mode
    found["RW"] = mount.writable
    found["Propagation"] = mount.propagation if mount.kind == "bind" else ""
    return found


def _state(container: Container) -> Json:
    state = container.state
    found: Json = {
        "Status": state.status,
        "Running": state.is_running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": format_time(state.started_at_ns),
        "FinishedAt": format_time(state.finished_at_ns),
    }
    if state.health is not None:
        found["Health"] = state.health
    return found


def published(context: Context, container: Container) -> Json:
    """NetworkSettings.Ports: empty unless it runs, as in Docker."""
    if not container.state.is_live:
        return {}
    endpoints = context.networks.endpoints_of(container.id).values()
    return ports_json(container.config, container.host, endpoints)


def _network_settings(context: Context, container: Container) -> Json:
    networks = networks_json(context, container)
    is_live = container.state.is_live
    # Docker repeats the default bridge's endpoint at the top, for clients of 2014.
    first = networks.get("bridge", {})
    return {
        "Bridge": "",
        "SandboxID": container.id if is_live else "",
        "SandboxKey": f"/var/run/docker/netns/{container.id[:12]}" if is_live else "",
        "Ports": published(context, container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.get("EndpointID", ""),
        "Gateway": first.get("Gateway", ""),
        "GlobalIPv6Address": first.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "IPv6Gateway": first.get("IPv6Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": networks,
    }


async def inspect(context: Context, reference: str, *, size: bool = False) -> Json:
    """GET /containers/X/json."""
    container = context.find(reference)
    definition = container.definition
    folder = context.shown(context.folder(container.id))
    has_log = container.host.log_config.type == "json-file"
    running = [item.id for item in container.execs.values() if item.running]
    driver = await _graph_driver(context, container)
    found: Json = {
        "Id": container.id,
        "Created": format_time(definition.created_ns),
        "Path": definition.path,
        "Args": list(definition.args),
        "State": _state(container),
        "Image": definition.image_id,
        "ResolvConfPath": f"{folder}/resolv.conf",
        "HostnamePath": f"{folder}/hostname",
        "HostsPath": f"{folder}/hosts",
        "LogPath": f"{folder}/{container.id}-json.log" if has_log else "",
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": driver["Name"],
        "Platform": definition.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": running or None,
        "HostConfig": write(container.host),
        "GraphDriver": driver,
        "Mounts": [mount_json(context, mount) for mount in definition.mounts],
        "Config": write(container.config),
        "NetworkSettings": _network_settings(context, container),
    }
    if size:
        from labkit.host.engine.listing import sizes

        found["SizeRw"], found["SizeRootFs"] = await sizes(context, container)
    return found


async def _graph_driver(context: Context, container: Container) -> Json:
    try:
        return await asyncio.to_thread(context.ports.snapshots.graph_driver, container.id)
    except LabkitError:
        return {"Name": "overlay2", "Data": None}


async def changes(context: Context, reference: str) -> list[Json]:
    """GET /containers/X/changes."""
    container = context.find(reference)
    found = await asyncio.to_thread(lambda: list(context.ports.snapshots.changes(container.id)))
    return [{"Path": change.path, "Kind": change.kind} for change in found]

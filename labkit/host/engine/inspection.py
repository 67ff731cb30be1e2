"""GET /containers/X/json and /changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.host.engine.container import Container, MountRecord
from labkit.host.engine.times import format_time
from labkit.host.engine.wire import write

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["changes", "endpoint_json", "inspect", "mount_json", "network_name"]

Json = dict[str, Any]


def network_name(container: Container) -> str:
    """The network the container is on in truth: `none` until the lab has networks."""
    mode = container.host.network_mode
    if mode.startswith("container:"):
        return ""
    return "host" if mode == "host" else "none"


def endpoint_json() -> Json:
    """A container's end of its network; without networks it has no address."""
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
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


def _network_settings(container: Container) -> Json:
    name = network_name(container)
    ports: Json = (
        dict.fromkeys(container.config.exposed_ports or ()) if container.state.is_live else {}
    )
    return {
        "Bridge": "",
        "SandboxID": container.id if container.state.is_live else "",
        "SandboxKey": f"/var/run/docker/netns/{container.id[:12]}"
        if container.state.is_live
        else "",
        "Ports": ports,
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {name: endpoint_json()} if name else {},
    }


async def inspect(context: Context, reference: str, *, size: bool = False) -> Json:
    """GET /containers/X/json."""
    container = context.find(reference)
    definition = container.definition
    folder = context.shown(context.folder(container.id))
    has_log = container.host.log_config.type != "none"
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
        "NetworkSettings": _network_settings(container),
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

"""docker network connect and disconnect, on containers that run and on those that do not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, Forbidden, LabkitError, NotFound
from labkit.host.engine import networking_ports
from labkit.host.engine.hostconfig import EndpointConfig
from labkit.host.engine.networking import publish, serve_names, write_files
from labkit.host.engine.networking_endpoints import (
    allocate,
    attachment,
    check_settings,
    drop,
    endpoint_rows,
    gateways,
)
from labkit.host.engine.networking_names import enter_names, serves_names_itself
from labkit.host.engine.networks_model import Endpoint, Network
from labkit.host.engine.wire import read
from labkit.host.network.namespaces import open_namespace

if TYPE_CHECKING:
    from labkit.host.engine.container import Container
    from labkit.host.engine.context import Context

__all__ = ["connect", "disconnect"]


def _may_change(container: Container, network: Network, verb: str) -> None:
    mode = container.host.network_mode
    if mode.startswith("container:"):
        raise Forbidden(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
        )
    if mode == "host" or network.name == "host":
        if verb == "disconnect":
            raise Forbidden("container cannot be disconnected from host network or connected to "
                            "host network")  # fmt: skip
        raise Forbidden(
            "container sharing network namespace with another container or host cannot be "
            "connected to any other network"
            if mode == "host"
            else "container cannot be disconnected from host network or connected to host network"
        )
    if container.removing or container.state.status in ("removing", "dead"):
        raise Conflict(f"container {container.id} is marked for removal and cannot be {verb}ed")


async def connect(context: Context, reference: str, body: Mapping[str, Any]) -> None:
    """POST /networks/X/connect."""
    network = context.networks.find(reference)
    settings = read(EndpointConfig, body.get("EndpointConfig") or {}, name="EndpointConfig")
    container = context.find(str(body.get("Container") or ""))
    async with container.lock:
        _may_change(container, network, "connect")
        endpoints = context.networks.endpoints_of(container.id)
        if network.name in endpoints and container.state.is_live:
            raise Forbidden(
                f"endpoint with name {container.name} already exists in network {network.name}"
            )
        check_settings(network, settings)
        if network.config_only:
            raise Forbidden(f"cannot attach to configuration-only network {network.name}")
        if "none" in endpoints and container.host.network_mode == "none":
            raise Forbidden("container cannot be connected to multiple networks with one of the "
                            "networks in private (none) mode")  # fmt: skip
        endpoint = Endpoint(container.id, network.name, network.id, settings)
        if not container.state.is_live or context.networks.plumbing is None:
            endpoints[network.name] = endpoint
            await context.records.write(*endpoint_rows(container.id, {network.name: endpoint}))
            return
        await _connect_live(context, container, network, endpoint)
    await context.networks.emit("connect", network, container.id)


async def _connect_live(
    context: Context, container: Container, network: Network, endpoint: Endpoint
) -> None:
    networks = context.networks
    endpoints = networks.endpoints_of(container.id)
    plumbing = networks.plumbing
    assert plumbing is not None
    assert container.shim is not None
    used = {item.live.interface for item in endpoints.values() if item.live is not None}
    number = next(n for n in range(1 << 16) if f"eth{n}" not in used)
    if network.removing:
        raise Conflict(f"network {network.name} is being removed")
    endpoint.live = allocate(container, network, endpoint, number)
    before = gateways(context, container.id)
    endpoints[network.name] = endpoint
    network.endpoints[container.id] = endpoint
    namespace = open_namespace(container.shim.init_pid)
    made: list[str] = []
    try:
        made, sockets = await plumbing.attach(
            namespace,
            [attachment(network, endpoint.live, endpoint.settings)],
            [],
            with_dns=network.has_names and container.resolver is None,
            dns_aside=serves_names_itself(container),
        )
        endpoint.live.host_name = made[0]
        after = gateways(context, container.id)
        if before != after:
            await plumbing.set_gateways(namespace, after)
        if sockets is not None:
            serve_names(context, container, sockets)
        if not any(item.ports for item in endpoints.values()):
            await _publish_live(context, container)
        write_files(context, container)
        await context.records.write(*endpoint_rows(container.id, endpoints))
    except BaseException:
        with contextlib.suppress(LabkitError, OSError):
            await plumbing.detach(made)
            await plumbing.set_gateways(namespace, before)
        drop(context, endpoint)
        endpoints.pop(network.name, None)
        raise
    finally:
        os.close(namespace)
    enter_names(network, endpoint)


async def _publish_live(context: Context, container: Container) -> None:
    await publish(context, container)
    plumbing = context.networks.plumbing
    assert plumbing is not None
    for endpoint in context.networks.endpoints_of(container.id).values():
        await plumbing.add_ports(networking_ports.recorded_rules(endpoint))


async def disconnect(context: Context, reference: str, body: Mapping[str, Any]) -> None:
    """POST /networks/X/disconnect. With Force a container that is gone is fine."""
    network = context.networks.find(reference)
    is_forced = bool(body.get("Force"))
    wanted = str(body.get("Container") or "")
    try:
        container = context.find(wanted)
    except NotFound:
        if is_forced:
            await _disconnect_stray(context, network, wanted)
            return
        raise
    async with container.lock:
        _may_change(container, network, "disconnect")
        endpoints = context.networks.endpoints_of(container.id)
        if network.name not in endpoints:
            raise Forbidden(
                f"container {container.id} is not connected to network {network.name}"
                if not container.state.is_live
                else f"container {container.id} is not connected to the network {network.name}"
            )
        endpoint = endpoints[network.name]
        was_live = endpoint.live is not None
        if was_live:
            await _disconnect_live(context, container, network, endpoint)
        endpoints.pop(network.name, None)
        await context.records.write(
            ("DELETE FROM endpoints WHERE container = ? AND name = ?",
             (container.id, network.name)),
            *endpoint_rows(container.id, endpoints),
        )  # fmt: skip
    if was_live:
        await context.networks.emit("disconnect", network, container.id)


async def _disconnect_stray(context: Context, network: Network, wanted: str) -> None:
    for identifier, endpoint in tuple(network.endpoints.items()):
        if identifier.startswith(wanted) and identifier not in context.containers:
            live = drop(context, endpoint)
            if live is not None and context.networks.plumbing is not None:
                await context.networks.plumbing.detach([live.host_name])


async def _disconnect_live(
    context: Context, container: Container, network: Network, endpoint: Endpoint
) -> None:
    networks = context.networks
    plumbing, shim = networks.plumbing, container.shim
    assert plumbing is not None
    assert endpoint.live is not None
    rules, had_ports = networking_ports.recorded_rules(endpoint), bool(endpoint.ports)
    if endpoint.live.host_name:
        await plumbing.detach([endpoint.live.host_name], rules)
    namespace = None if shim is None else open_namespace(shim.init_pid)
    try:
        if namespace is not None and not endpoint.live.host_name:
            await plumbing.remove_inside(namespace, endpoint.live.interface)
        if had_ports and networks.publisher is not None:
            await networks.publisher.release(container.id)
        drop(context, endpoint)
        if namespace is not None:
            await plumbing.set_gateways(namespace, gateways(context, container.id))
    finally:
        if namespace is not None:
            os.close(namespace)
    if had_ports:
        with contextlib.suppress(LabkitError):
            await _publish_live(context, container)
    networks.endpoints_of(container.id).pop(network.name, None)
    write_files(context, container)

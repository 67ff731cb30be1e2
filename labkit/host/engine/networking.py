"""Containers on networks: joining at a start, leaving at the end, connect and disconnect between.

A join happens while the container's process is held just before its exec: addresses are chosen in
memory, one trip to the worker makes links, routes and the resolver's sockets, and the records are
written at the same time; then the process is released. What a crash leaves of it, recovery undoes
(links without a record) or makes again (records without a link).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, LabkitError, SystemFailure
from labkit.host.engine import hostfiles, networking_ports
from labkit.host.engine.networking_endpoints import (
    allocate,
    attachment,
    check_endpoints,
    drop,
    endpoint_rows,
    endpoints_for,
    gateways,
    main_endpoint,
    network_of,
    require_networks,
    rows_of,
)
from labkit.host.engine.networking_names import (
    ContainerNames,
    dns_names,
    enter_names,
    forget_names,
    serves_names_itself,
)
from labkit.host.network.namespaces import open_namespace

if TYPE_CHECKING:
    from labkit.host.engine.container import Container
    from labkit.host.engine.context import Context
    from labkit.host.engine.ports import ShimPort

__all__ = [
    "check_endpoints",
    "endpoint_rows",
    "endpoints_for",
    "forget",
    "join",
    "leave",
    "needs_joining",
    "publish",
    "renamed",
    "require_networks",
    "serve_names",
    "take_up",
    "write_files",
]

_LOG = logging.getLogger("labkit.network")
_LINGER_S = 1.0


def needs_joining(context: Context, container: Container) -> bool:
    """Whether the process must be held until its networks are there."""
    mode = container.host.network_mode
    return (
        context.networks.plumbing is not None
        and mode not in ("host", "none")
        and not mode.startswith("container:")
    )


async def join(context: Context, container: Container, shim: ShimPort) -> None:
    """Put a held container onto its networks; on failure it is on none of them.

    The caller holds the container's lock.
    """
    networks = context.networks
    endpoints = networks.endpoints_of(container.id)
    plumbing = networks.plumbing
    assert plumbing is not None
    pairs = [(network_of(context, item), item) for item in endpoints.values()]
    made: list[str] = []
    try:
        for number, (network, endpoint) in enumerate(pairs):
            if network.removing:
                raise Conflict(f"network {network.name} is being removed")
            endpoint.live = allocate(container, network, endpoint, number)
            network.endpoints[container.id] = endpoint
        await publish(context, container)
        attachments = [
            attachment(network, endpoint.live, endpoint.settings)
            for network, endpoint in pairs
            if endpoint.live is not None
        ]
        rules = [
            rule for item in endpoints.values() for rule in networking_ports.recorded_rules(item)
        ]
        has_dns = any(network.has_names for network, _ in pairs)
        write_files(context, container)
        namespace = open_namespace(shim.init_pid)
        try:
            made, sockets = await plumbing.attach(
                namespace, attachments, gateways(context, container.id),
                with_dns=has_dns, dns_aside=serves_names_itself(container), hosts_ports=rules,
            )  # fmt: skip
        finally:
            os.close(namespace)
        for (_, endpoint), name in zip(pairs, made, strict=True):
            assert endpoint.live is not None
            endpoint.live.host_name = name
        if sockets is not None:
            serve_names(context, container, sockets)
        events = [
            context.events.make(
                "network", "connect", network.id,
                {"name": network.name, "type": network.driver, "container": container.id},
            )
            for network, _ in pairs
        ]  # fmt: skip
        await context.records.write(
            *rows_of(context, container), *(context.events.write_of(e) for e in events)
        )
    except BaseException as error:
        await _withdraw(context, container, made)
        if isinstance(error, SystemFailure) and not error.message.startswith("failed to set up"):
            raise SystemFailure(
                f"failed to set up container networking: {error.message}", hint=error.hint
            ) from error
        raise
    for network, endpoint in pairs:
        enter_names(network, endpoint)
    context.events.publish(*events)


async def publish(context: Context, container: Container) -> None:
    main = main_endpoint(context, container.id)
    publisher = context.networks.publisher
    if main is None or publisher is None or main[0].driver != "bridge":
        return
    network, endpoint = main
    endpoint.ports = await publisher.publish(container, endpoint, network)


async def _withdraw(context: Context, container: Container, made: list[str]) -> None:
    """Undo a join that failed."""
    networks = context.networks
    rules = [
        rule
        for endpoint in networks.endpoints_of(container.id).values()
        for rule in networking_ports.recorded_rules(endpoint)
    ]
    if networks.plumbing is not None:
        with contextlib.suppress(LabkitError, OSError):
            await networks.plumbing.detach(made, rules)
    if networks.publisher is not None:
        await networks.publisher.release(container.id)
    stop_names(container)
    for endpoint in networks.endpoints_of(container.id).values():
        drop(context, endpoint)


def serve_names(context: Context, container: Container, sockets: Any) -> None:
    from labkit.host.network.dns import DnsServer

    names = ContainerNames(context, container)
    stop_names(container)
    container.resolver = DnsServer(sockets, names, names.forward)


def stop_names(container: Container) -> None:
    if container.resolver is not None:
        container.resolver.close()
        container.resolver = None


def write_files(context: Context, container: Container) -> None:
    """hosts and resolv.conf as the container's present networks want them."""
    networks = context.networks
    own: list[str] = []
    has_names = False
    for endpoint in networks.endpoints_of(container.id).values():
        network = networks.networks.get(endpoint.network_id)
        if endpoint.live is not None and network is not None:
            own += [str(address) for address in endpoint.live.addresses]
            has_names = has_names or network.has_names
    default = networks.get("bridge")
    gateway = default.gateway(4) if default is not None else None
    view = hostfiles.NetworkView(
        addresses=tuple(own),
        links=tuple(_links(context, container)),
        host_gateway=str(gateway or ""),
        has_resolver=has_names,
        resolvers=networks.way_out.resolvers,
    )
    hostfiles.write_host_files(context.folder(container.id), container.config, container.host, view)


def _links(context: Context, container: Container) -> list[tuple[str, str]]:
    """(address, names) of the containers linked to on the default bridge."""
    found = []
    for entry in container.host.links or ():
        target, _, alias = entry.partition(":")
        other = context.find(target)
        endpoint = context.networks.endpoints_of(other.id).get("bridge")
        if endpoint is None or endpoint.live is None:
            raise Conflict(
                f"Cannot link to a non running container: /{other.name} AS "
                f"/{container.name}/{alias or other.name}"
            )
        names = dict.fromkeys((alias.rpartition("/")[2] or other.name,
                               other.config.hostname, other.name))  # fmt: skip
        found.append((str(endpoint.live.v4), " ".join(names)))
    return found


async def leave(context: Context, container: Container) -> None:
    """The container has ended: it is on no network any more, and its addresses are free.

    Its links die with its namespace; until then they are silent.
    """
    networks = context.networks
    endpoints = networks.endpoints_of(container.id)
    live = [endpoint for endpoint in endpoints.values() if endpoint.live is not None]
    stop_names(container)
    if not live:
        return
    rules = [rule for endpoint in live for rule in networking_ports.recorded_rules(endpoint)]
    names = [endpoint.live.host_name for endpoint in live if endpoint.live is not None]
    if networks.plumbing is not None:
        with contextlib.suppress(LabkitError, OSError):
            await networks.plumbing.silence(names, rules)
    if networks.publisher is not None:
        await networks.publisher.release(container.id)
    left = [networks.networks.get(endpoint.network_id) for endpoint in live]
    for endpoint in live:
        drop(context, endpoint)
    events = [
        context.events.make(
            "network", "disconnect", network.id,
            {"name": network.name, "type": network.driver, "container": container.id},
        )
        for network in left
        if network is not None
    ]  # fmt: skip
    with contextlib.suppress(SystemFailure):
        await context.records.write(
            *rows_of(context, container), *(context.events.write_of(e) for e in events)
        )
    context.events.publish(*events)
    if networks.plumbing is not None and any(names):
        context.spawn(_tidy(context, names), f"links of {container.name}")


async def _tidy(context: Context, names: list[str]) -> None:
    """Remove pairs that outlive their container because something else holds its namespace."""
    await asyncio.sleep(_LINGER_S)
    plumbing = context.networks.plumbing
    if plumbing is not None and not context.closing:
        with contextlib.suppress(LabkitError, OSError):
            await plumbing.detach(names)


def forget(context: Context, container: str) -> None:
    """The container is removed: its endpoints with it."""
    context.networks.by_container.pop(container, None)


async def renamed(context: Context, container: Container) -> None:
    """Let its networks know a container by its new name."""
    changed = False
    for endpoint in context.networks.endpoints_of(container.id).values():
        network = context.networks.networks.get(endpoint.network_id)
        if network is not None and endpoint.live is not None and network.has_names:
            forget_names(network, endpoint)
            endpoint.live.dns_names = dns_names(container, endpoint)
            enter_names(network, endpoint)
            changed = True
    if changed:
        await context.records.write(
            *endpoint_rows(container.id, context.networks.endpoints_of(container.id))
        )


async def take_up(context: Context, container: Container, shim: ShimPort) -> None:
    """Bring a living container's network into agreement with its records.

    Links that are missing are made, links of a connect that was never recorded are gone already
    (Networks.open swept them away); the resolver and the published ports are served again.
    """
    networks = context.networks
    plumbing = networks.plumbing
    if plumbing is None or not needs_joining(context, container):
        return
    endpoints = networks.endpoints_of(container.id)
    if not any(endpoint.live is not None for endpoint in endpoints.values()):
        await join(context, container, shim)
        return
    present = await plumbing.link_names()
    namespace = open_namespace(shim.init_pid)
    try:
        for name, endpoint in tuple(endpoints.items()):
            network = networks.networks.get(endpoint.network_id)
            if network is None or endpoint.live is None:
                drop(context, endpoint)
                continue
            network.endpoints[container.id] = endpoint
            if endpoint.live.host_name and endpoint.live.host_name not in present:
                made, _ = await plumbing.attach(
                    namespace, [attachment(network, endpoint.live, endpoint.settings)], []
                )
                endpoint.live.host_name = made[0]
                _LOG.info("made %s of container %s again", name, container.name)
            enter_names(network, endpoint)
        has_names = any(
            networks.networks[item.network_id].has_names
            for item in endpoints.values()
            if item.live is not None
        )
        await plumbing.set_gateways(namespace, gateways(context, container.id))
        if has_names:
            with contextlib.suppress(OSError):
                serve_names(
                    context,
                    container,
                    await plumbing.dns_sockets(namespace, aside=serves_names_itself(container)),
                )
    finally:
        os.close(namespace)
    if networks.publisher is not None:
        for endpoint in endpoints.values():
            for problem in await networks.publisher.resume(container.id, endpoint):
                _LOG.warning("container %s: %s", container.name, problem)
    await context.records.write(*endpoint_rows(container.id, endpoints))

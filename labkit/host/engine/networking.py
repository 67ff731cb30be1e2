"""Containers on networks: joining at a start, leaving at the end, connect and disconnect between.

A join happens while the container's process is held just before its exec: addresses are chosen in
memory, one trip to the worker makes links, routes and the resolver's sockets, and the records are
written at the same time; then the process is released. What a crash leaves of it, recovery undoes
(links without a record) or makes again (records without a link).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    LabkitError,
    NotFound,
    SystemFailure,
)
from labkit.base.ids import new_id
from labkit.host.engine import hostfiles, networking_ports
from labkit.host.engine.hostconfig import EndpointConfig
from labkit.host.engine.networking_names import (
    ContainerNames,
    dns_names,
    enter_names,
    forget_names,
)
from labkit.host.engine.networks_model import Endpoint, Live, Network
from labkit.host.engine.wire import read
from labkit.host.network.ipam import mac_for
from labkit.host.network.namespaces import open_namespace

if TYPE_CHECKING:
    from labkit.host.engine.container import Container, Definition
    from labkit.host.engine.context import Context
    from labkit.host.engine.ports import ShimPort
    from labkit.host.engine.records import Write
    from labkit.host.network.netlink import Address
    from labkit.host.network.plumbing import Attachment

__all__ = [
    "check_endpoints",
    "connect",
    "disconnect",
    "endpoint_rows",
    "endpoints_for",
    "forget",
    "join",
    "leave",
    "needs_joining",
    "renamed",
    "require_networks",
    "take_up",
]

_LOG = logging.getLogger("labkit.network")
_LINGER_S = 1.0


# -- what is asked for -----------------------------------------------------------------------------


def endpoints_for(context: Context, definition: Definition) -> dict[str, Endpoint]:
    """The endpoints a new container asks for, its main network first."""
    mode = definition.host.network_mode
    if mode.startswith("container:"):
        return {}
    main = "bridge" if mode in ("", "default") else mode
    asked: dict[str, EndpointConfig] = {}
    for key, settings in (definition.networking.endpoints or {}).items():
        network = context.networks.get(main if key == "default" else key)
        name = network.name if network is not None else (main if key == "default" else key)
        asked[name] = settings or EndpointConfig()
    found = context.networks.get(main)
    first = found.name if found is not None else main
    ordered = {first: asked.pop(first, EndpointConfig()), **asked}
    if first in ("host", "none") and len(ordered) > 1:
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    return {
        name: Endpoint(
            definition.id,
            name,
            network.id if (network := context.networks.get(name)) is not None else "",
            settings,
        )
        for name, settings in ordered.items()
    }


def check_endpoints(context: Context, endpoints: Mapping[str, Endpoint]) -> None:
    """Refuse what a network cannot give. Networks that do not exist are the start's business."""
    for endpoint in endpoints.values():
        network = context.networks.get(endpoint.network_id or endpoint.network_name)
        if network is not None:
            check_settings(network, endpoint.settings)


def _wanted(settings: EndpointConfig, version: int) -> Address | None:
    text = (settings.ipam_config or {}).get(f"IPv{version}Address")
    if not text:
        return None
    try:
        found = ipaddress.ip_address(str(text))
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise InvalidParameter(f"invalid endpoint settings:\ninvalid IPv{version} address: {text}")
    return found


def check_settings(network: Network, settings: EndpointConfig) -> None:
    """Docker's rules for addresses and aliases asked for. Raises InvalidParameter."""
    wanted = [found for version in (4, 6) if (found := _wanted(settings, version)) is not None]
    head = f"invalid config for network {network.name}: invalid endpoint settings:\n"
    if network.is_built_in:
        if wanted:
            raise InvalidParameter(
                f"{head}user specified IP address is supported on user defined networks only"
            )
        if settings.aliases:
            raise InvalidParameter(
                f"{head}network-scoped aliases are only supported for user-defined networks"
            )
    for address in wanted:
        pools = [pool for pool in network.pools if pool.subnet.version == address.version]
        if not any(pool.is_user_chosen for pool in pools):
            raise InvalidParameter(
                f"{head}user specified IP address is supported only when connecting to networks "
                "with user configured subnets",
                hint=f"docker network create --subnet=… {network.name}",
            )
        if network.pool_of(address) is None:
            raise InvalidParameter(f"{head}no configured subnet contains IP address {address}")
    if settings.mac_address:
        _check_mac(settings.mac_address)


def _check_mac(text: str) -> None:
    parts = text.replace("-", ":").split(":")
    is_valid = len(parts) == 6 and all(
        len(part) == 2 and all(c in "0123456789abcdefABCDEF" for c in part) for part in parts
    )
    if not is_valid:
        raise InvalidParameter(f"invalid MAC address: {text}")


def endpoint_rows(container: str, endpoints: Mapping[str, Endpoint]) -> list[Write]:
    """The records of these endpoints."""
    return [
        (
            "INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?)",
            (container, name, json.dumps(endpoint.to_json())),
        )
        for name, endpoint in endpoints.items()
    ]


def _rows(context: Context, container: Container) -> list[Write]:
    """The records of a container's endpoints; a build's step has no record, and lives for once."""
    if context.containers.get(container.id) is not container:
        return []
    return endpoint_rows(container.id, context.networks.endpoints_of(container.id))


def needs_joining(context: Context, container: Container) -> bool:
    """Whether the process must be held until its networks are there."""
    mode = container.host.network_mode
    return (
        context.networks.plumbing is not None
        and mode not in ("host", "none")
        and not mode.startswith("container:")
    )


# -- joining ---------------------------------------------------------------------------------------


def _network_of(context: Context, endpoint: Endpoint) -> Network:
    networks = context.networks
    if endpoint.network_id:
        network = networks.networks.get(endpoint.network_id)
    else:
        network = networks.get(endpoint.network_name)
    if network is None:
        shown = endpoint.network_id or endpoint.network_name
        raise NotFound(
            f"failed to set up container networking: network {shown} not found",
            hint=f"`docker network create {endpoint.network_name}`, and make the container again",
        )
    if network.config_only:
        raise Forbidden(f"cannot attach to configuration-only network {network.name}")
    endpoint.network_id = network.id
    return network


def require_networks(context: Context, container: Container) -> None:
    """NotFound unless every network the container is to join exists."""
    for endpoint in context.networks.endpoints_of(container.id).values():
        _network_of(context, endpoint)


def _allocate(container: Container, network: Network, endpoint: Endpoint, number: int) -> Live:
    """Addresses and names for one endpoint; nothing is taken when anything is refused."""
    from labkit.host.network.plumbing import new_host_name

    taken: list[Address] = []
    chosen: dict[int, Any] = {4: None, 6: None}
    try:
        for version, enabled in ((4, network.enable_ipv4), (6, network.enable_ipv6)):
            pool = network.pool(version)
            if pool is None or not enabled:
                continue
            wanted = _wanted(endpoint.settings, version)
            if wanted is not None:
                pool = network.pool_of(wanted) or pool
            chosen[version] = pool.take(container.id, wanted)
            taken.append(chosen[version])
    except BaseException:
        for address in taken:
            _give_back(network, address, container.id)
        raise
    base = chosen[4] or chosen[6]
    mac = endpoint.settings.mac_address.replace("-", ":").lower()
    if not mac and base is not None:
        mac = mac_for(base)
    live = Live(new_id(), chosen[4], chosen[6], mac, f"eth{number}", new_host_name())
    if network.has_names:
        live.dns_names = dns_names(container, endpoint)
    return live


def _give_back(network: Network, address: Address, owner: str) -> None:
    pool = network.pool_of(address)
    if pool is not None:
        pool.release(address, owner)


def _attachment(network: Network, live: Live, settings: EndpointConfig) -> Attachment:
    from labkit.host.network.plumbing import Attachment

    prefixes = [
        f"{address}/{pool.subnet.prefixlen}"
        for address in live.addresses
        if (pool := network.pool_of(address)) is not None
    ]
    name = "com.docker.network.endpoint.sysctls"
    sysctls = tuple(
        (key.replace(".", "/").replace("IFNAME", live.interface), value)
        for key, _, value in (
            word.partition("=") for word in (settings.driver_opts or {}).get(name, "").split(",")
        )
        if key and value
    )
    kind = "veth" if network.driver == "bridge" else network.driver
    return Attachment(
        live.interface,
        tuple(prefixes),
        live.mac,
        host_name=live.host_name,
        bridge=network.bridge,
        mtu=network.mtu,
        isolated=not network.option("com.docker.network.bridge.enable_icc", default=True),
        has_ipv6=live.v6 is not None,
        parent=network.options.get("parent", ""),
        kind=kind,
        mode=network.options.get(f"{kind}_mode", ""),
        sysctls=sysctls,
    )


def _main_endpoint(context: Context, container: str) -> tuple[Network, Endpoint] | None:
    """The endpoint that gives the default route: highest priority, then both families, by name."""
    found = [
        (network, endpoint)
        for endpoint in context.networks.endpoints_of(container).values()
        if endpoint.live is not None
        and (network := context.networks.networks.get(endpoint.network_id)) is not None
        and not network.internal
        and any(pool.gateway is not None for pool in network.pools)
    ]
    if not found:
        return None
    return min(
        found,
        key=lambda pair: (
            -pair[1].settings.gateway_priority,
            not (pair[1].live and pair[1].live.v4 and pair[1].live.v6),
            pair[0].name,
        ),
    )


def _gateways(context: Context, container: str) -> list[Address]:
    main = _main_endpoint(context, container)
    if main is None:
        return []
    network, endpoint = main
    assert endpoint.live is not None
    return [
        pool.gateway
        for address in endpoint.live.addresses
        if (pool := network.pool_of(address)) is not None and pool.gateway is not None
    ]


async def join(context: Context, container: Container, shim: ShimPort) -> None:
    """Put a held container onto its networks; on failure it is on none of them.

    The caller holds the container's lock.
    """
    networks = context.networks
    endpoints = networks.endpoints_of(container.id)
    plumbing = networks.plumbing
    assert plumbing is not None
    pairs = [(_network_of(context, item), item) for item in endpoints.values()]
    made: list[str] = []
    try:
        for number, (network, endpoint) in enumerate(pairs):
            if network.removing:
                raise Conflict(f"network {network.name} is being removed")
            endpoint.live = _allocate(container, network, endpoint, number)
            network.endpoints[container.id] = endpoint
        await _publish(context, container)
        attachments = [
            _attachment(network, endpoint.live, endpoint.settings)
            for network, endpoint in pairs
            if endpoint.live is not None
        ]
        rules = [
            rule for item in endpoints.values() for rule in networking_ports.recorded_rules(item)
        ]
        has_dns = any(network.has_names for network, _ in pairs)
        _write_files(context, container)
        namespace = open_namespace(shim.init_pid)
        try:
            made, sockets = await plumbing.attach(
                namespace, attachments, _gateways(context, container.id),
                with_dns=has_dns, hosts_ports=rules,
            )  # fmt: skip
        finally:
            os.close(namespace)
        for (_, endpoint), name in zip(pairs, made, strict=True):
            assert endpoint.live is not None
            endpoint.live.host_name = name
        if sockets is not None:
            _serve_names(context, container, sockets)
        events = [
            context.events.make(
                "network", "connect", network.id,
                {"name": network.name, "type": network.driver, "container": container.id},
            )
            for network, _ in pairs
        ]  # fmt: skip
        await context.records.write(
            *_rows(context, container), *(context.events.write_of(e) for e in events)
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


async def _publish(context: Context, container: Container) -> None:
    main = _main_endpoint(context, container.id)
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
    _stop_names(container)
    for endpoint in networks.endpoints_of(container.id).values():
        _drop(context, endpoint)


def _drop(context: Context, endpoint: Endpoint) -> Live | None:
    """Forget what an endpoint has; its addresses are free again."""
    network = context.networks.networks.get(endpoint.network_id)
    live, endpoint.ports = endpoint.live, ()
    if network is not None:
        forget_names(network, endpoint)
        network.endpoints.pop(endpoint.container, None)
        if live is not None:
            for address in live.addresses:
                _give_back(network, address, endpoint.container)
    endpoint.live = None
    return live


# -- the resolver ----------------------------------------------------------------------------------


def _serve_names(context: Context, container: Container, sockets: Any) -> None:
    from labkit.host.network.dns import DnsServer

    names = ContainerNames(context, container)
    _stop_names(container)
    container.resolver = DnsServer(sockets, names, names.forward)


def _stop_names(container: Container) -> None:
    if container.resolver is not None:
        container.resolver.close()
        container.resolver = None


def _write_files(context: Context, container: Container) -> None:
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
        resolvers=(networks.outside.resolver,) if networks.outside is not None else (),
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


# -- leaving ---------------------------------------------------------------------------------------


async def leave(context: Context, container: Container) -> None:
    """The container has ended: it is on no network any more, and its addresses are free.

    Its links die with its namespace; until then they are silent.
    """
    networks = context.networks
    endpoints = networks.endpoints_of(container.id)
    live = [endpoint for endpoint in endpoints.values() if endpoint.live is not None]
    _stop_names(container)
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
        _drop(context, endpoint)
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
            *_rows(context, container), *(context.events.write_of(e) for e in events)
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


# -- connect and disconnect ------------------------------------------------------------------------


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
    endpoint.live = _allocate(container, network, endpoint, number)
    before = _gateways(context, container.id)
    endpoints[network.name] = endpoint
    network.endpoints[container.id] = endpoint
    namespace = open_namespace(container.shim.init_pid)
    made: list[str] = []
    try:
        made, sockets = await plumbing.attach(
            namespace,
            [_attachment(network, endpoint.live, endpoint.settings)],
            [],
            with_dns=network.has_names and container.resolver is None,
        )
        endpoint.live.host_name = made[0]
        after = _gateways(context, container.id)
        if before != after:
            await plumbing.set_gateways(namespace, after)
        if sockets is not None:
            _serve_names(context, container, sockets)
        if not any(item.ports for item in endpoints.values()):
            await _publish_live(context, container)
        _write_files(context, container)
        await context.records.write(*endpoint_rows(container.id, endpoints))
    except BaseException:
        with contextlib.suppress(LabkitError, OSError):
            await plumbing.detach(made)
            await plumbing.set_gateways(namespace, before)
        _drop(context, endpoint)
        endpoints.pop(network.name, None)
        raise
    finally:
        os.close(namespace)
    enter_names(network, endpoint)


async def _publish_live(context: Context, container: Container) -> None:
    await _publish(context, container)
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
            live = _drop(context, endpoint)
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
        _drop(context, endpoint)
        if namespace is not None:
            await plumbing.set_gateways(namespace, _gateways(context, container.id))
    finally:
        if namespace is not None:
            os.close(namespace)
    if had_ports:
        with contextlib.suppress(LabkitError):
            await _publish_live(context, container)
    networks.endpoints_of(container.id).pop(network.name, None)
    _write_files(context, container)


# -- after a restart of the engine -----------------------------------------------------------------


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
                _drop(context, endpoint)
                continue
            network.endpoints[container.id] = endpoint
            if endpoint.live.host_name and endpoint.live.host_name not in present:
                made, _ = await plumbing.attach(
                    namespace, [_attachment(network, endpoint.live, endpoint.settings)], []
                )
                endpoint.live.host_name = made[0]
                _LOG.info("made %s of container %s again", name, container.name)
            enter_names(network, endpoint)
        has_names = any(
            networks.networks[item.network_id].has_names
            for item in endpoints.values()
            if item.live is not None
        )
        await plumbing.set_gateways(namespace, _gateways(context, container.id))
        if has_names:
            with contextlib.suppress(OSError):
                _serve_names(context, container, await plumbing.dns_sockets(namespace))
    finally:
        os.close(namespace)
    if networks.publisher is not None:
        for endpoint in endpoints.values():
            for problem in await networks.publisher.resume(container.id, endpoint):
                _LOG.warning("container %s: %s", container.name, problem)
    await context.records.write(*endpoint_rows(container.id, endpoints))

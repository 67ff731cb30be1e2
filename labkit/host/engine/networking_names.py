"""Who is called what: the resolver's view of one container's networks, and whom it asks else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from labkit.base.ids import short_id
from labkit.host.engine.networks_model import Endpoint, Network
from labkit.host.network.namespaces import open_namespace

if TYPE_CHECKING:
    from labkit.host.engine.container import Container
    from labkit.host.engine.context import Context
    from labkit.host.network.netlink import Address

__all__ = [
    "ContainerNames",
    "dns_names",
    "enter_names",
    "forget_names",
    "machine_resolvers",
    "serves_names_itself",
]

_RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def dns_names(container: Container, endpoint: Endpoint) -> tuple[str, ...]:
    """What a container answers to on a network of the user's: name, aliases, id, host name."""
    names = [container.name, *(endpoint.settings.aliases or ()), short_id(container.id)]
    if container.config.hostname:
        names.append(container.config.hostname)
    return tuple(dict.fromkeys(names))


def serves_names_itself(container: Container) -> bool:
    """Whether the container says that it has a name server of its own (EXPOSE 53, -p …:53)."""
    ports = (*(container.config.exposed_ports or ()), *(container.host.port_bindings or ()))
    return any(port.partition("/")[0] == "53" for port in ports)


def enter_names(network: Network, endpoint: Endpoint) -> None:
    """Let the network's resolver know an endpoint."""
    if network.has_names and endpoint.live is not None:
        for name in {name.lower() for name in endpoint.live.dns_names}:
            network.directory.setdefault(name, []).append(endpoint)


def forget_names(network: Network, endpoint: Endpoint) -> None:
    """The opposite."""
    if endpoint.live is None:
        return
    for name in {name.lower() for name in endpoint.live.dns_names}:
        holders = network.directory.get(name, [])
        if endpoint in holders:
            holders.remove(endpoint)
        if not holders:
            network.directory.pop(name, None)


def machine_resolvers() -> list[str]:
    """The machine's name servers; where a stub on the loopback hides them, the ones behind it."""
    found: list[str] = []
    for path in _RESOLV_CONF:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                lines = [line.split() for line in file]
        except OSError:
            continue
        found = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        if any(not text.startswith("127.") for text in found):
            break
    return found


class ContainerNames:
    """One container's view. Satisfies the resolver's NameLookup."""

    def __init__(self, context: Context, container: Container) -> None:
        self._context = context
        self._container = container

    def _mine(self) -> Iterator[tuple[Network, Endpoint]]:
        networks = self._context.networks
        for endpoint in networks.endpoints_of(self._container.id).values():
            network = networks.networks.get(endpoint.network_id)
            if network is not None and network.has_names and endpoint.live is not None:
                yield network, endpoint

    def _linked(self, endpoint: Endpoint, name: str) -> str | None:
        """The container a link's alias stands for, on this container's endpoint only."""
        for entry in endpoint.settings.links or ():
            target, _, alias = entry.partition(":")
            if (alias or target.rpartition("/")[2]).lower() == name:
                return target.lstrip("/").lower()
        return None

    def addresses(self, name: str) -> Sequence[Address] | None:
        """All addresses behind a name on the first network that knows it."""
        for network, endpoint in self._mine():
            wanted = name
            suffix = f".{network.name.lower()}"
            if wanted not in network.directory and wanted.endswith(suffix):
                wanted = wanted.removesuffix(suffix)
            wanted = self._linked(endpoint, wanted) or wanted
            if wanted in network.services:
                return network.services[wanted]
            holders = network.directory.get(wanted)
            if holders:
                return [
                    address
                    for holder in holders
                    if holder.live is not None
                    for address in holder.live.addresses
                ]
        return None

    def name_of(self, address: Address) -> str | None:
        """`web.shop` for the address of container web on network shop."""
        for network, _ in self._mine():
            if network.pool_of(address) is None:
                continue
            for holder in network.endpoints.values():
                if holder.live is not None and address in holder.live.addresses:
                    return f"{holder.live.dns_names[0]}.{network.name}"
        return None

    # -- asking elsewhere ----------------------------------------------------

    async def forward(self, data: bytes) -> bytes | None:
        """Ask the container's own servers from inside it, or the machine's from the machine.

        A container whose networks are all internal asks nobody.
        """
        from labkit.host.network.dns import ask

        if all(network.internal for network, _ in self._mine()):
            return None
        own = self._container.host.dns
        if own:
            return await ask(own, data, self._inside)
        outside = self._context.outside_resolver
        if outside is not None:
            found = await outside(data)
            if found is not None:
                return found
        return await ask(machine_resolvers(), data, _outside)

    async def _inside(self, server: str) -> socket.socket:
        networks, shim = self._context.networks, self._container.shim
        if networks.plumbing is None or shim is None:
            raise OSError("the container does not run")
        namespace = open_namespace(shim.init_pid)
        try:
            return await networks.plumbing.socket(namespace, _family(server), socket.SOCK_DGRAM)
        finally:
            os.close(namespace)


def _family(server: str) -> int:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


async def _outside(server: str) -> socket.socket:
    await asyncio.sleep(0)
    found = socket.socket(_family(server), socket.SOCK_DGRAM)
    found.setblocking(False)
    return found

"""Recordings of a host's packets: which interfaces belong to a container or a network."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, LabkitError, NotFound, Unsupported
from labkit.host.engine.networks_model import Network
from labkit.host.network.namespaces import open_namespace

if TYPE_CHECKING:
    from labkit.host.engine.container import Container
    from labkit.host.engine.context import Context
    from labkit.host.network.capture import Capture, Place
    from labkit.host.network.nftext import RuleText

__all__ = ["Captures"]

Json = dict[str, Any]

_KEPT = 8
_DURATION_S_MAX, _PACKETS_MAX = 3600.0, 20_000


class Captures:
    """The recordings of one host, the newest eight."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._captures: dict[str, Capture] = {}
        self._counted: dict[str, dict[int, int]] = {}

    def get(self, identifier: str) -> Capture:
        """A recording by its id. Raises NotFound."""
        try:
            return self._captures[identifier]
        except KeyError:
            raise NotFound(f"No such capture: {identifier}") from None

    def summaries(self) -> list[Json]:
        """All recordings without their packets."""
        return [capture.describe() for capture in self._captures.values()]

    async def start(self, body: Json) -> Capture:
        """Record what `target` (a container, a network or `host`) sends and receives.

        `filter` is in tcpdump's words; `packets` (2000) and `seconds` (60) bound it. Raises
        NotFound, InvalidParameter; Unsupported where there is no network to listen to.
        """
        from labkit.host.network.capture import Capture
        from labkit.host.network.packetfilter import parse_filter

        plumbing = self._context.networks.plumbing
        if plumbing is None:
            raise Unsupported("cannot capture packets: this lab host has no network of its own")
        target, text = str(body.get("target") or ""), str(body.get("filter") or "")
        wanted = parse_filter(text)
        packets, seconds = body.get("packets", 2000), body.get("seconds", 60)
        if not isinstance(packets, int) or not 0 < packets <= _PACKETS_MAX:
            raise InvalidParameter(f"packets must be between 1 and {_PACKETS_MAX}")
        if not isinstance(seconds, int | float) or not 0 < seconds <= _DURATION_S_MAX:
            raise InvalidParameter(f"seconds must be between 0 and {_DURATION_S_MAX:.0f}")
        containers, networks = self._chosen(target)
        capture = Capture(target, text, wanted, packets_max=packets, duration_s=float(seconds))
        try:
            await self._watch(capture, containers, networks)
            self._counted[capture.id] = {
                rule.handle: rule.packets or 0 for rule in await self.rules()
            }
        except BaseException:
            capture.stop()
            raise
        self._captures[capture.id] = capture
        while len(self._captures) > _KEPT:
            self.forget(next(iter(self._captures)))
        return capture

    def _chosen(self, target: str) -> tuple[list[Container], list[Network]]:
        """Containers whose inside is watched, networks whose links are."""
        context = self._context
        if target == "host":
            return [], list(context.networks.networks.values())
        network = context.networks.get(target)
        if network is not None:
            return [context.containers[key] for key in network.endpoints], [network]
        try:
            container = context.find(target)
        except NotFound:
            raise NotFound(
                f"cannot capture {target or 'nothing'}: no such container or network",
                hint="name a container, a network, or host",
            ) from None
        found = [
            network
            for endpoint in context.networks.endpoints_of(container.id).values()
            if (network := context.networks.networks.get(endpoint.network_id)) is not None
        ]
        others = {key for network in found if network.has_names for key in network.endpoints}
        members = [context.containers[key] for key in others if key in context.containers]
        return [container, *(item for item in members if item is not container)], found

    async def _watch(
        self, capture: Capture, containers: Iterable[Container], networks: list[Network]
    ) -> None:
        from labkit.host.network.capture import Place, packet_socket

        plumbing = self._context.networks.plumbing
        assert plumbing is not None
        try:
            handle = await plumbing.worker.run(plumbing.namespace, packet_socket)
            capture.watch(self._host_place(networks), handle)
            for container in containers:
                if container.shim is None or not container.state.is_live:
                    continue
                namespace = open_namespace(container.shim.init_pid)
                try:
                    handle = await plumbing.worker.run(namespace, packet_socket)
                finally:
                    os.close(namespace)
                capture.watch(
                    Place("container", container.name, {}, self._addresses(container)), handle
                )
        except OSError as error:
            raise Unsupported(f"cannot capture packets here: {error.strerror}") from error

    def _addresses(self, container: Container) -> frozenset[str]:
        return frozenset(
            str(address)
            for endpoint in self._context.networks.endpoints_of(container.id).values()
            if endpoint.live is not None
            for address in endpoint.live.addresses
        )

    def _host_place(self, networks: list[Network]) -> Place:
        from labkit.host.network.capture import Place

        interfaces = {"eth0": "eth0 of the lab host (the way out)"}
        addresses: set[str] = set()
        for network in self._context.networks.networks.values():
            addresses.update(str(pool.gateway) for pool in network.pools if pool.gateway)
        for network in networks:
            if network.bridge:
                interfaces[network.bridge] = f"bridge {network.bridge} of network {network.name}"
            for key, endpoint in network.endpoints.items():
                container = self._context.containers.get(key)
                if endpoint.live is not None and container is not None:
                    name = endpoint.live.host_name
                    interfaces[name] = f"{name}, the host's end of {container.name}'s " + (
                        endpoint.live.interface
                    )
        return Place("host", self._context.node, interfaces, frozenset(addresses))

    async def rules(self) -> list[RuleText]:
        """The rules in force now."""
        from labkit.host.network import nft, nftext
        from labkit.host.network.rules import TABLE

        plumbing = self._context.networks.plumbing
        if plumbing is None or not plumbing.has_rules:
            return []

        def work() -> list[RuleText]:
            with nft.open_socket() as handle:
                return nftext.read_rules(handle, "inet", TABLE)

        with contextlib.suppress(LabkitError, OSError):
            return await plumbing.worker.run(plumbing.namespace, work)
        return []

    def _bound(self) -> set[tuple[str, int]]:
        """Ports published on one address only."""
        return {
            (row["host"], row["host_port"])
            for endpoints in self._context.networks.by_container.values()
            for endpoint in endpoints.values()
            for row in endpoint.ports
            if row["host"] not in ("0.0.0.0", "::")  # noqa: S104
        }

    async def flows(self, identifier: str) -> Json:
        """Each packet's hops, and the rules that were in force."""
        from labkit.host.network.flow import flows

        capture = self.get(identifier)
        rules = await self.rules()
        before = self._counted.get(identifier, {})
        drops = {
            rule.handle: (rule.packets or 0) - before.get(rule.handle, 0)
            for rule in rules
            if "drop" in rule.text
        }
        return {
            **capture.describe(),
            "flows": flows(capture, rules, drops, self._bound()),
            "rules": [
                {"chain": rule.chain, "text": rule.text, "packets": rule.packets,
                 "bytes": rule.bytes}
                for rule in rules
            ],
        }  # fmt: skip

    def forget(self, identifier: str) -> None:
        """End a recording and throw it away."""
        self.get(identifier).stop()
        del self._captures[identifier]
        self._counted.pop(identifier, None)

    def close(self) -> None:
        """End every recording."""
        for identifier in tuple(self._captures):
            self.forget(identifier)

"""What networks need of the host below them: their bridges, and a way out of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from labkit.base.errors import LabkitError
from labkit.host.engine.networks_model import Network
from labkit.host.network.ipam import mac_for

if TYPE_CHECKING:
    from labkit.host.engine.context import Context
    from labkit.host.network.outside import Outside
    from labkit.host.network.plumbing import BridgeSpec
    from labkit.host.network.uplink import Uplink

__all__ = ["WayOut", "bridge_spec"]


def bridge_spec(network: Network) -> BridgeSpec | None:
    """The bridge a network needs, if it needs one."""
    from labkit.host.network.plumbing import BridgeSpec
    from labkit.host.network.rules import BridgeRules

    if network.driver != "bridge" or network.config_only:
        return None
    gateways = tuple(
        f"{pool.gateway}/{pool.subnet.prefixlen}"
        for pool in network.pools
        if pool.gateway is not None
    )
    rules = BridgeRules(
        network.bridge,
        tuple(pool.subnet for pool in network.pools),
        is_internal=network.internal,
        masquerade=network.option("com.docker.network.bridge.enable_ip_masquerade", default=True),
    )
    v4 = network.gateway(4)
    mac = mac_for(v4) if v4 is not None else ""
    return BridgeSpec(rules, gateways, mtu=network.mtu, mac=mac)


class WayOut:
    """How a host reaches what lies beyond it: the machine, a simulated outside, or not at all."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.uplink: Uplink | None = None
        self.outside: Outside | None = None
        self.problem = ""
        """Why containers cannot reach the outside, in a sentence; empty when they can."""

    async def open(self, *, instance: str, offline: bool) -> None:
        """Connect to the machine where it has a road itself, to a simulated outside otherwise.

        `instance` names this lab's interface on the machine; without it (an ordinary user's lab)
        the way out is made elsewhere, and where it was not there is the simulated one.
        """
        from labkit.host.network.outside import Outside
        from labkit.host.network.uplink import Uplink, has_default_route

        networks = self._context.networks
        if networks.plumbing is None or networks.worker is None:
            return
        host = networks.plumbing.namespace
        try:
            is_cut_off = not await networks.worker.run(None, has_default_route)
            if not instance and not is_cut_off:
                # Somebody else may have made a way out already (pasta, slirp4netns).
                is_cut_off = not await networks.worker.run(host, has_default_route)
                if is_cut_off:
                    self.problem = "the lab has no way out: `labkit doctor` says why"
            if offline or is_cut_off:
                self.outside = Outside(networks.plumbing)
                await self.outside.open()
                self._context.outside_resolver = self.outside.resolve
            elif instance:
                self.uplink = Uplink(networks.plumbing, instance)
                await self.uplink.open()
                if self.uplink.problem:
                    await self._go_around(self.uplink)
        except (LabkitError, OSError) as error:
            self.problem = f"the lab has no way out: {error}"

    async def _go_around(self, uplink: Uplink) -> None:
        """Where the machine does not forward for us: out through a program in user space."""
        from labkit.host.isolation.outbound import start_outbound

        host = self._context.ports.host
        assert host is not None
        why = uplink.problem
        await uplink.remove()
        found = await asyncio.to_thread(
            start_outbound, self._context.paths, self._context.node, host.anchor_pid
        )
        if found.ok:
            self.problem = f"the lab goes out {found.found} (slower, in user space): {why}"
            return
        await uplink.open()  # the machine itself can still be reached
        self.problem = f"the lab has no way out: {why}"

    @property
    def resolvers(self) -> tuple[str, ...]:
        """Name servers for containers instead of the machine's own; empty where those answer."""
        return (self.outside.resolver,) if self.outside is not None else ()

    async def take_down(self) -> None:
        """Remove what this host has on the machine itself: its cable and its table."""
        if self.uplink is not None:
            await self.uplink.remove()

    async def close(self) -> None:
        """Let go; the simulated outside ends, the cable to the machine stays."""
        if self.outside is not None:
            await self.outside.close()

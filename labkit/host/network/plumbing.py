"""The links of one lab host: its bridges, and the pairs that tie containers to them.

Everything here happens inside the lab host's namespace or a container's, on the worker's thread;
the caller sees coroutines. What exists is asked of the kernel, so that a host whose records and
links have parted (a kill -9 in the middle) can be put right from either side.
"""

from __future__ import annotations

import contextlib
import errno
import re
import secrets
import socket
from collections.abc import Iterable, Sequence

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.network import links
from labkit.host.network.attachments import (
    Attachment,
    BridgeSpec,
    configure,
    no_lan,
    set_default_routes,
    write_sysctl,
)
from labkit.host.network.dns import DnsSockets, make_sockets, make_sockets_aside
from labkit.host.network.namespaces import NamespaceWorker, entered
from labkit.host.network.netlink import Address, Link, NetlinkError, NetlinkSocket, attribute
from labkit.host.network.rules import PortRule, Rules

__all__ = ["Attachment", "BridgeSpec", "Plumbing", "new_host_name"]

_VETH = re.compile(r"veth[0-9a-f]{7}\Z")
_BRIDGE = re.compile(r"br-[0-9a-f]{12}\Z")
_TRIES = 8
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}


def new_host_name() -> str:
    """Docker's kind of name for the host's end of a pair."""
    return f"veth{secrets.token_hex(4)[:7]}"


class Plumbing:
    """The kernel's side of one lab host. `namespace` is a descriptor of its network namespace."""

    def __init__(self, namespace: int, worker: NamespaceWorker) -> None:
        self.namespace = namespace
        self.worker = worker
        self._route: NetlinkSocket | None = None
        self._rules: Rules | None = None
        self.rules_error = ""
        """Why there are no nftables here, if there are none."""

    # -- the host ----------------------------------------------------

    async def open(
        self, bridges: Sequence[BridgeSpec], ports: Sequence[PortRule], veths: Iterable[str]
    ) -> None:
        """Bring the host's namespace into agreement with what is recorded.

        Missing bridges are made, pairs and bridges that nobody owns any more removed, the rules
        made anew in one transaction.
        """
        wanted = set(veths)

        def work() -> None:
            self._route = NetlinkSocket()
            # What the kernel lacks is found out by the operation that needs it.
            write_sysctl("net/ipv4/ip_forward", "1")
            write_sysctl("net/ipv6/conf/all/forwarding", "1")
            # A bridge's frames are its own business; between networks packets are routed anyway.
            write_sysctl("net/bridge/bridge-nf-call-iptables", "0")
            write_sysctl("net/bridge/bridge-nf-call-ip6tables", "0")
            names = {spec.name for spec in bridges}
            for link in links.list_links(self._route):
                is_stray_pair = _VETH.match(link.name) and link.name not in wanted
                is_stray_bridge = (
                    link.kind == "bridge" and _BRIDGE.match(link.name) and link.name not in names
                )
                if is_stray_pair or is_stray_bridge:
                    self._route.send([links.delete_link(link.index)])
            for spec in bridges:
                self._ensure_bridge(spec)
            try:
                self._rules = Rules()
                self._rules.reset([spec.rules for spec in bridges], ports)
            except (NetlinkError, OSError) as error:
                if self._rules is not None:
                    self._rules.close()
                self._rules, self.rules_error = None, str(error)

        await self.worker.run(self.namespace, work)

    def close(self) -> None:
        """Let go of the sockets; links and rules stay."""
        if self._route is not None:
            self._route.close()
        if self._rules is not None:
            self._rules.close()

    @property
    def has_rules(self) -> bool:
        """nftables work here."""
        return self._rules is not None

    async def link_names(self) -> dict[str, Link]:
        """Every interface of the host by name."""

        def work() -> dict[str, Link]:
            return {link.name: link for link in links.list_links(self._handle)}

        return await self.worker.run(None, work)

    @property
    def _handle(self) -> NetlinkSocket:
        assert self._route is not None, "the plumbing is not open"
        return self._route

    # -- bridges ----------------------------------------------------

    def _ensure_bridge(self, spec: BridgeSpec) -> None:
        index = links.index_of(spec.name)
        if not index:
            self._handle.send([links.add_bridge(spec.name, mac=spec.mac, mtu=spec.mtu)])
            index = links.index_of(spec.name)
        conf = f"net/ipv4/conf/{spec.name}"
        write_sysctl(f"{conf}/route_localnet", "1")
        has_v6 = any(":" in address for address in spec.addresses)
        write_sysctl(f"net/ipv6/conf/{spec.name}/accept_ra", "0")
        write_sysctl(f"net/ipv6/conf/{spec.name}/disable_ipv6", "0" if has_v6 else "1")
        self._handle.send(
            [
                links.set_link(index, up=True),
                *(links.add_address(index, address) for address in spec.addresses),
            ]
        )

    async def add_bridge(self, spec: BridgeSpec) -> None:
        """Make the bridge and let the rules know it. Undone when either is refused."""

        def work() -> None:
            try:
                self._ensure_bridge(spec)
                if self._rules is not None:
                    self._rules.add_bridge(spec.rules)
            except BaseException:
                self._drop_bridge(spec)
                raise

        await self.worker.run(self.namespace, work)

    def _drop_bridge(self, spec: BridgeSpec) -> None:
        if self._rules is not None:
            with contextlib.suppress(NetlinkError):
                self._rules.remove_bridge(spec.rules)
        index = links.index_of(spec.name)
        if index and not spec.is_adopted:
            self._handle.send([links.delete_link(index)])

    async def remove_bridge(self, spec: BridgeSpec) -> None:
        """Remove the bridge and its rules; what is gone is fine."""
        await self.worker.run(self.namespace, lambda: self._drop_bridge(spec))

    # -- containers ----------------------------------------------------

    async def attach(
        self,
        container: int,
        attachments: Sequence[Attachment],
        gateways: Sequence[Address],
        *,
        with_dns: bool = False,
        dns_aside: bool = False,
        hosts_ports: Sequence[PortRule] = (),
    ) -> tuple[list[str], DnsSockets | None]:
        """Give a container (descriptor of its namespace) these interfaces and default routes.

        `dns_aside` leaves port 53 to the container.

        Returns the names of the host's ends, which may differ from those asked for when one was
        taken, and the resolver's sockets. Undone when the kernel refuses anything.
        """

        def work() -> tuple[list[str], DnsSockets | None]:
            made: list[str] = []
            sockets: DnsSockets | None = None
            try:
                for item in attachments:
                    made.append(self._make_pair(container, item))  # noqa: PERF401 - undone below
                with entered(container), NetlinkSocket() as inside:
                    for item in attachments:
                        configure(inside, item)
                    set_default_routes(inside, gateways)
                    if with_dns:
                        with contextlib.suppress(OSError, NetlinkError):
                            sockets = make_sockets_aside() if dns_aside else make_sockets()
                if self._rules is not None:
                    self._rules.add_ports(hosts_ports)
            except BaseException:
                if sockets is not None:
                    sockets.close()
                self._cut(made)
                raise
            return made, sockets

        return await self.worker.run(self.namespace, work)

    def _make_pair(self, container: int, item: Attachment) -> str:
        if item.kind != "veth":
            self._make_lan(container, item)
            return ""
        name = item.host_name
        master = links.index_of(item.bridge)
        if not master:
            raise SystemFailure(
                f"cannot connect to bridge {item.bridge}: it is gone",
                hint="restart the lab (`labkit down`, `labkit up`), or make the network again",
            )
        for attempt in range(_TRIES):
            pair = links.add_veth(
                name,
                item.interface,
                peer_namespace=container,
                peer_mac=item.mac,
                mtu=item.mtu,
                master=master,
            )
            try:
                self._handle.send([pair])
                break
            except NetlinkError as error:
                # Somebody has a link of that name, or a namespace that is dying still holds it.
                if error.code != errno.EEXIST or attempt == _TRIES - 1:
                    raise
                name = new_host_name()
        if item.isolated:
            self._handle.send([links.bridge_port(links.index_of(name), isolated=True)])
        write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        return name

    def _make_lan(self, container: int, item: Attachment) -> None:
        parent = links.index_of(item.parent)
        if not parent:
            raise SystemFailure(
                f"cannot create the {item.kind} {item.interface}: the lab host has no interface "
                f"{item.parent}",
                hint="`labkit host ip link` lists them; name one with -o parent=",
            )
        modes = _MACVLAN_MODES if item.kind == "macvlan" else _IPVLAN_MODES
        mode = modes[item.mode or ("bridge" if item.kind == "macvlan" else "l2")]
        data = attribute(1, mode if item.kind == "macvlan" else mode.to_bytes(2, "little"))
        message = links.add_link(
            item.interface, item.kind, data=[data], parent=parent, namespace=container,
            mac=item.mac if item.kind == "macvlan" else "", mtu=item.mtu, up=False,
        )  # fmt: skip
        try:
            self._handle.send([message])
        except NetlinkError as error:
            if error.code == errno.EOPNOTSUPP:
                raise no_lan(item.kind) from error
            raise

    @property
    def default_parent(self) -> str:
        """The interface macvlan and ipvlan networks lie on when none is named."""
        return "eth0"

    async def check_lan(self, driver: str, parent: str) -> None:
        """Refuse a macvlan or ipvlan network this kernel or host cannot have."""

        def work() -> None:
            probe = f"lk{secrets.token_hex(4)}"
            index = links.index_of(parent) or links.index_of("lo")
            try:
                self._handle.send([links.add_link(probe, driver, parent=index, up=False)])
            except NetlinkError as error:
                if error.code == errno.EOPNOTSUPP:
                    raise no_lan(driver) from error
            else:
                self._handle.send([links.delete_link(links.index_of(probe))])
            if not links.index_of(parent):
                raise InvalidParameter(
                    f"failed to create the {driver} network: the parent interface {parent} was "
                    "not found on the lab host",
                    hint="`labkit host ip link` lists them; name one with -o parent=",
                )

        await self.worker.run(self.namespace, work)

    async def silence(self, names: Iterable[str], ports: Sequence[PortRule] = ()) -> None:
        """Cut pairs whose container has ended: the bridge forgets them at once.

        The kernel takes an ended namespace apart when it finds the time, some thirty
        milliseconds later; until then it would go on answering for the container's address.
        Removing the pair would cost as long, disabling its port costs nothing.
        """
        chosen = tuple(names)

        def work() -> None:
            if self._rules is not None:
                self._rules.remove_ports(ports)
            for name in chosen:
                index = links.index_of(name) if name else 0
                if index:
                    with contextlib.suppress(NetlinkError):
                        self._handle.send([links.disable_port(index)])

        await self.worker.run(self.namespace, work)

    def _cut(self, names: Iterable[str]) -> None:
        for name in names:
            index = links.index_of(name) if name else 0
            if index:
                with contextlib.suppress(NetlinkError):
                    self._handle.send([links.delete_link(index)])

    async def detach(
        self,
        names: Iterable[str],
        ports: Sequence[PortRule] = (),
    ) -> None:
        """Remove pairs by the host's end, and published ports; what is gone is fine."""
        chosen = tuple(names)

        def work() -> None:
            if self._rules is not None:
                self._rules.remove_ports(ports)
            self._cut(chosen)

        await self.worker.run(self.namespace, work)

    async def remove_inside(self, container: int, interface: str) -> None:
        """Remove an interface from inside its container (macvlan, ipvlan)."""

        def work() -> None:
            with NetlinkSocket() as inside:
                index = links.index_of(interface)
                if index:
                    inside.send([links.delete_link(index)])

        await self.worker.run(container, work)

    async def set_gateways(self, container: int, gateways: Sequence[Address]) -> None:
        """Make these a container's default routes and no others."""

        def work() -> None:
            with NetlinkSocket() as inside:
                for destination in ("0.0.0.0/0", "::/0"):
                    with contextlib.suppress(NetlinkError):
                        inside.send([links.delete_route(destination)])
                set_default_routes(inside, gateways)

        await self.worker.run(container, work)

    async def dns_sockets(self, container: int, *, aside: bool = False) -> DnsSockets:
        """The resolver's sockets inside a container. Raises OSError when the port is taken."""
        return await self.worker.run(container, make_sockets_aside if aside else make_sockets)

    async def interfaces(self, container: int) -> list[str]:
        """Names of the interfaces inside a container."""
        return await self.worker.run(container, lambda: [name for _, name in socket.if_nameindex()])

    async def add_ports(self, ports: Sequence[PortRule]) -> None:
        """Publish ports in the rules."""
        if self._rules is not None:
            rules = self._rules
            await self.worker.run(None, lambda: rules.add_ports(ports))

    async def socket(self, namespace: int | None, family: int, kind: int) -> socket.socket:
        """A socket born in `namespace`, the lab host's when None; non-blocking."""

        def work() -> socket.socket:
            found = socket.socket(family, kind)
            found.setblocking(False)
            return found

        return await self.worker.run(self.namespace if namespace is None else namespace, work)

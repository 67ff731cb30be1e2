"""Requests to rtnetlink as values: what to make, in words and in bytes.

Each function returns a Message; send many at once with NetlinkSocket.send. Interfaces are named by
index, which is quicker than by name and cannot hit a link that took the name meanwhile. Numbers
are those of linux/if_link.h, if_bridge.h, veth.h, rtnetlink.h and if_addr.h.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence

from labkit.host.network.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Address,
    Link,
    Message,
    NetlinkSocket,
    attribute,
    nested,
    parse_link,
)

__all__ = [
    "add_address",
    "add_bridge",
    "add_link",
    "add_neighbour",
    "add_route",
    "add_veth",
    "bridge_port",
    "delete_address",
    "delete_link",
    "delete_route",
    "disable_port",
    "index_of",
    "list_links",
    "mac_bytes",
    "set_link",
]

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH = 28
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_AF_SPEC = 20, 28, 26
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
NAME_BYTES_MAX = 15


def mac_bytes(text: str) -> bytes:
    """The six bytes of `02:42:ac:11:00:02`."""
    return bytes(int(part, 16) for part in text.split(":"))


def _link(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _features(
    *,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    namespace: int | None = None,
    alias: str = "",
) -> bytes:
    found = b""
    if name:
        found += attribute(IFLA_IFNAME, name)
    if mac:
        found += attribute(IFLA_ADDRESS, mac_bytes(mac))
    if mtu:
        found += attribute(IFLA_MTU, mtu)
    if master is not None:
        found += attribute(IFLA_MASTER, master)
    if namespace is not None:
        found += attribute(IFLA_NET_NS_FD, namespace)
    if alias:
        found += attribute(IFLA_IFALIAS, alias)
    return found


def add_link(
    name: str,
    kind: str,
    *,
    data: Sequence[bytes] = (),
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    parent: int | None = None,
    namespace: int | None = None,
    index: int = 0,
    up: bool = True,
    alias: str = "",
) -> Message:
    """A virtual link of any kind (`vxlan`, `macvlan`…); `data` are its kind's own attributes.

    `parent` is the index of the link it lies on, `namespace` the descriptor of where to make it.
    """
    body = _link(index, IFF_UP if up else 0, IFF_UP if up else 0)
    body += _features(name=name, mac=mac, mtu=mtu, master=master, namespace=namespace, alias=alias)
    if parent is not None:
        body += attribute(IFLA_LINK, parent)
    info = [attribute(IFLA_INFO_KIND, kind)]
    if data:
        info.append(nested(IFLA_INFO_DATA, *data))
    body += nested(IFLA_LINKINFO, *info)
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f"create the {kind} {name}")


def add_bridge(name: str, *, mac: str = "", mtu: int = 0, alias: str = "") -> Message:
    """A bridge, up, without spanning tree."""
    return add_link(name, "bridge", mac=mac, mtu=mtu, alias=alias)


def add_veth(
    name: str,
    peer: str,
    *,
    peer_namespace: int | None = None,
    peer_mac: str = "",
    peer_index: int = 0,
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    alias: str = "",
) -> Message:
    """A veth pair in one message: this end here (up, on a bridge), the other end over there.

    `peer_namespace` is a descriptor of the namespace the peer is born in. A `peer_index` fixed
    beforehand spares a look-up. The peer is born down: the kernel raises only what has a peer.
    """
    peer_body = _link(peer_index)
    peer_body += _features(name=peer, mac=peer_mac, mtu=mtu, namespace=peer_namespace)
    body = _link(0, IFF_UP, IFF_UP) + _features(
        name=name, mac=mac, mtu=mtu, master=master, alias=alias
    )
    body += nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, nested(_VETH_INFO_PEER, peer_body)),
    )
    what = f"create the veth pair {name} and {peer}"
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, what)


def set_link(
    index: int,
    *,
    up: bool | None = None,
    name: str = "",
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    namespace: int | None = None,
    alias: str = "",
) -> Message:
    """Change an interface. `master` 0 takes it off its bridge; `namespace` moves it there."""
    change = IFF_UP if up is not None else 0
    body = _link(index, IFF_UP if up else 0, change)
    body += _features(name=name, mac=mac, mtu=mtu, master=master, namespace=namespace, alias=alias)
    return Message(RTM_NEWLINK, 0, body, f"change interface {index}")


def bridge_port(index: int, *, isolated: bool = False, hairpin: bool = False) -> Message:
    """Flags of a bridge's port: isolated ports reach the bridge but not each other."""
    data = attribute(33, bytes([isolated])) + attribute(4, bytes([hairpin]))
    body = _link(index) + nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(IFLA_INFO_SLAVE_DATA, data),
    )
    return Message(RTM_NEWLINK, 0, body, f"set the flags of bridge port {index}")


def disable_port(index: int) -> Message:
    """Let no frame of the bridge reach a port: nothing learnt, nothing flooded, all forgotten.

    The port's state would not do: the kernel sets it back when the carrier comes up late.
    """
    off = bytes([0])
    data = b"".join(attribute(kind, off) for kind in (8, 9, 27, 30)) + attribute(24, b"")
    body = _link(index) + nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(IFLA_INFO_SLAVE_DATA, data),
    )
    return Message(RTM_NEWLINK, 0, body, f"disable bridge port {index}")


def delete_link(index: int) -> Message:
    """Remove an interface (and a veth's other end); one that is gone is fine."""
    what = f"remove interface {index}"
    return Message(RTM_DELLINK, 0, _link(index), what, (errno.ENODEV,))


def _address(kind: int, flags: int, index: int, text: str, what: str) -> Message:
    found = ipaddress.ip_interface(text)
    is_v6 = found.version == 6
    marks = _IFA_F_PERMANENT | (_IFA_F_NODAD if is_v6 else 0)
    body = _IFADDR.pack(
        socket.AF_INET6 if is_v6 else socket.AF_INET, found.network.prefixlen, marks, 0, index
    )
    body += attribute(2, found.ip.packed) + attribute(1, found.ip.packed)
    if not is_v6 and found.network.prefixlen < 31:
        body += attribute(4, found.network.broadcast_address.packed)
    ignore = (errno.EEXIST,) if kind == RTM_NEWADDR else (errno.EADDRNOTAVAIL, errno.ENODEV)
    return Message(kind, flags, body, f"{what} address {text}", ignore)


def add_address(index: int, text: str) -> Message:
    """Give an interface `172.18.0.1/16` (or v6, at once usable); one that is there is fine."""
    return _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, text, "add")


def delete_address(index: int, text: str) -> Message:
    """Take an address away; one that is gone is fine."""
    return _address(RTM_DELADDR, 0, index, text, "remove")


def _route(
    kind: int,
    flags: int,
    destination: str,
    gateway: Address | None,
    index: int,
    metric: int,
    *,
    source: Address | None = None,
    table: int = 254,
    route_type: int = 1,
    onlink: bool = False,
) -> Message:
    network = ipaddress.ip_network(destination)
    family = socket.AF_INET6 if network.version == 6 else socket.AF_INET
    scope = 253 if gateway is None and network.version == 4 and route_type == 1 else 0
    if route_type == 2:
        scope = 254
    body = _ROUTE.pack(
        family, network.prefixlen, 0, 0, table, 3, scope, route_type, 4 if onlink else 0
    )
    if network.prefixlen:
        body += attribute(1, network.network_address.packed)
    if gateway is not None:
        body += attribute(5, gateway.packed)
    if index:
        body += attribute(4, index)
    if metric:
        body += attribute(6, metric)
    if source is not None:
        body += attribute(7, source.packed)
    via = f" via {gateway}" if gateway is not None else ""
    verb = "add" if kind == RTM_NEWROUTE else "remove"
    ignore = () if kind == RTM_NEWROUTE else (errno.ESRCH, errno.ENODEV)
    return Message(kind, flags, body, f"{verb} the route to {destination}{via}", ignore)


def add_route(
    destination: str,
    *,
    gateway: Address | None = None,
    index: int = 0,
    metric: int = 0,
    source: Address | None = None,
    table: int = 254,
    route_type: int = 1,
    onlink: bool = False,
) -> Message:
    """A route (`0.0.0.0/0` is the default one), replacing one of the same destination and metric.

    `route_type` is RTN_* (1 unicast, 2 local, 6 blackhole, 7 unreachable).
    """
    return _route(
        RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, destination, gateway, index, metric,
        source=source, table=table, route_type=route_type, onlink=onlink,
    )  # fmt: skip


def delete_route(
    destination: str, *, gateway: Address | None = None, index: int = 0, metric: int = 0
) -> Message:
    """Remove a route; one that is gone is fine."""
    return _route(RTM_DELROUTE, 0, destination, gateway, index, metric)


def add_neighbour(index: int, address: Address, mac: str) -> Message:
    """A fixed neighbour entry (ARP or NDP), replacing what was known."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    body = struct.pack("=BxxxiHBB", family, index, 0x80, 0, 1)
    body += attribute(1, address.packed) + attribute(2, mac_bytes(mac))
    flags = NLM_F_CREATE | NLM_F_REPLACE
    return Message(RTM_NEWNEIGH, flags, body, f"set the neighbour {address}")


def list_links(handle: NetlinkSocket) -> list[Link]:
    """Every interface of the socket's namespace."""
    request = Message(RTM_GETLINK, 0, _link(), "list interfaces")
    return [parse_link(body) for kind, body in handle.dump(request) if kind == RTM_NEWLINK]


def index_of(name: str) -> int:
    """The index of `name` in the calling thread's namespace, 0 when there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0

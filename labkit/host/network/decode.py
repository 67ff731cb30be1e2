"""Packets as layers and fields: Ethernet, ARP, IPv4, IPv6, ICMP, TCP, UDP, DNS, VXLAN. Pure.

Bytes come from the wire and may be anything; a layer that does not make sense ends the decoding
and says so, it never raises. Field names follow Wireshark's where it has one.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

from labkit.host.network import dnswire

__all__ = ["Layer", "Packet", "decode_packet"]

Fields = dict[str, Any]

ETHERTYPES = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6", 0x8100: "VLAN"}
PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_ICMP = {
    0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request",
    11: "time exceeded",
}  # fmt: skip
_UNREACHABLE = ("network", "host", "protocol", "port", "fragmentation needed")
_ICMPV6 = {
    1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request",
    129: "echo reply", 133: "router solicitation", 134: "router advertisement",
    135: "neighbour solicitation", 136: "neighbour advertisement",
}  # fmt: skip
_TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
VXLAN_PORT, DNS_PORT = 4789, 53
_DEPTH_MAX = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """One protocol's header: its name, its fields, where it begins and how long it is."""

    name: str
    fields: Fields
    offset: int
    length: int


@dataclass(slots=True)
class Packet:
    """A decoded packet. `note` says why decoding ended early, if it did."""

    layers: list[Layer] = field(default_factory=list)
    payload: bytes = b""
    note: str = ""

    def layer(self, name: str) -> Layer | None:
        """The innermost layer of that name."""
        return next((layer for layer in reversed(self.layers) if layer.name == name), None)

    @property
    def summary(self) -> str:
        """One line, as a packet list shows it."""
        return _summary(self)

    def to_json(self) -> dict[str, Any]:
        """Layers with their fields, and the summary."""
        return {
            "summary": self.summary,
            "note": self.note,
            "layers": [
                {"name": layer.name, "offset": layer.offset, "length": layer.length,
                 "fields": layer.fields}
                for layer in self.layers
            ],
            "payload_bytes": len(self.payload),
        }  # fmt: skip


def _mac(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def decode_packet(data: bytes, *, is_ethernet: bool = True) -> Packet:
    """Decode a frame, or with `is_ethernet` False a bare IP packet."""
    packet = Packet()
    try:
        if is_ethernet:
            _ethernet(packet, data, 0, 0)
        elif data:
            _ip(packet, data, 0, 0x86DD if data[0] >> 4 == 6 else 0x0800, 0)
    except (struct.error, IndexError, ValueError) as error:
        packet.note = f"cut short or broken: {error}"
    return packet


def _ethernet(packet: Packet, data: bytes, offset: int, depth: int) -> None:
    if len(data) < offset + 14:
        packet.note = "shorter than an Ethernet header"
        return
    kind = struct.unpack_from("!H", data, offset + 12)[0]
    fields: Fields = {
        "dst": _mac(data[offset : offset + 6]),
        "src": _mac(data[offset + 6 : offset + 12]),
        "type": ETHERTYPES.get(kind, f"0x{kind:04x}"),
    }
    size = 14
    while kind == 0x8100 and size <= 18:
        tag, kind = struct.unpack_from("!HH", data, offset + size)
        fields["vlan"] = tag & 0xFFF
        size += 4
    packet.layers.append(Layer("Ethernet", fields, offset, size))
    if kind == 0x0806:
        _arp(packet, data, offset + size)
    elif kind in (0x0800, 0x86DD):
        _ip(packet, data, offset + size, kind, depth)
    else:
        packet.payload = data[offset + size :]


def _arp(packet: Packet, data: bytes, offset: int) -> None:
    hardware, protocol, hlen, plen, operation = struct.unpack_from("!HHBBH", data, offset)
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4) or len(data) < offset + 28:
        packet.note = "an ARP packet of another kind"
        return
    rest = data[offset + 8 : offset + 28]
    fields = {
        "operation": {1: "request", 2: "reply"}.get(operation, operation),
        "sender_mac": _mac(rest[:6]),
        "sender_ip": str(ipaddress.IPv4Address(rest[6:10])),
        "target_mac": _mac(rest[10:16]),
        "target_ip": str(ipaddress.IPv4Address(rest[16:20])),
    }
    packet.layers.append(Layer("ARP", fields, offset, 28))


def _ip(packet: Packet, data: bytes, offset: int, kind: int, depth: int) -> None:
    if kind == 0x0800:
        first, tos, total, number, fragment, ttl, protocol, checksum = struct.unpack_from(
            "!BBHHHBBH", data, offset
        )
        size = (first & 15) * 4
        if first >> 4 != 4 or size < 20 or len(data) < offset + size:
            packet.note = "not an IPv4 header"
            return
        fields: Fields = {
            "src": str(ipaddress.IPv4Address(data[offset + 12 : offset + 16])),
            "dst": str(ipaddress.IPv4Address(data[offset + 16 : offset + 20])),
            "ttl": ttl,
            "id": number,
            "protocol": PROTOCOLS.get(protocol, str(protocol)),
            "length": total,
            "dont_fragment": bool(fragment & 0x4000),
            "more_fragments": bool(fragment & 0x2000),
            "fragment_offset": (fragment & 0x1FFF) * 8,
            "dscp": tos >> 2,
            "checksum": checksum,
        }
        packet.layers.append(Layer("IPv4", fields, offset, size))
        end = min(len(data), offset + max(total, size))
        if fragment & 0x1FFF:
            packet.payload, packet.note = data[offset + size : end], "a later fragment"
            return
    else:
        first, total, protocol, ttl = struct.unpack_from("!IHBB", data, offset)
        if first >> 28 != 6 or len(data) < offset + 40:
            packet.note = "not an IPv6 header"
            return
        size = 40
        end = min(len(data), offset + 40 + total)
        while protocol in (0, 43, 60) and offset + size + 8 <= end:
            protocol, more = data[offset + size], (data[offset + size + 1] + 1) * 8
            size += more
        fields = {
            "src": str(ipaddress.IPv6Address(data[offset + 8 : offset + 24])),
            "dst": str(ipaddress.IPv6Address(data[offset + 24 : offset + 40])),
            "hop_limit": ttl,
            "protocol": PROTOCOLS.get(protocol, str(protocol)),
            "length": total,
            "flow_label": first & 0xFFFFF,
        }
        packet.layers.append(Layer("IPv6", fields, offset, size))
    _transport(packet, data, offset + size, end, protocol, depth)


def _transport(
    packet: Packet, data: bytes, offset: int, end: int, protocol: int, depth: int
) -> None:
    if protocol == 6:
        _tcp(packet, data, offset, end)
    elif protocol == 17:
        _udp(packet, data, offset, end, depth)
    elif protocol in (1, 58):
        _icmp(packet, data, offset, end, protocol)
    else:
        packet.payload = data[offset:end]


def _tcp(packet: Packet, data: bytes, offset: int, end: int) -> None:
    src, dst, seq, ack, bits, window, checksum, _ = struct.unpack_from("!HHIIHHHH", data, offset)
    size = (bits >> 12) * 4
    if size < 20:
        packet.note = "not a TCP header"
        return
    flags = [name for number, name in enumerate(_TCP_FLAGS) if bits & 1 << number]
    fields = {
        "src_port": src, "dst_port": dst, "seq": seq, "ack": ack, "flags": flags,
        "window": window, "checksum": checksum,
    }  # fmt: skip
    packet.layers.append(Layer("TCP", fields, offset, size))
    packet.payload = data[offset + size : end]
    if DNS_PORT in (src, dst) and len(packet.payload) > 14:
        _dns(packet, packet.payload[2:], offset + size + 2)


def _udp(packet: Packet, data: bytes, offset: int, end: int, depth: int) -> None:
    src, dst, size, checksum = struct.unpack_from("!HHHH", data, offset)
    fields = {"src_port": src, "dst_port": dst, "length": size, "checksum": checksum}
    packet.layers.append(Layer("UDP", fields, offset, 8))
    packet.payload = data[offset + 8 : end]
    if DNS_PORT in (src, dst):
        _dns(packet, packet.payload, offset + 8)
    elif dst == VXLAN_PORT and len(packet.payload) >= 8 and depth < _DEPTH_MAX:
        flags, number = struct.unpack_from("!B3xI", data, offset + 8)
        if flags & 0x08:
            layer = Layer("VXLAN", {"vni": number >> 8}, offset + 8, 8)
            packet.layers.append(layer)
            _ethernet(packet, data, offset + 16, depth + 1)


def _icmp(packet: Packet, data: bytes, offset: int, end: int, protocol: int) -> None:
    kind, code, checksum = struct.unpack_from("!BBH", data, offset)
    names = _ICMP if protocol == 1 else _ICMPV6
    fields: Fields = {
        "type": kind, "code": code, "meaning": names.get(kind, f"type {kind}"),
        "checksum": checksum,
    }  # fmt: skip
    if (protocol == 1 and kind in (0, 8)) or (protocol == 58 and kind in (128, 129)):
        fields["id"], fields["seq"] = struct.unpack_from("!HH", data, offset + 4)
    elif protocol == 1 and kind == 3 and code < len(_UNREACHABLE):
        fields["meaning"] = f"{_UNREACHABLE[code]} unreachable" if code < 4 else _UNREACHABLE[4]
    elif protocol == 58 and kind in (135, 136) and end >= offset + 24:
        fields["target"] = str(ipaddress.IPv6Address(data[offset + 8 : offset + 24]))
    packet.layers.append(Layer("ICMP" if protocol == 1 else "ICMPv6", fields, offset, 8))
    packet.payload = data[offset + 8 : end]


def _dns(packet: Packet, data: bytes, offset: int) -> None:
    try:
        found = dnswire.decode(data)
    except dnswire.DnsError:
        return
    fields = {
        "id": found.id,
        "response": found.is_response,
        "rcode": dnswire.RCODES[found.rcode] if found.rcode < 6 else found.rcode,
        "questions": [
            {"name": name, "type": dnswire.TYPES.get(kind, str(kind))}
            for name, kind in found.questions
        ],
        "answers": [
            {"name": record.name, "type": dnswire.TYPES.get(record.kind, str(record.kind)),
             "ttl": record.ttl_s, "value": record.text}
            for record in found.answers
        ],
    }  # fmt: skip
    packet.layers.append(Layer("DNS", fields, offset, len(data)))


def _summary(packet: Packet) -> str:
    if not packet.layers:
        return packet.note or "empty"
    last = packet.layers[-1]
    f = last.fields
    ip = packet.layer("IPv4") or packet.layer("IPv6")
    ends = f"{ip.fields['src']} → {ip.fields['dst']}" if ip is not None else ""
    match last.name:
        case "ARP":
            if f["operation"] == "request":
                return f"ARP who has {f['target_ip']}? Tell {f['sender_ip']}"
            return f"ARP {f['sender_ip']} is at {f['sender_mac']}"
        case "TCP":
            size = f" {len(packet.payload)} bytes" if packet.payload else ""
            assert ip is not None
            return (
                f"TCP {_socket(ip, f['src_port'], 'src')} → {_socket(ip, f['dst_port'], 'dst')} "
                f"[{','.join(f['flags'])}]{size}"
            )
        case "UDP":
            assert ip is not None
            return (
                f"UDP {_socket(ip, f['src_port'], 'src')} → {_socket(ip, f['dst_port'], 'dst')} "
                f"{len(packet.payload)} bytes"
            )
        case "DNS":
            asked = ", ".join(f"{row['type']} {row['name']}" for row in f["questions"])
            if not f["response"]:
                return f"DNS {ends} {asked}?"
            values = ", ".join(row["value"] for row in f["answers"])
            return f"DNS {ends} {asked}: {values or f['rcode']}"
        case "ICMP" | "ICMPv6":
            seq = f" seq {f['seq']}" if "seq" in f else ""
            return f"{last.name} {ends} {f['meaning']}{seq}"
        case "Ethernet":
            return f"Ethernet {f['src']} → {f['dst']} {f['type']}"
    protocol = "" if ip is None else str(ip.fields["protocol"])
    return f"{protocol or last.name} {ends}".strip()


def _socket(ip: Layer, port: int, end: str) -> str:
    address = ip.fields[end]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

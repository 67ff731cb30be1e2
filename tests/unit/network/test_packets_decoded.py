"""Packets as layers; the filter; the file for Wireshark; one packet found again at every hop."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter
from labkit.host.network import dnswire
from labkit.host.network.decode import decode_packet
from labkit.host.network.packetfilter import parse_filter
from labkit.host.network.pcap import write_pcap


def ethernet(kind: int, payload: bytes) -> bytes:
    return bytes.fromhex("0242ac1100030242ac110002") + struct.pack("!H", kind) + payload


def ipv4(protocol: int, payload: bytes, *, src: str = "10.0.0.1", dst: str = "10.0.0.2") -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 77, 0x4000, 64, protocol, 0)
    ends = ipaddress.IPv4Address(src).packed + ipaddress.IPv4Address(dst).packed
    return head + ends + payload


def tcp(flags: int, payload: bytes = b"", *, src: int = 40000, dst: int = 80) -> bytes:
    return struct.pack("!HHIIHHHH", src, dst, 5, 6, 5 << 12 | flags, 1000, 0, 0) + payload


def udp(payload: bytes, *, src: int = 40000, dst: int = 53) -> bytes:
    return struct.pack("!HHHH", src, dst, 8 + len(payload), 0) + payload


SYN = ethernet(0x0800, ipv4(6, tcp(2)))
QUESTION = ethernet(0x0800, ipv4(17, udp(dnswire.query(5, "web"))))
PING = ethernet(0x0800, ipv4(1, struct.pack("!BBHHH", 8, 0, 0, 9, 3) + b"abcd"))
ARP = ethernet(
    0x0806,
    struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    + bytes.fromhex("0242ac110002") + bytes([172, 17, 0, 2]) + bytes(6) + bytes([172, 17, 0, 3]),
)  # fmt: skip
VXLAN = ethernet(
    0x0800, ipv4(17, udp(struct.pack("!B3xI", 8, 4097 << 8) + PING, src=50000, dst=4789))
)
SIX = ethernet(
    0x86DD,
    struct.pack("!IHBB", 6 << 28, 8, 58, 64)
    + ipaddress.IPv6Address("fd00::1").packed + ipaddress.IPv6Address("fd00::2").packed
    + struct.pack("!BBHHH", 128, 0, 0, 1, 2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("data", "summary", "layers"),
    [
        (SYN, "TCP 10.0.0.1:40000 → 10.0.0.2:80 [SYN]", ["Ethernet", "IPv4", "TCP"]),
        (QUESTION, "DNS 10.0.0.1 → 10.0.0.2 A web?", ["Ethernet", "IPv4", "UDP", "DNS"]),
        (PING, "ICMP 10.0.0.1 → 10.0.0.2 echo request seq 3", ["Ethernet", "IPv4", "ICMP"]),
        (ARP, "ARP who has 172.17.0.3? Tell 172.17.0.2", ["Ethernet", "ARP"]),
        (
            VXLAN,
            "ICMP 10.0.0.1 → 10.0.0.2 echo request seq 3",
            ["Ethernet", "IPv4", "UDP", "VXLAN", "Ethernet", "IPv4", "ICMP"],
        ),
        (SIX, "ICMPv6 fd00::1 → fd00::2 echo request seq 2", ["Ethernet", "IPv6", "ICMPv6"]),
    ],
)
def test_a_packet_has_these_layers(data: bytes, summary: str, layers: list[str]) -> None:
    found = decode_packet(data)
    assert found.summary == summary
    assert [layer.name for layer in found.layers] == layers


def test_fields_are_where_the_bytes_say() -> None:
    layer = decode_packet(SYN).layer("TCP")
    assert layer is not None
    assert (layer.offset, layer.length) == (34, 20)
    assert layer.fields["flags"] == ["SYN"]
    vxlan = decode_packet(VXLAN).layer("VXLAN")
    assert vxlan is not None
    assert vxlan.fields == {"vni": 4097}


@given(st.binary(max_size=120))
@example(SYN[:40])
@example(VXLAN[:60])
@example(ARP[:20])
def test_whatever_comes_along_the_wire_is_decoded_or_said_to_be_broken(data: bytes) -> None:
    for is_ethernet in (True, False):
        found = decode_packet(data, is_ethernet=is_ethernet)
        assert isinstance(found.summary, str)
        found.to_json()


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        ("", (SYN, QUESTION, PING, ARP, VXLAN, SIX)),
        ("tcp", (SYN,)),
        ("tcp port 80", (SYN,)),
        ("port 80 or icmp", (SYN, PING, VXLAN)),
        ("not arp and not udp", (SYN, PING, SIX)),
        ("dst port 40000", ()),
        ("src host 10.0.0.1 && icmp", (PING, VXLAN)),
        ("net 172.17.0.0/16", (ARP,)),
        ("(tcp or udp) and portrange 50-60", (QUESTION,)),
        ("vxlan", (VXLAN,)),
        ("ip6", (SIX,)),
        ("host fd00::2", (SIX,)),
    ],
)
def test_the_filter_means_what_tcpdump_s_does(text: str, takes: tuple[bytes, ...]) -> None:
    test = parse_filter(text)
    everything = (SYN, QUESTION, PING, ARP, VXLAN, SIX)
    assert tuple(data for data in everything if test(decode_packet(data))) == takes


@pytest.mark.parametrize("text", ["tpc", "port x", "tcp and", "(tcp", "host", "net 1.2.3.4/99"])
def test_a_filter_that_means_nothing_names_the_word(text: str) -> None:
    with pytest.raises(InvalidParameter, match="cannot understand the filter"):
        parse_filter(text)


def test_the_file_has_the_header_of_pcap_with_nanoseconds() -> None:
    data = b"".join(write_pcap([(1_700_000_000_000_000_123, 60, SYN)]))
    magic, major, minor = struct.unpack_from("=IHH", data)
    assert (magic, major, minor) == (0xA1B23C4D, 2, 4)
    assert struct.unpack_from("=IIII", data, 24) == (1_700_000_000, 123, len(SYN), 60)
    assert data[40:] == SYN

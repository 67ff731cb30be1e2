"""One packet's way: the same packet found again at every interface it crossed. Pure.

A packet keeps, through routing and address translation, its IP identification, its payload and
what TCP or ICMP number it by; only addresses, ports, TTL and checksums are rewritten. Captured
packets that agree in the former are one packet at several hops; what differs from one hop to the
next is what the host did to it, and the rule that does such things is named from the live rules.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from labkit.host.network.capture import Capture, Captured
from labkit.host.network.nftext import RuleText

__all__ = ["flows"]

Json = dict[str, Any]

_GAP_NS = 2_000_000_000
"""Hops of one packet follow each other within microseconds; retransmissions take longer."""


def _signature(found: Captured) -> tuple[Any, ...] | None:
    """What stays the same on the way; None for what never leaves its link."""
    packet = found.packet
    ip = packet.layer("IPv4") or packet.layer("IPv6")
    if ip is None:
        arp = packet.layer("ARP")
        return None if arp is None else ("ARP", *sorted(arp.fields.items(), key=str))
    parts: list[Any] = [ip.name, ip.fields.get("id", ip.fields.get("flow_label"))]
    tcp, udp = packet.layer("TCP"), packet.layer("UDP")
    icmp = packet.layer("ICMP") or packet.layer("ICMPv6")
    if tcp is not None:
        parts += ["TCP", tcp.fields["seq"], tcp.fields["ack"], tuple(tcp.fields["flags"])]
    elif udp is not None:
        parts += ["UDP", udp.fields["length"]]
    elif icmp is not None:
        parts += [icmp.name, icmp.fields["type"], icmp.fields.get("seq")]
    return (*parts, packet.payload)


def _headers(found: Captured) -> Json:
    """The fields of a hop that rewriting may change."""
    result: Json = {}
    packet = found.packet
    ethernet = packet.layer("Ethernet")
    if ethernet is not None:
        result["eth"] = {"src": ethernet.fields["src"], "dst": ethernet.fields["dst"]}
    ip = packet.layer("IPv4") or packet.layer("IPv6")
    if ip is not None:
        ttl = ip.fields.get("ttl", ip.fields.get("hop_limit"))
        result["ip"] = {"src": ip.fields["src"], "dst": ip.fields["dst"], "ttl": ttl}
    l4 = packet.layer("TCP") or packet.layer("UDP")
    if l4 is not None:
        result["l4"] = {"src_port": l4.fields["src_port"], "dst_port": l4.fields["dst_port"]}
    icmp = packet.layer("ICMP")
    if icmp is not None and "id" in icmp.fields:
        result["l4"] = {"id": icmp.fields["id"]}
    return result


def _changes(
    before: Json, after: Json, rules: Sequence[RuleText], bound: Collection[tuple[str, int]]
) -> list[Json]:
    found = []
    asked = (before.get("ip", {}).get("dst"), before.get("l4", {}).get("dst_port"))
    version = "6" if ":" in str(asked[0]) else "4"
    published = f"@ports_at{version}" if asked in bound else f"@ports{version}"
    for layer, fields in after.items():
        for name, value in fields.items():
            old = before.get(layer, {}).get(name)
            if old is None or old == value:
                continue
            by, rule = _reason(layer, name, rules, published)
            found.append(
                {"field": f"{layer}.{name}", "before": old, "after": value, "by": by, "rule": rule}
            )
    return found


def _reason(layer: str, name: str, rules: Sequence[RuleText], published: str) -> tuple[str, str]:
    """What makes such a change, and the rule in force that does."""
    if layer == "eth":
        return "routing: the next link has other ends", ""
    if name == "ttl":
        return "routing: each router takes one", ""
    if name in ("dst", "dst_port"):
        rule = next((rule for rule in rules if rule.text.endswith(f"map {published}")), None)
        return "dnat (prerouting or output)", rule.text if rule is not None else ""
    rule = next((rule for rule in rules if rule.text.endswith("masquerade")), None)
    return "masquerade (postrouting)", rule.text if rule is not None else ""


def flows(
    capture: Capture,
    rules: Sequence[RuleText] = (),
    drops: Mapping[int, int] | None = None,
    bound: Collection[tuple[str, int]] = (),
) -> list[Json]:
    """Every packet with its hops, in order of first sight.

    `drops` tells how many packets each rule (by handle) has dropped during the capture, `bound`
    which ports are published on one address only.
    """
    groups: list[tuple[tuple[Any, ...], list[Captured]]] = []
    latest: dict[tuple[Any, ...], int] = {}
    for found in capture.ordered():
        key = _signature(found)
        if key is None:
            continue
        number = latest.get(key)
        if number is not None:
            hops = groups[number][1]
            seen = {(hop.place, hop.interface, hop.direction) for hop in hops}
            is_new = (found.place, found.interface, found.direction) not in seen
            if is_new and found.at_ns - hops[-1].at_ns < _GAP_NS:
                hops.append(found)
                continue
        latest[key] = len(groups)
        groups.append((key, [found]))
    dropping = [rule for rule in rules if (drops or {}).get(rule.handle)]
    return [_flow(capture, n, hops, rules, dropping, bound) for n, (_, hops) in enumerate(groups)]


def _flow(
    capture: Capture,
    number: int,
    hops: list[Captured],
    rules: Sequence[RuleText],
    dropping: Sequence[RuleText],
    bound: Collection[tuple[str, int]],
) -> Json:
    rows: list[Json] = []
    before: Json = {}
    for hop in hops:
        headers = _headers(hop)
        place = capture.places[hop.place]
        rows.append(
            {
                "packet": hop.number,
                "at_ns": hop.at_ns,
                "where": capture.where(hop),
                "place": {"kind": place.kind, "name": place.name},
                "interface": hop.interface,
                "direction": hop.direction,
                "headers": headers,
                "changes": _changes(before, headers, rules, bound) if before else [],
            }
        )
        before = headers
    ended = _ending(capture, hops)
    result: Json = {
        "id": number,
        "summary": hops[0].packet.summary,
        "started_ns": hops[0].at_ns,
        "duration_ns": hops[-1].at_ns - hops[0].at_ns,
        "hops": rows,
        "arrived": ended,
        "lost_at": "" if ended else capture.where(hops[-1]),
        "dropped_by": None,
    }
    if not ended and dropping and capture.places[hops[-1].place].kind == "host":
        rule = dropping[0]
        result["dropped_by"] = {"chain": rule.chain, "rule": rule.text}
    return result


def _ending(capture: Capture, hops: list[Captured]) -> bool:
    """Whether the last sight is one where packets end: inside a container or leaving the host.

    A bridge that takes a packet in has it for the host itself, or routes it on.
    """
    last = hops[-1]
    place = capture.places[last.place]
    if place.kind == "container":
        return last.direction == "in" or last.interface == "lo"
    if last.direction == "out":
        return not last.interface.startswith("veth")
    packet = last.packet
    ip = packet.layer("IPv4") or packet.layer("IPv6")
    if ip is None:
        return True  # ARP ends on its link
    return ip.fields["dst"] in place.addresses

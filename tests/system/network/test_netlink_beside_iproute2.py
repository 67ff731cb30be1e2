"""What we encode, as iproute2 and nft read it back from the kernel."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from labkit.host.network import links, nft, nftext
from labkit.host.network.namespaces import NamespaceWorker
from labkit.host.network.netlink import NetlinkError, NetlinkSocket, attribute
from labkit.host.network.outside import new_namespace
from labkit.host.network.rules import BridgeRules, PortRule, Rules

T = TypeVar("T")


class Namespace:
    """An empty network namespace, our way in and iproute2's."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def run(self, work: Callable[[], T]) -> T:
        return NamespaceWorker.run_nowait(self.descriptor, work)

    def command(self, *words: str) -> str:
        if shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
        path = f"--net=/proc/self/fd/{self.descriptor}"
        return subprocess.run(
            ["nsenter", path, *words], pass_fds=[self.descriptor], capture_output=True, text=True,
            check=True,
        ).stdout  # fmt: skip

    def ip(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.command("ip", "-j", "-d", *words) or "[]")
        return found


@pytest.fixture
def space() -> Iterator[Namespace]:
    descriptor = new_namespace()
    yield Namespace(descriptor)
    os.close(descriptor)


def test_links_addresses_and_routes_are_what_was_asked_for(space: Namespace) -> None:
    def make() -> None:
        with NetlinkSocket() as handle:
            handle.send([links.add_bridge("br0", mac="02:42:0a:00:00:01", mtu=1400)])
            bridge = links.index_of("br0")
            handle.send(
                [
                    links.add_veth(
                        "va", "vb", master=bridge, peer_mac="02:42:0a:00:00:02", mtu=1400
                    ),
                    links.add_address(bridge, "10.0.0.1/24"),
                    links.add_address(bridge, "fd00::1/64"),
                    links.add_route("10.9.0.0/16", gateway=ipaddress.ip_address("10.0.0.9")),
                    links.add_neighbour(
                        bridge, ipaddress.ip_address("10.0.0.7"), "02:42:0a:00:00:07"
                    ),
                ]
            )
            port = links.index_of("va")
            handle.send([links.bridge_port(port, isolated=True, hairpin=True)])

    space.run(make)
    found = {row["ifname"]: row for row in space.ip("addr")}
    bridge = found["br0"]
    assert (bridge["address"], bridge["mtu"]) == ("02:42:0a:00:00:01", 1400)
    assert {(row["local"], row["prefixlen"]) for row in bridge["addr_info"]} >= {
        ("10.0.0.1", 24), ("fd00::1", 64),
    }  # fmt: skip
    assert not any(row.get("tentative") for row in bridge["addr_info"] if row["local"] == "fd00::1")
    assert found["vb"]["address"] == "02:42:0a:00:00:02"
    assert found["va"]["master"] == "br0"
    flags = found["va"]["linkinfo"]["info_slave_data"]
    assert flags["isolated"]
    assert flags["hairpin"]
    assert {"dst": "10.9.0.0/16", "gateway": "10.0.0.9"}.items() <= next(
        row for row in space.ip("route") if row["dst"] == "10.9.0.0/16"
    ).items()
    neighbour = next(row for row in space.ip("neigh") if row["dst"] == "10.0.0.7")
    assert (neighbour["lladdr"], neighbour["state"]) == ("02:42:0a:00:00:07", ["PERMANENT"])


def test_our_listing_agrees_with_theirs(space: Namespace) -> None:
    def make() -> list[links.Link]:
        with NetlinkSocket() as handle:
            handle.send([links.add_bridge("br0"), links.add_veth("va", "vb")])
            return links.list_links(handle)

    ours = {link.name: link for link in space.run(make)}
    theirs = {row["ifname"]: row for row in space.ip("link")}
    assert ours.keys() == theirs.keys()
    for name, row in theirs.items():
        link = ours[name]
        assert (link.index, link.mtu, link.mac) == (row["ifindex"], row["mtu"], row["address"])
        assert link.kind == row.get("linkinfo", {}).get("info_kind", "")


def test_a_disabled_port_forgets_who_was_behind_it(space: Namespace) -> None:
    def make() -> None:
        with NetlinkSocket() as handle:
            handle.send([links.add_bridge("br0")])
            handle.send([links.add_veth("va", "vb", master=links.index_of("br0"))])
            handle.send([links.set_link(links.index_of("vb"), up=True)])
            handle.send([links.disable_port(links.index_of("va"))])

    space.run(make)
    row = next(row for row in space.ip("link") if row["ifname"] == "va")
    flags = row["linkinfo"]["info_slave_data"]
    for name in ("learning", "flood", "mcast_flood", "bcast_flood"):
        assert not flags[name], name


def test_a_refusal_names_the_message_and_the_rest_is_done(space: Namespace) -> None:
    def make() -> None:
        with NetlinkSocket() as handle:
            handle.send([links.add_bridge("br0")])
            handle.send([links.add_bridge("br0"), links.add_bridge("br1")])

    with pytest.raises(NetlinkError, match="cannot create the bridge br0: File exists") as caught:
        space.run(make)
    assert caught.value.code == errno.EEXIST
    assert "br1" in {row["ifname"] for row in space.ip("link")}


def test_a_link_of_any_kind(space: Namespace) -> None:
    def make() -> None:
        with NetlinkSocket() as handle:
            data = [attribute(1, 42), attribute(15, (4789).to_bytes(2, "big"))]
            handle.send([links.add_link("vx", "vxlan", data=data)])

    try:
        space.run(make)
    except NetlinkError as error:
        pytest.skip(f"no vxlan in this kernel: {error}")
    row = next(row for row in space.ip("link") if row["ifname"] == "vx")
    assert (row["linkinfo"]["info_data"]["id"], row["linkinfo"]["info_data"]["port"]) == (42, 4789)


SHOP = BridgeRules(
    "br-shop",
    (ipaddress.ip_network("172.18.0.0/16"), ipaddress.ip_network("fd00::/64")),
)
VAULT = BridgeRules("br-vault", (ipaddress.ip_network("10.5.0.0/24"),), is_internal=True)
WEB = PortRule("tcp", None, 8080, ipaddress.ip_address("172.18.0.2"), 80)
BOUND = PortRule(
    "udp", ipaddress.ip_address("127.0.0.1"), 5353, ipaddress.ip_address("172.18.0.2"), 53
)


def test_nft_reads_the_rules_we_wrote(space: Namespace) -> None:
    def make() -> None:
        rules = Rules()
        rules.reset([SHOP], [WEB])
        rules.add_bridge(VAULT)
        rules.add_ports([BOUND])
        rules.close()

    space.run(make)
    text = space.command("nft", "list", "table", "inet", "labkit")
    for line in (
        "tcp . 8080 : 172.18.0.2 . 80",
        "127.0.0.1 . udp . 5353 : 172.18.0.2 . 53",
        'elements = { "br-vault" }',
        "elements = { 172.18.0.0/16 }",
        "elements = { fd00::/64 }",
        "ip saddr @masquerade4 oifname != @bridges masquerade",
        "ct state established,related accept",
        "iifname . oifname @own accept",
        "iifname @internal counter packets 0 bytes 0 drop",
        "fib daddr type local dnat ip to meta l4proto . th dport map @ports4",
        "dnat ip to ip daddr . meta l4proto . th dport map @ports_at4",
        "iifname @bridges ip daddr 127.0.0.0/8 counter packets 0 bytes 0 drop",
    ):
        assert line in text, line
    assert (
        "10.5.0.0/24"
        not in text.partition("map ports4")[0].partition("masquerade4")[2].partition("subnets4")[0]
    ), "an internal network is not masqueraded"


def test_what_was_put_in_comes_out_again_and_twice_is_fine(space: Namespace) -> None:
    def make() -> None:
        rules = Rules()
        rules.reset([SHOP, VAULT], [WEB, BOUND])
        for _ in range(2):
            rules.remove_ports([WEB, BOUND])
            rules.remove_bridge(VAULT)
        rules.remove_bridge(SHOP)
        rules.close()

    space.run(make)
    text = space.command("nft", "list", "table", "inet", "labkit")
    assert "elements" not in text


def test_a_transaction_is_all_or_nothing(space: Namespace) -> None:
    def make() -> None:
        with nft.open_socket() as handle:
            nft.commit(handle, [nft.add_table("ip", "t"), nft.add_rule("ip", "t", "nochain", [])])

    with pytest.raises(NetlinkError, match="cannot add a rule to nochain"):
        space.run(make)
    assert "table ip t" not in space.command("nft", "list", "ruleset")


def test_our_words_for_the_rules_are_nft_s(space: Namespace) -> None:
    def make() -> list[nftext.RuleText]:
        rules = Rules()
        rules.reset([SHOP], [])
        rules.close()
        with nft.open_socket() as handle:
            return nftext.read_rules(handle, "inet", "labkit")

    ours = space.run(make)
    theirs = space.command("nft", "-s", "list", "table", "inet", "labkit")
    assert len(ours) == 19
    for rule in ours:
        if rule.chain in ("forward", "guard") or "@masquerade4" in rule.text:
            assert rule.text in theirs.replace("counter packets 0 bytes 0", "counter"), rule.text

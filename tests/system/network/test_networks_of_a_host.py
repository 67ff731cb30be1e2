"""Bridges, names, isolation, connect and disconnect, on real namespaces."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from network_lab import NetworkLab

from labkit.base.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
    SystemFailure,
    Unsupported,
)
from labkit.host.network import links, plumbing
from labkit.host.network.namespaces import open_namespace
from labkit.host.network.netlink import NetlinkSocket


async def test_the_default_bridge_gives_an_address_and_no_names(lab: NetworkLab) -> None:
    await lab.start("c1")
    await lab.start("c2")
    assert await lab.address("c1") == "172.17.0.2"
    assert await lab.address("c2") == "172.17.0.3"
    assert await lab.reaches_soon("c1", "172.17.0.3")
    code, text = await lab.exec("c1", "ping", "-c1", "c2")
    assert code
    assert "bad address 'c2'" in text
    shown = (await lab.engine.container_inspect("c1"))["NetworkSettings"]
    assert shown["IPAddress"] == "172.17.0.2"
    assert shown["MacAddress"] == "02:42:ac:11:00:02"
    assert shown["Gateway"] == "172.17.0.1"


async def test_on_a_network_of_one_s_own_everybody_has_a_name(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start(
        "db",
        network="shop",
        NetworkingConfig={"EndpointsConfig": {"shop": {"Aliases": ["database"]}}},
    )
    short = lab.engine.context.find("db").id[:12]
    for name in ("db", "DB", "database", short, "db.shop"):
        assert await lab.reaches_soon("web", name), name
    code, text = await lab.exec("web", "nslookup", "nobody")
    assert code
    assert "NXDOMAIN" in text
    _, text = await lab.exec("web", "nslookup", "-type=aaaa", "db")
    assert "NXDOMAIN" not in text
    address = await lab.address("db", "shop")
    _, text = await lab.exec("web", "nslookup", address)
    assert "db.shop" in text
    _, text = await lab.exec("web", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in text
    assert "ndots:0" in text


async def test_one_alias_of_many_containers_takes_turns(lab: NetworkLab) -> None:
    await lab.network("shop")
    settings = {"EndpointsConfig": {"shop": {"Aliases": ["search"]}}}
    for name in ("s1", "s2", "s3"):
        await lab.start(name, network="shop", NetworkingConfig=settings)
    await lab.start("asker", network="shop")
    first = set()
    for _ in range(6):
        _, text = await lab.exec("asker", "nslookup", "-type=a", "search")
        found = [line.split()[1] for line in text.splitlines() if line.startswith("Address: ")]
        assert len(found) == 3
        first.add(found[0])
    assert len(first) == 3


async def test_networks_do_not_reach_each_other(lab: NetworkLab) -> None:
    await lab.network("front")
    await lab.network("back")
    await lab.start("web", network="front")
    await lab.start("db", network="back")
    assert not await lab.reaches("web", await lab.address("db", "back"))
    code, _ = await lab.exec("web", "nslookup", "db")
    assert code
    await lab.connect("back", "web")
    assert await lab.reaches_soon("web", "db")
    await lab.disconnect("back", "web")
    assert not await lab.reaches("web", await lab.address("db", "back"))


async def test_an_internal_network_leads_nowhere_else(lab: NetworkLab) -> None:
    await lab.network("vault", Internal=True)
    await lab.network("open")
    await lab.start("safe", network="vault")
    await lab.start("other", network="vault")
    await lab.start("thief", network="open")
    assert await lab.reaches_soon("safe", "other")
    _, routes = await lab.exec("safe", "ip", "route")
    assert "default" not in routes
    assert not await lab.reaches("thief", await lab.address("safe", "vault"))


async def test_without_icc_containers_reach_the_gateway_only(lab: NetworkLab) -> None:
    await lab.network("quiet", Options={"com.docker.network.bridge.enable_icc": "false"})
    await lab.start("c1", network="quiet")
    await lab.start("c2", network="quiet")
    assert not await lab.reaches("c1", await lab.address("c2", "quiet"))
    assert await lab.reaches_soon("c1", "172.18.0.1")


async def test_ipv6_beside_ipv4(lab: NetworkLab) -> None:
    await lab.network("six", EnableIPv6=True)
    await lab.start("c1", network="six")
    await lab.start("c2", network="six")
    shown = await lab.engine.container_inspect("c2")
    address = shown["NetworkSettings"]["Networks"]["six"]["GlobalIPv6Address"]
    assert address.startswith("fd")
    assert await lab.reaches_soon("c1", address)
    _, text = await lab.exec("c1", "nslookup", "-type=aaaa", "c2")
    assert address in text


async def test_addresses_that_were_chosen(lab: NetworkLab) -> None:
    await lab.network(
        "mine", IPAM={"Config": [{"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.254",
                                  "IPRange": "10.77.0.64/26"}]}
    )  # fmt: skip
    chosen = {"EndpointsConfig": {"mine": {"IPAMConfig": {"IPv4Address": "10.77.0.9"}}}}
    await lab.start("c1", network="mine", NetworkingConfig=chosen)
    await lab.start("c2", network="mine")
    assert await lab.address("c1", "mine") == "10.77.0.9"
    assert await lab.address("c2", "mine") == "10.77.0.64"
    assert await lab.reaches_soon("c1", "10.77.0.254")
    with pytest.raises(Forbidden, match="Address already in use"):
        await lab.start("c3", network="mine", NetworkingConfig=chosen)
    with pytest.raises(InvalidParameter, match="supported on user defined networks only"):
        await lab.start(
            "c4",
            NetworkingConfig={
                "EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "172.17.0.9"}}}
            },
        )


async def test_overlaps_and_names_taken_are_refused(lab: NetworkLab) -> None:
    await lab.network("one", IPAM={"Config": [{"Subnet": "10.78.0.0/16"}]})
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        await lab.network("two", IPAM={"Config": [{"Subnet": "10.78.4.0/24"}]})
    with pytest.raises(Conflict, match="network with name one already exists"):
        await lab.network("one")
    for name in ("bridge", "host", "none"):
        with pytest.raises(Forbidden, match="predefined"):
            await lab.network(name)


async def test_a_network_in_use_stays(lab: NetworkLab) -> None:
    await lab.network("busy")
    await lab.start("c1", network="busy")
    with pytest.raises(Forbidden, match=r'has active endpoints \(name:"c1" id:"[0-9a-f]{12}"\)'):
        await lab.networks.remove("busy")
    await lab.engine.container_kill("c1")
    await lab.networks.remove("busy")
    with pytest.raises(NotFound, match=r"network [0-9a-f]{64} not found"):
        await lab.engine.container_start("c1")


async def test_an_address_is_free_again_when_its_container_has_ended(lab: NetworkLab) -> None:
    for _ in range(5):
        await lab.start("c1")
        assert await lab.address("c1") == "172.17.0.2"
        await lab.start("c2")
        assert await lab.reaches_soon("c2", "172.17.0.2")
        await lab.engine.container_remove("c1", force=True)
        await lab.engine.container_remove("c2", force=True)


async def test_a_shared_namespace_is_the_same_network(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("side", network="container:web")
    one = (await lab.exec("web", "ip", "addr"))[1]
    assert (await lab.exec("side", "ip", "addr"))[1] == one
    with pytest.raises(Forbidden, match="sharing network namespace"):
        await lab.connect("bridge", "side")


async def test_none_has_a_loopback_and_host_has_the_host(lab: NetworkLab) -> None:
    await lab.start("alone", network="none")
    _, text = await lab.exec("alone", "ip", "link")
    assert "eth0" not in text
    await lab.start("open", network="host")
    _, text = await lab.exec("open", "ip", "link")
    assert "docker0" in text


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
async def test_containers_on_the_host_s_own_lan(lab: NetworkLab, driver: str) -> None:
    def plug_in() -> None:
        with NetlinkSocket() as host:
            host.send([links.add_veth("lan0", "lan1")])
            host.send([links.set_link(links.index_of("lan1"), up=True)])

    await lab.networks.worker.run(lab.host.net, plug_in)
    try:
        await lab.network("lan", Driver=driver, Options={"parent": "lan0"})
        await lab.start("c1", network="lan")
        await lab.start("c2", network="lan")
        assert await lab.reaches_soon("c1", "c2")
        await lab.connect("bridge", "c1")
        await lab.disconnect("lan", "c1")
        assert not await lab.reaches("c1", "c2")
    except Unsupported as error:
        # The other right answer, where the kernel lacks it.
        assert f"this kernel has no {driver}" in error.message  # noqa: PT017
    finally:
        await lab.remove_all()
        await lab.networks.plumbing.detach(["lan0"])


async def test_names_follow_a_rename(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("old", network="shop")
    await lab.engine.container_rename("old", "new")
    assert await lab.reaches_soon("web", "new")
    assert (await lab.exec("web", "nslookup", "old"))[0]


async def test_a_new_daemon_takes_everything_up(lab: NetworkLab, network_image_store: Path) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start(
        "db", "sh", "-c", "echo hello > i; httpd -f -p 80", network="shop",
        HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "0"}]}},
    )  # fmt: skip
    before = (await lab.engine.container_inspect("db"))["NetworkSettings"]
    await lab.reopen(network_image_store)
    after = (await lab.engine.container_inspect("db"))["NetworkSettings"]
    assert after["Networks"] == before["Networks"]
    assert after["Ports"] == before["Ports"]
    assert await lab.reaches_soon("web", "db")
    await lab.start("third", network="shop")
    assert await lab.address("third", "shop") == "172.18.0.4"


async def test_what_a_crash_left_of_a_link_is_made_again(
    lab: NetworkLab, network_image_store: Path
) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("db", network="shop")
    live = lab.networks.endpoints_of(lab.engine.context.find("db").id)["shop"].live
    await lab.networks.plumbing.detach([live.host_name])
    assert not await lab.reaches("web", "db")
    await lab.reopen(network_image_store)
    assert await lab.reaches_soon("web", "db")


async def test_events_tell_of_networks(lab: NetworkLab) -> None:
    seen: list[str] = []
    stop = lab.engine.subscribe(
        lambda event: seen.append(event["Action"]) if event["Type"] == "network" else None
    )
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.connect("bridge", "web")
    await lab.disconnect("bridge", "web")
    await lab.engine.container_remove("web", force=True)
    await lab.networks.remove("shop")
    stop()
    assert seen == ["create", "connect", "connect", "disconnect", "disconnect", "destroy"]


async def test_many_join_at_once_and_all_have_addresses_of_their_own(lab: NetworkLab) -> None:
    await lab.network("crowd")
    await asyncio.gather(*(lab.start(f"m{n:02}", network="crowd") for n in range(12)))
    addresses = {await lab.address(f"m{n:02}", "crowd") for n in range(12)}
    assert len(addresses) == 12
    assert await lab.reaches_soon("m00", "m11")


async def test_a_link_gives_a_name_on_the_default_bridge(lab: NetworkLab) -> None:
    await lab.start("db")
    await lab.start("web", HostConfig={"Links": ["db:database"]})
    for name in ("database", "db"):
        assert await lab.reaches_soon("web", name), name
    _, hosts = await lab.exec("web", "cat", "/etc/hosts")
    assert "172.17.0.2\tdatabase" in hosts
    await lab.engine.container_kill("web")
    await lab.engine.container_kill("db")
    with pytest.raises(Conflict, match="Cannot link to a non running container: /db AS /web/datab"):
        await lab.engine.container_start("web")
    await lab.engine.container_remove("/web/database", link=True)
    await lab.engine.container_start("web")
    with pytest.raises(NotFound, match="No such link"):
        await lab.engine.container_remove("/web/database", link=True)


async def test_extra_hosts_and_resolvers_are_written(lab: NetworkLab) -> None:
    host = {
        "ExtraHosts": ["gate:host-gateway", "printer:10.0.0.9"],
        "Dns": ["9.9.9.9"],
        "DnsSearch": ["example.org"],
        "DnsOptions": ["timeout:1"],
    }
    await lab.start("web", HostConfig=host)
    _, hosts = await lab.exec("web", "cat", "/etc/hosts")
    assert "172.17.0.1\tgate\n" in hosts
    assert "10.0.0.9\tprinter\n" in hosts
    _, resolver = await lab.exec("web", "cat", "/etc/resolv.conf")
    for line in ("nameserver 9.9.9.9", "search example.org", "options timeout:1"):
        assert line in resolver
    await lab.network("shop")
    await lab.start("own", network="shop", HostConfig=host)
    _, resolver = await lab.exec("own", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in resolver
    assert "host(9.9.9.9)" in resolver


async def test_host_and_none_stand_alone(lab: NetworkLab) -> None:
    both = {"EndpointsConfig": {"bridge": {}, "host": {}}}
    with pytest.raises(InvalidParameter, match="cannot attach both user-defined and non-user-def"):
        await lab.start("web", NetworkingConfig=both)


async def test_a_name_that_is_taken_is_no_obstacle(
    lab: NetworkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["veth0000001", "veth0000001", "veth0000001", "veth0000002"])
    monkeypatch.setattr(plumbing, "new_host_name", lambda: next(names))
    await lab.start("c1")
    await lab.start("c2")
    assert {"veth0000001", "veth0000002"} <= (await lab.host_links()).keys()
    assert await lab.reaches_soon("c1", "172.17.0.3")


async def test_names_used_up_are_said_and_nothing_stays(
    lab: NetworkLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plumbing, "new_host_name", lambda: "veth0000001")
    await lab.start("c1")
    with pytest.raises(SystemFailure, match="cannot create the veth pair veth0000001"):
        await lab.start("c2")
    assert list(lab.networks.find("bridge").endpoints) == [lab.engine.context.find("c1").id]
    monkeypatch.undo()
    await lab.engine.container_start("c2")
    assert await lab.address("c2") == "172.17.0.3"


async def test_a_full_network_says_so_and_has_room_again(lab: NetworkLab) -> None:
    await lab.network("tiny", IPAM={"Config": [{"Subnet": "10.80.0.0/30"}]})
    await lab.start("c1", network="tiny")
    with pytest.raises(SystemFailure, match=r"no available IPv4 addresses.*10\.80\.0\.0/30"):
        await lab.start("c2", network="tiny")
    await lab.engine.container_remove("c1", force=True)
    await lab.engine.container_start("c2")


async def test_many_questions_at_once_are_all_answered(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("db", network="shop")
    one = "nslookup -type=a db > /dev/null || echo lost"
    asks = f"i=0; while [ $i -lt 40 ]; do {one}; i=$((i+1)); done"
    found = await asyncio.gather(*(lab.exec("web", "sh", "-c", asks) for _ in range(4)))
    assert [text for _, text in found] == [""] * 4


@pytest.mark.parametrize("says_so", [True, False])
async def test_a_name_server_of_one_s_own_has_port_53_if_it_says_so(
    lab: NetworkLab, network_image_store: Path, says_so: bool
) -> None:
    def bind() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("0.0.0.0", 53))

    await lab.network("shop")
    body = {"ExposedPorts": {"53/udp": {}}} if says_so else {}
    await lab.start("dns", network="shop", **body)
    await lab.start("db", network="shop")
    for _ in range(2):
        assert await lab.reaches_soon("dns", "db")
        namespace = open_namespace(lab.engine.context.find("dns").shim.init_pid)
        try:
            await lab.networks.worker.run(namespace, bind)
            assert says_so
        except OSError:
            assert not says_so
        finally:
            os.close(namespace)
        await lab.reopen(network_image_store)

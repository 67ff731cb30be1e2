"""What the capture sees, checked against tcpdump's eyes; a packet's way and where it is lost."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from network_lab import NetworkLab

from labkit.base.errors import InvalidParameter, NotFound


async def flows_of(lab: NetworkLab, identifier: str, word: str) -> list[dict[str, Any]]:
    """Flows whose summary has `word`, once the sockets have handed everything over."""
    await asyncio.sleep(0)
    lab.networks.captures.get(identifier).stop()
    found = await lab.networks.captures.flows(identifier)
    return [flow for flow in found["flows"] if word in flow["summary"]]


async def test_a_ping_crosses_four_interfaces(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("db", network="shop")
    capture = await lab.networks.captures.start({"target": "web", "filter": "icmp"})
    assert await lab.reaches_soon("web", "db")
    (request,) = await flows_of(lab, capture.id, "echo request")
    assert [hop["where"].rpartition("'s ")[2] or hop["where"] for hop in request["hops"]] == [
        "eth0 of web", "eth0", "eth0", "eth0 of db",
    ]  # fmt: skip
    assert request["arrived"]
    assert not any(hop["changes"] for hop in request["hops"])


async def test_translation_shows_what_it_rewrote_and_by_which_rule(lab: NetworkLab) -> None:
    server = {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}
    await lab.network("shop")
    await lab.start("web", "httpd", "-f", "-p", "80", HostConfig=server)
    await lab.start("far", network="shop")
    shown = await lab.engine.container_inspect("web")
    port = shown["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    capture = await lab.networks.captures.start({"target": "host", "filter": "tcp"})
    await lab.fetch("far", f"http://172.18.0.1:{port}/")
    syn = (await flows_of(lab, capture.id, "[SYN]"))[0]
    changes = {change["field"]: change for hop in syn["hops"] for change in hop["changes"]}
    assert changes["ip.dst"]["before"] == "172.18.0.1"
    assert changes["ip.dst"]["after"] == "172.17.0.2"
    assert changes["l4.dst_port"]["after"] == 80
    assert "map @ports4" in changes["ip.dst"]["rule"]
    assert changes["ip.src"]["after"] == "172.17.0.1"
    assert changes["ip.src"]["rule"].endswith("masquerade")


async def test_a_forbidden_packet_names_the_rule_that_took_it(lab: NetworkLab) -> None:
    await lab.network("front")
    await lab.network("back")
    await lab.start("web", network="front")
    await lab.start("db", network="back")
    capture = await lab.networks.captures.start({"target": "web", "filter": "icmp"})
    assert not await lab.reaches("web", await lab.address("db", "back"))
    request = (await flows_of(lab, capture.id, "echo request"))[0]
    assert not request["arrived"]
    assert "bridge" in request["lost_at"]
    assert request["dropped_by"] == {"chain": "forward", "rule": "oifname @bridges counter drop"}


async def test_tcpdump_opens_the_file(lab: NetworkLab, tmp_path: Path) -> None:
    tcpdump = shutil.which("tcpdump") or shutil.which("tshark")
    if tcpdump is None:
        pytest.skip("neither tcpdump nor tshark is installed")
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("db", network="shop")
    capture = await lab.networks.captures.start({"target": "shop"})
    assert await lab.reaches_soon("web", "db")
    capture.stop()
    file = tmp_path / "shop.pcap"
    file.write_bytes(b"".join(capture.pcap()))
    process = await asyncio.create_subprocess_exec(
        tcpdump, "-n", "-r", str(file), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    text = (await process.communicate())[0].decode()
    assert process.returncode == 0
    assert "ICMP echo request" in text or "Echo (ping) request" in text
    assert text.count("\n") == len(capture.packets)


async def test_a_recording_is_bounded_and_its_mistakes_are_named(lab: NetworkLab) -> None:
    await lab.start("c1")
    captures = lab.networks.captures
    with pytest.raises(NotFound, match="no such container or network"):
        await captures.start({"target": "nobody"})
    with pytest.raises(InvalidParameter, match="cannot understand the filter"):
        await captures.start({"target": "c1", "filter": "prot 80"})
    with pytest.raises(InvalidParameter, match="packets must be"):
        await captures.start({"target": "c1", "packets": 0})
    capture = await captures.start({"target": "c1", "filter": "icmp", "packets": 3})
    await lab.exec("c1", "ping", "-c", "2", "-i", "0.1", "172.17.0.1")
    async with asyncio.timeout(10):
        while capture.is_running:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(capture.packets) == 3
    assert "3 packets" in capture.why_ended

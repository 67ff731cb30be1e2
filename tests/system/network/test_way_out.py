"""The cable to the machine, the machine's firewall, and the simulated outside."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

import pytest
from network_lab import NetworkLab

from labkit.host.network import nft
from labkit.host.network.namespaces import NamespaceWorker
from labkit.host.network.outside import new_namespace
from labkit.host.network.uplink import Firewall, Uplink, has_default_route, machine_firewall


def _nft_table(name: str) -> str:
    words = ["nft", "list", "table", "ip", name]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


async def test_the_simulated_outside_answers_and_says_what_it_is(lab: NetworkLab) -> None:
    await lab.networks.way_out.open(instance="", offline=True)
    await lab.network("shop")
    await lab.start("web", network="shop")
    await lab.start("plain")
    for name in ("web", "plain"):
        assert await lab.reaches_soon(name, "8.8.8.8")
        assert await lab.reaches_soon(name, "google.com")
        assert "labkit simulates an outside" in await lab.fetch(name, "http://example.com/")
        code, text = await lab.exec(name, "nslookup", "no-such.example.com")
        assert code
        assert "NXDOMAIN" in text
    assert not await lab.reaches("web", "9.9.9.9")
    await lab.network("vault", Internal=True)
    await lab.start("safe", network="vault")
    assert not await lab.reaches("safe", "8.8.8.8")
    # What hangs on the lab host goes with it.
    await lab.networks.plumbing.detach(["eth0"])


async def test_the_cable_leads_to_the_machine_and_leaves_nothing(lab: NetworkLab) -> None:
    if not await lab.networks.worker.run(None, has_default_route):
        pytest.skip("this machine has no default route")
    uplink = Uplink(lab.networks.plumbing, lab.paths.instance)
    await uplink.open()
    try:
        assert uplink.interface in os.listdir("/sys/class/net")
        await lab.start("web")
        assert await lab.reaches_soon("web", str(uplink.machine_address))
        await uplink.open()  # the next daemon
        assert await lab.reaches_soon("web", str(uplink.machine_address))
        if shutil.which("nft"):
            rules = await asyncio.to_thread(_nft_table, uplink.table)
            assert f'oifname != "{uplink.interface}" masquerade' in rules
    finally:
        await uplink.remove()
        await uplink.remove()
    assert uplink.interface not in os.listdir("/sys/class/net")


@pytest.mark.parametrize("policy", ["drop", "accept"])
def test_a_firewall_that_drops_what_is_forwarded_is_named(policy: str) -> None:
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    space = new_namespace()
    rules = f"""table ip filter {{
      chain FORWARD {{
        type filter hook forward priority 0; policy {policy};
      }}
      chain INPUT {{
        type filter hook input priority 0; policy drop;
      }}
    }}"""
    try:
        subprocess.run(
            ["nsenter", f"--net=/proc/self/fd/{space}", "nft", "-f", "-"],
            input=rules, text=True, pass_fds=[space], check=True,
        )  # fmt: skip
        found = NamespaceWorker.run_nowait(space, machine_firewall)
    finally:
        os.close(space)
    if policy == "accept":
        assert found is None
        return
    assert found == Firewall("ip", "filter", "FORWARD")
    words = found.sentence("lk-1")
    assert "table ip filter, chain FORWARD, policy drop" in words
    assert "nft insert rule ip filter FORWARD iifname lk-1 accept" in words


def test_our_own_table_is_no_foreign_firewall() -> None:
    space = new_namespace()

    def work() -> Firewall | None:
        with nft.open_socket() as handle:
            nft.commit(
                handle,
                [
                    nft.add_table("ip", "ours"),
                    nft.add_chain("ip", "ours", "f", kind="filter", hook="forward"),
                ],
            )
        return machine_firewall("ours")

    try:
        assert NamespaceWorker.run_nowait(space, work) is None
    finally:
        os.close(space)

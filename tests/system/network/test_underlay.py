"""The network between nodes: packets cross it, rules lose them, queues delay them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.network.delays import DELAYED_MAX
from labkit.host.network.delays import messages as delay_messages
from labkit.host.network.namespaces import NamespaceWorker, open_namespace
from labkit.host.network.underlay import BRIDGE, GATEWAY, SUBNET, Damage, Underlay, address_of

pytestmark = pytest.mark.root
PORT = 9999


@pytest.fixture
def spaces() -> Iterator[list[tuple[int, int]]]:
    """Four network namespaces: (pid, descriptor). The first is where the bridge lies."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(4):
            process = subprocess.Popen(
                ["unshare", "-n", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            assert process.stdout.readline() == b"up\n"
            descriptor = open_namespace(process.pid)
            stack.callback(os.close, descriptor)
            found.append((process.pid, descriptor))
        yield found


def on(space: tuple[int, int], *argv: str) -> str:
    done = subprocess.run(
        ["nsenter", "-t", str(space[0]), "-n", *argv], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def udp(space: tuple[int, int]) -> socket.socket:
    made = NamespaceWorker.run_nowait(
        space[1], lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    )
    made.settimeout(5)
    return made


def arrived(receiver: socket.socket, sender: socket.socket, to: IPv4Address, count: int) -> int:
    """How many of `count` packets arrive; a last word over TCP-like patience is not needed: the
    kernel hands loopback-like veth packets over before sendto returns."""
    for _ in range(count):
        sender.sendto(b"x", (str(to), PORT))
    receiver.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(10):
            found += 1
    return found


async def test_packets_cross_are_lost_by_rule_and_come_back_after_healing(
    spaces: list[tuple[int, int]],
) -> None:
    home, one, two, _ = spaces
    underlay = Underlay(home[1])
    try:
        await underlay.open()
        await underlay.open()  # twice is no mistake
        first = await underlay.plug(1, one[1])
        second = await underlay.plug(2, two[1])
        await underlay.plug(2, two[1])
        assert (first, second) == (address_of(1), address_of(2))
        with udp(one) as sender, udp(two) as receiver:
            receiver.bind((str(second), PORT))
            sender.sendto(b"hello", (str(second), PORT))  # and the neighbour is known now
            assert receiver.recv(10) == b"hello"
            assert arrived(receiver, sender, second, 100) == 100
            await underlay.damage(two[1], {first: Damage(cut=True)})
            assert arrived(receiver, sender, second, 100) == 0
            await underlay.damage(two[1], {first: Damage(loss=0.5)})
            assert 100 < arrived(receiver, sender, second, 400) < 300
            await underlay.damage(two[1], {})
            assert arrived(receiver, sender, second, 100) == 100
        await underlay.unplug(2)
        await underlay.unplug(2)
        assert "eth0" not in on(two, "cat", "/proc/net/dev")
        await underlay.remove()
        assert BRIDGE not in on(home, "cat", "/proc/net/dev")
    finally:
        underlay.close()


async def test_packets_to_one_peer_are_delayed_where_the_kernel_can_else_refused_by_name(
    spaces: list[tuple[int, int]],
) -> None:
    home, one, two, three = spaces
    underlay = Underlay(home[1])
    try:
        await underlay.open()
        for number, space in enumerate((one, two, three), 1):
            await underlay.plug(number, space[1])
        slow, quick = address_of(2), address_of(3)
        refused = ""
        try:
            await underlay.delay(one[1], {slow: 300.0})
        except Unsupported as error:
            refused = error.message
        if refused:
            assert f"cannot delay packets to {slow}" in refused
            assert "netem" in refused
            pytest.skip(f"refused as it should be; delays are seen elsewhere: {refused}")
        with udp(one) as sender, udp(two) as late, udp(three) as early:
            late.bind((str(slow), PORT))
            early.bind((str(quick), PORT))
            for _ in range(2):  # once for the neighbours to be known
                sender.sendto(b"x", (str(slow), PORT))
                sender.sendto(b"x", (str(quick), PORT))
                assert early.recv(10) == b"x"
                late.setblocking(False)
                with pytest.raises(BlockingIOError):
                    late.recv(10)  # sent first, still on its way
                late.settimeout(10)
                assert late.recv(10) == b"x"
        if shutil.which("tc") is not None:
            assert "delay 300ms" in on(one, "tc", "qdisc", "show", "dev", "eth0")
        await underlay.delay(one[1], {})
        assert "netem" not in on(one, "tc", "qdisc", "show", "dev", "eth0")
    finally:
        underlay.close()


def test_more_peers_than_there_are_bands_are_refused() -> None:
    many = {address_of(number): 10.0 for number in range(1, DELAYED_MAX + 2)}
    with pytest.raises(InvalidParameter, match="at most 15"):
        delay_messages(1, many)


def test_three_thousand_nodes_have_addresses_of_their_own() -> None:
    found = {address_of(number) for number in range(1, 3001)}
    assert len(found) == 3000
    assert all(address in SUBNET for address in found)
    assert not found & {SUBNET.network_address, SUBNET.broadcast_address, GATEWAY}

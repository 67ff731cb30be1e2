"""Frames over sockets: cut anywhere, too long, or from nobody; the transport goes on."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.cluster.raft.errors import BadMessage
from labkit.cluster.raft.types import Vote
from labkit.cluster.raft.wire import decode, encode
from labkit.world.real.places import UnixPlace
from labkit.world.real.transport import FRAME_BYTES_MAX, Transport, _Frames, frame
from tests.unit.swarm.swarm_group import until


class Ear:
    """A handler that lets everybody in and remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bytes]] = []
        self.told: list[tuple[int, str]] = []

    def introduced(self, hello: Mapping[str, Any]) -> int:
        return int(hello["node"])

    def arrived(self, peer: int, payload: bytes) -> None:
        if payload == b"nonsense":
            raise BadMessage("that is nonsense")
        self.heard.append((peer, payload))

    def refused(self, peer: int, reason: str) -> None:
        self.told.append((peer, reason))


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 30)))
def test_frames_come_out_whole_wherever_the_stream_is_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    found: list[bytes] = []
    reader = _Frames()
    reader.one = found.append  # type: ignore[method-assign]
    reader.transport = object()  # type: ignore[assignment]
    for size in [*cuts, len(stream) + 1]:
        reader.data_received(stream[:size])
        stream = stream[size:]
    assert found == payloads


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_no_frame_whatsoever_breaks_the_decoder(value: object) -> None:
    try:
        number, message = decode(json.dumps([1, value]).encode())
    except BadMessage:
        return
    assert number == 1
    assert decode(encode(1, message)) == (1, message)


def test_a_message_comes_back_as_it_went() -> None:
    message = Vote(3, 2, 9, 3, True, False)
    assert decode(encode(7, message)) == (7, message)


async def two(folder: Path) -> tuple[Transport, Transport, Ear, Ear]:
    places = {1: UnixPlace(folder / "1"), 2: UnixPlace(folder / "2")}
    ears = Ear(), Ear()
    ends = [Transport(places[n], {"node": n}, ears[n - 1]) for n in (1, 2)]
    for end in ends:
        await end.open()
    ends[0].meet(2, places[2])
    await until(lambda: ends[0].is_connected(2))
    return ends[0], ends[1], *ears


async def test_frames_arrive_in_order_and_after_a_restart_of_the_peer(short_tmp: Path) -> None:
    one, other, _, ear = await two(short_tmp)
    for number in range(100):
        assert one.send(2, str(number).encode())
    await until(lambda: len(ear.heard) == 100)
    assert ear.heard == [(1, str(number).encode()) for number in range(100)]
    other.close()
    await until(lambda: not one.is_connected(2))
    assert not one.send(2, b"lost")
    assert one.lost == 1
    fresh = Transport(UnixPlace(short_tmp / "2"), {"node": 2}, ear)
    await fresh.open()
    await until(lambda: one.is_connected(2))
    assert one.send(2, b"again")
    await until(lambda: ear.heard[-1] == (1, b"again"))
    one.close()
    fresh.close()


async def test_who_talks_nonsense_is_told_why_and_may_call_again(short_tmp: Path) -> None:
    one, other, mine, ear = await two(short_tmp)
    one.send(2, b"nonsense")
    await until(lambda: bool(mine.told))
    assert mine.told == [(2, "that is nonsense")]
    assert ear.told == [(1, "that is nonsense")]
    await until(lambda: one.is_connected(2))
    assert one.send(2, b"sense")
    await until(lambda: ear.heard == [(1, b"sense")])
    one.close()
    other.close()


@pytest.mark.parametrize("size", [FRAME_BYTES_MAX + 1, 0xFFFFFFFF])
async def test_a_frame_that_is_too_long_is_refused_before_it_is_read(
    short_tmp: Path, size: int
) -> None:
    one, other, _, _ = await two(short_tmp)
    reader, writer = await asyncio.open_unix_connection(str(short_tmp / "2"))
    writer.write(struct.pack("!I", size) + b"x" * 100)
    said = await reader.read()
    assert b"cannot read this stream" in said
    writer.close()
    await writer.wait_closed()
    assert one.send(2, b"still here")
    one.close()
    other.close()

"""Recording real packets: AF_PACKET sockets born in the namespaces that a packet crosses.

One socket in the lab host's namespace sees every veth, bridge and the way out; one in each
container sees its eth0. The kernel stamps each packet; what one socket hands over is in the order
in which the kernel saw it. A recording is bounded in packets and bytes and ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.base.ids import new_id
from labkit.host.network.decode import Packet, decode_packet
from labkit.host.network.pcap import write_pcap

__all__ = ["Capture", "Captured", "Place", "packet_socket"]

_ETH_P_ALL = 3
_SO_TIMESTAMPNS = 35
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SNAP_BYTES = 65535
_BURST = 128
_TYPES = {0: "in", 1: "in", 2: "in", 3: "in", 4: "out"}
_ETHERNET_DEVICES = (1, 772)
"""ARPHRD_ETHER and ARPHRD_LOOPBACK, whose frames begin with an Ethernet header."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where packets are seen: a namespace, by what people call it."""

    kind: str
    """`container`, `host` or `outside`."""
    name: str
    interfaces: dict[str, str] = field(default_factory=dict)
    """Interfaces of interest and what each is (`eth0 of web`, `bridge shop`); empty: all."""
    addresses: frozenset[str] = frozenset()
    """The place's own: packets to these end here."""


@dataclass(slots=True)
class Captured:
    """One packet at one interface."""

    number: int
    at_ns: int
    place: int
    """Index into the capture's places."""
    interface: str
    direction: str
    """`in` or `out`, as the interface's own namespace sees it."""
    length: int
    data: bytes
    is_ethernet: bool = True
    _packet: Packet | None = None

    @property
    def packet(self) -> Packet:
        """Decoded on first use."""
        if self._packet is None:
            self._packet = decode_packet(self.data, is_ethernet=self.is_ethernet)
        return self._packet


def packet_socket() -> socket.socket:
    """A socket that sees every packet of the calling thread's namespace. Raises OSError."""
    handle = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL)
    )
    handle.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    with contextlib.suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return handle


class Capture:
    """One recording. Belongs to the loop it is started on."""

    def __init__(
        self,
        target: str,
        filter_text: str,
        wanted: Callable[[Packet], bool],
        *,
        packets_max: int = 2000,
        bytes_max: int = 16 << 20,
        duration_s: float = 60.0,
    ) -> None:
        self.id = new_id()[:12]
        self.target = target
        self.filter_text = filter_text
        self.places: list[Place] = []
        self.packets: list[Captured] = []
        self.started_ns = time.time_ns()
        self.ended_ns = 0
        self.why_ended = ""
        self.dropped = 0
        self._wanted = wanted
        self._packets_max, self._bytes_max = packets_max, bytes_max
        self._bytes = 0
        self._sockets: list[socket.socket] = []
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(duration_s, self.stop, "its time was up")

    @property
    def is_running(self) -> bool:
        return not self.ended_ns

    def watch(self, place: Place, handle: socket.socket) -> None:
        """Record what `handle` sees, which becomes the capture's own."""
        number = len(self.places)
        self.places.append(place)
        self._sockets.append(handle)
        self._loop.add_reader(handle.fileno(), self._readable, number, handle)

    def _readable(self, number: int, handle: socket.socket) -> None:
        interfaces = self.places[number].interfaces
        for _ in range(_BURST):
            try:
                data, extra, _flags, address = handle.recvmsg(_SNAP_BYTES, 64)
            except OSError:
                return
            name, _, packet_type, device, _ = address
            if interfaces and name not in interfaces:
                continue
            at_ns = time.time_ns()
            for level, kind, value in extra:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(value) >= 16:
                    seconds, fraction = struct.unpack("=qq", value[:16])
                    at_ns = seconds * 1_000_000_000 + fraction
            found = Captured(
                len(self.packets), at_ns, number, name, _TYPES.get(packet_type, "in"),
                len(data), data, device in _ETHERNET_DEVICES,
            )  # fmt: skip
            if not self._wanted(found.packet):
                continue
            self.packets.append(found)
            self._bytes += len(data)
            if len(self.packets) >= self._packets_max or self._bytes >= self._bytes_max:
                self.stop(f"it holds {len(self.packets)} packets")
                return

    def stop(self, why: str = "it was stopped") -> None:
        """End the recording; what was seen stays."""
        if self.ended_ns:
            return
        self.ended_ns, self.why_ended = time.time_ns(), why
        self._timer.cancel()
        for number, handle in enumerate(self._sockets):
            self._loop.remove_reader(handle.fileno())
            # What waits in the queue has happened before the end.
            if len(self.packets) < self._packets_max:
                self._readable(number, handle)
            with contextlib.suppress(OSError):
                counts = handle.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
                self.dropped += struct.unpack("=II", counts)[1]
            handle.close()
        self._sockets.clear()

    def ordered(self) -> list[Captured]:
        """Packets by time; those of one instant in the order in which they were seen."""
        return sorted(self.packets, key=lambda found: (found.at_ns, found.number))

    def where(self, found: Captured) -> str:
        """The interface in words."""
        place = self.places[found.place]
        return place.interfaces.get(found.interface) or f"{found.interface} of {place.name}"

    def describe(self) -> dict[str, Any]:
        """The recording without its packets."""
        return {
            "id": self.id,
            "target": self.target,
            "filter": self.filter_text,
            "running": self.is_running,
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "why_ended": self.why_ended,
            "packets": len(self.packets),
            "bytes": self._bytes,
            "dropped": self.dropped,
            "places": [
                {"kind": place.kind, "name": place.name, "interfaces": place.interfaces}
                for place in self.places
            ],
        }

    def rows(self, after: int = -1) -> list[dict[str, Any]]:
        """Packets from number `after` + 1 on, decoded."""
        return [
            {
                "n": found.number,
                "at_ns": found.at_ns,
                "place": found.place,
                "interface": found.interface,
                "where": self.where(found),
                "direction": found.direction,
                "length": found.length,
                **found.packet.to_json(),
            }
            for found in self.packets
            if found.number > after
        ]

    def pcap(self, places: Sequence[int] = ()) -> Iterator[bytes]:
        """The recording as a file, of these places or of all."""
        return write_pcap(
            (found.at_ns, found.length, found.data)
            for found in self.ordered()
            if found.is_ethernet and (not places or found.place in places)
        )

"""Writing packets so that tcpdump and Wireshark open them (pcap with nanoseconds). Pure.

The format: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

__all__ = ["ETHERNET", "write_pcap"]

ETHERNET = 1
_MAGIC_NANOSECONDS = 0xA1B23C4D
SNAP_BYTES = 65535


def write_pcap(
    packets: Iterable[tuple[int, int, bytes]], *, link_type: int = ETHERNET
) -> Iterator[bytes]:
    """The file in pieces. A packet is (Unix nanoseconds, its length on the wire, its bytes)."""
    yield struct.pack("=IHHiIII", _MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAP_BYTES, link_type)
    for at_ns, length, data in packets:
        seconds, fraction = divmod(at_ns, 1_000_000_000)
        yield struct.pack("=IIII", seconds, fraction, len(data), length) + data

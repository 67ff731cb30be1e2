"""Delaying what leaves an interface for some addresses (tc-prio(8), tc-netem(8), tc-u32(8)).

The root queue has a band for all that is not delayed and one more for each delayed address; a
filter on the destination picks the band. Numbers are those of linux/pkt_sched.h, pkt_cls.h.
"""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Mapping

from labkit.base.errors import InvalidParameter
from labkit.host.network.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    attribute,
    nested,
)

__all__ = ["DELAYED_MAX", "messages"]

RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER = 36, 37, 44
_ROOT = 0xFFFFFFFF
_HANDLE = 1 << 16
_BANDS_MAX = 16
DELAYED_MAX = _BANDS_MAX - 1
_TCMSG = struct.Struct("=BBHiIII")
_QUEUE_PACKETS = 1000
_LATENCY64 = 10
_U32_CLASSID, _U32_SEL, _U32_TERMINAL = 1, 5, 1
_ETH_P_IP = 0x0800
_DESTINATION_OFFSET = 16


def _head(index: int, handle: int, parent: int, info: int = 0) -> bytes:
    return _TCMSG.pack(0, 0, 0, index, handle, parent, info)


def messages(index: int, delays: Mapping[ipaddress.IPv4Address, float]) -> list[Message]:
    """What makes interface `index` delay packets to these addresses by so many milliseconds, in
    place of what it delayed before. Raises InvalidParameter for more than DELAYED_MAX."""
    if len(delays) > DELAYED_MAX:
        raise InvalidParameter(f"packets to {len(delays)} peers: at most {DELAYED_MAX} are delayed")
    gone = (errno.ENOENT, errno.EINVAL)
    found = [Message(RTM_DELQDISC, 0, _head(index, 0, _ROOT), "remove the queues", gone)]
    if not delays:
        return found
    flags = NLM_F_CREATE | NLM_F_EXCL
    bands = struct.pack("=i16s", len(delays) + 1, bytes(16))
    body = _head(index, _HANDLE, _ROOT) + attribute(1, "prio") + attribute(2, bands)
    found.append(Message(RTM_NEWQDISC, flags, body, "make a queue of bands (prio)"))
    for band, (address, delay_ms) in enumerate(sorted(delays.items()), 2):
        options = struct.pack("=6I", 0, _QUEUE_PACKETS, 0, 0, 0, 0)
        options += attribute(_LATENCY64, struct.pack("=q", int(delay_ms * 1e6)))
        body = _head(index, (band << 4) << 16, _HANDLE | band)
        body += attribute(1, "netem") + attribute(2, options)
        found.append(Message(RTM_NEWQDISC, flags, body, "make a delaying queue (netem)"))
        found.append(_filter(index, band, address))
    return found


def _filter(index: int, band: int, address: ipaddress.IPv4Address) -> Message:
    key = b"\xff\xff\xff\xff" + address.packed + struct.pack("=ii", _DESTINATION_OFFSET, 0)
    selector = struct.pack("=BBBxHHhhI", _U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + key
    info = (band << 16) | struct.unpack("=H", struct.pack("!H", _ETH_P_IP))[0]
    body = _head(index, 0, _HANDLE, info) + attribute(1, "u32")
    body += nested(2, attribute(_U32_CLASSID, _HANDLE | band), attribute(_U32_SEL, selector))
    flags = NLM_F_CREATE | NLM_F_EXCL
    return Message(RTM_NEWTFILTER, flags, body, f"send packets to {address} to the queue")

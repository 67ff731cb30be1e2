"""What an image is to the rest of the host, and small readers of its JSON."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import InvalidParameter

__all__ = ["Image", "check_config", "format_time", "parse_time"]

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?([Zz]|[+-]\d\d:\d\d)\Z"
)


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `config` is the whole OCI image configuration document (config.md)."""

    id: str
    config: Mapping[str, Any]
    repo_tags: tuple[str, ...]
    """Familiar names with tags: `alpine:latest`."""
    repo_digests: tuple[str, ...]
    created_ns: int
    size: int
    """Bytes of content in all layers."""
    diff_ids: tuple[str, ...]
    """Bottom first."""
    parent: str = ""
    origin: str = ""
    """`stand-in`, a registry's name, `build`, `load` …"""
    last_tag_ns: int = 0

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The part that containers inherit: Env, Cmd, Entrypoint, User, WorkingDir, Labels …"""
        value = self.config.get("config")
        return value if isinstance(value, Mapping) else {}

    @property
    def labels(self) -> Mapping[str, str]:
        value = self.defaults.get("Labels")
        return value if isinstance(value, Mapping) else {}

    @property
    def is_dangling(self) -> bool:
        """Whether no tag names it."""
        return not self.repo_tags


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time. Raises InvalidParameter."""
    match = _TIME.match(text)
    if match is None:
        raise InvalidParameter(f"parsing time {text!r}: not in RFC 3339 form")
    year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        raise InvalidParameter(f"parsing time {text!r}: out of range")
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone not in ("Z", "z"):
        sign = -1 if zone[0] == "+" else 1
        seconds += sign * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
    fraction = int(((match[7] or "") + "0" * 9)[:9])
    return seconds * 1_000_000_000 + fraction


def format_time(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, as Go prints it: trailing zeros dropped, `Z`."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def check_config(document: Any) -> list[str]:
    """The diff-ids of an image configuration. Raises InvalidParameter when it is not one."""
    if not isinstance(document, Mapping):
        raise InvalidParameter("invalid image config: not a JSON object")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list) or not all(
        isinstance(item, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in diff_ids
    ):
        raise InvalidParameter("invalid image config: rootfs.diff_ids is not a list of digests")
    if len(diff_ids) > 127:
        raise InvalidParameter(f"max depth exceeded: {len(diff_ids)} layers, 127 can be stacked")
    for key, kind in (("config", Mapping), ("history", list)):
        value = document.get(key)
        if value is not None and not isinstance(value, kind):
            raise InvalidParameter(f"invalid image config: {key} is not of its type")
    return list(diff_ids)

"""`logs`: what a container wrote."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

from labkit.base.errors import CommandError, InvalidParameter
from labkit.base.quantities import parse_duration_ns

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["logs", "timestamp"]

_SHAPES = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H",
    "%Y-%m-%d",
)


def timestamp(text: str, *, flag: str = "") -> str | None:
    """A point in time as the API wants it (seconds since the epoch, with a fraction or without).

    Accepts `10m` (that long ago), RFC 3339, dates, and numbers; raises CommandError.
    """
    if not text:
        return None
    try:
        ago_ns = parse_duration_ns(text)
    except InvalidParameter:
        pass
    else:
        return str((time.time_ns() - ago_ns) // 1_000_000_000)
    if re.fullmatch(r"\d+(?:\.\d{1,9})?", text):
        return text
    moment = _parse_moment(text)
    if moment is None:
        where = f'invalid value for "{flag}": ' if flag else ""
        raise CommandError(f'{where}failed to parse value as time or duration: "{text}"')
    return f"{int(moment.timestamp())}.{_fraction(text):0<9}"


def _fraction(text: str) -> str:
    match = re.search(r":\d\d\.(\d{1,9})", text)
    return match.group(1) if match else ""


def _parse_moment(text: str) -> datetime | None:
    body, zone = text, ""
    match = re.search(r"(Z|[+-]\d\d:\d\d)\Z", text)
    if match and "T" in text:
        body, zone = text[: match.start()], match.group(1).replace("Z", "+00:00")
    body = re.sub(r"\.\d{1,9}\Z", "", body)
    for shape in _SHAPES:
        try:
            moment = datetime.strptime(body, shape)  # noqa: DTZ007 - the zone follows
        except ValueError:
            continue
        if zone:
            return datetime.fromisoformat(moment.isoformat() + zone)
        return moment.astimezone()
    return None


def logs(call: Call) -> None:
    """Show a container's log, and go on with it under --follow."""
    flags = call.flags
    found = call.client.request("GET", f"/containers/{call.args[0]}/json").json()
    query = {
        "stdout": True,
        "stderr": True,
        "follow": flags["follow"],
        "timestamps": flags["timestamps"],
        "details": flags["details"],
        "since": timestamp(flags["since"], flag="since"),
        "until": timestamp(flags["until"], flag="until"),
        "tail": flags["tail"],
    }
    with call.client.open("GET", f"/containers/{found['Id']}/logs", query=query) as answer:
        if (found.get("Config") or {}).get("Tty"):
            for data in answer.chunks():
                call.surface.out_bytes(data)
            return
        for kind, data in answer.frames():
            if kind == 3:
                text = data.decode(errors="replace")
                raise CommandError(f"error from daemon in stream: {text}")
            (call.surface.err_bytes if kind == 2 else call.surface.out_bytes)(data)

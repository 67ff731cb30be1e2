"""How the JSON progress lines of pull, push, import and load are written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.base.quantities import format_size

if TYPE_CHECKING:
    from labkit.notebook.commands.surface import Surface

__all__ = ["bar", "plain_line", "show_progress"]

_BAR_CELLS = 50


def plain_line(message: Mapping[str, Any]) -> str:
    """One message as the client writes it where stdout is no terminal; "" for a mere bar."""
    if "stream" in message:
        return str(message["stream"])
    if message.get("progressDetail") and message.get("progress") is not None:
        return ""
    detail = message.get("progressDetail") or {}
    if detail.get("current") or detail.get("total"):
        return ""
    if "status" not in message:
        return ""
    identity = f"{message['id']}: " if message.get("id") else ""
    return f"{identity}{message['status']}\n"


def bar(detail: Mapping[str, Any], columns: int) -> str:
    """`[====>      ]  1.2MB/3.4MB` for a terminal of that width."""
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{format_size(current):>8}"
    filled = min(_BAR_CELLS, int(current / total * _BAR_CELLS + 0.5) if current <= total else 50)
    arrow = ">" if filled < _BAR_CELLS else ""
    blank = max(0, _BAR_CELLS - filled - len(arrow))
    numbers = f"{format_size(current):>8}/{format_size(total)}"
    if current > total:
        numbers = f"{format_size(current):>8}"
    if columns <= 110:
        return numbers
    return f"[{'=' * filled}{arrow}{' ' * blank}] {numbers}"


def show_progress(
    messages: Iterable[Mapping[str, Any]],
    surface: Surface,
    *,
    to_stderr: bool = False,
    quiet: bool = False,
) -> Mapping[str, Any]:
    """Hand every message to the surface; returns the last `aux` object ({} if none).

    Messages that belong to stderr carry `"stderr": True`. Raises CommandError for an error inside
    the stream, with the client's text.
    """
    aux: Mapping[str, Any] = {}
    for message in messages:
        if message.get("errorDetail") or message.get("error"):
            detail = message.get("errorDetail") or {}
            text = detail.get("message") or message.get("error") or "unknown error"
            raise CommandError(str(text), int(detail.get("code") or 1), hint=message.get("hint"))
        if message.get("aux") is not None and "status" not in message:
            aux = message["aux"]
            continue
        if not quiet:
            surface.progress({**message, "stderr": True} if to_stderr else message)
    return aux

"""`events`: what happens in the engine, as it happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.logs import timestamp
from labkit.notebook.commands.formatting import filters_of
from labkit.notebook.commands.gotemplate import (
    GoMap,
    Template,
    TemplateError,
    TemplateSyntaxError,
    go_json,
    parse,
    render,
)

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["events"]


def _moment(nanoseconds: int) -> str:
    """RFC 3339 with nine digits, in the local zone."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{zone}"


def _line(event: Mapping[str, Any]) -> str:
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 1_000_000_000
    line = f"{_moment(nanoseconds)} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    if attributes:
        line += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return line


def _fields(event: Mapping[str, Any]) -> dict[str, Any]:
    actor = event.get("Actor") or {}
    return {
        "Status": event.get("status", ""),
        "ID": event.get("id", ""),
        "From": event.get("from", ""),
        "Type": event.get("Type", ""),
        "Action": event.get("Action", ""),
        "Actor": {
            "ID": actor.get("ID", ""),
            "Attributes": GoMap(actor.get("Attributes") or {}),
        },
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
    }


def _sorted_attributes(event: dict[str, Any]) -> dict[str, Any]:
    actor = dict(event.get("Actor") or {})
    actor["Attributes"] = dict(sorted((actor.get("Attributes") or {}).items()))
    return {**event, "Actor": actor}


def _template(text: str) -> Template:
    """Read and try the template before anything is asked of the engine."""
    try:
        parsed = parse(text)
    except TemplateSyntaxError as error:
        raise CommandError(f"Error parsing format: {error}", 64) from None
    _render(parsed, {})
    return parsed


def _render(parsed: Template, event: Mapping[str, Any]) -> str:
    try:
        return render(parsed, _fields(event), type_name="*events.Message")
    except TemplateError as error:
        raise CommandError(f"Error parsing format: {error}", 64) from None


def events(call: Call) -> int:
    """Print events until the engine closes, or until --until."""
    flags = call.flags
    template = flags["format"]
    is_json = template in ("json", "{{json .}}")
    parsed = _template(template) if template and not is_json else None
    query = {
        "since": timestamp(flags["since"]),
        "until": timestamp(flags["until"]),
        "filters": filters_of(flags["filter"]),
    }
    for event in call.client.stream("GET", "/events", query=query):
        if is_json:
            line = go_json(_sorted_attributes(event))
        elif parsed is not None:
            line = _render(parsed, event)
        else:
            line = _line(event)
        call.surface.out(f"{line}\n")
    return 0

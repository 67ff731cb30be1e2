"""`system df`: what takes space, and what of it could be freed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.base.ids import short_id
from labkit.base.quantities import format_size
from labkit.notebook.commands.docker.rows import (
    CONTAINERS,
    IMAGES,
    VOLUMES,
    ago,
    container_row,
    image_rows,
    rfc_to_go,
    volume_row,
)
from labkit.notebook.commands.formatting import (
    View,
    check_format,
    escape_markup,
    format_text,
    listing,
    show,
)
from labkit.notebook.commands.gotemplate import TemplateError, go_json, render

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["disk_usage"]

_SUMMARY = View(
    type_name="*formatter.diskUsageContext",
    headings={
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    table="{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
)
_IMAGES = replace(
    IMAGES,
    table="{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t"
    "{{.UniqueSize}}\t{{.Containers}}",
)
_CONTAINERS = replace(
    CONTAINERS,
    table="{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t"
    "{{.Status}}\t{{.Names}}",
)
_VOLUMES = replace(VOLUMES, table="{{.Name}}\t{{.Links}}\t{{.Size}}")
_CACHE = View(
    type_name="*formatter.buildCacheContext",
    headings={
        "ID": "CACHE ID",
        "CacheType": "CACHE TYPE",
        "Size": "SIZE",
        "CreatedSince": "CREATED",
        "LastUsedSince": "LAST USED",
        "UsageCount": "USAGE",
        "Shared": "SHARED",
    },
    table="{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t"
    "{{.UsageCount}}\t{{.Shared}}",
)
_ACTIVE_STATES = ("running", "paused", "restarting")


def _summary_row(
    kind: str, total: int, active: int, size: int, free: int, part: bool
) -> dict[str, str]:
    reclaimable = format_size(free)
    if part and size > 0:
        reclaimable += f" ({free * 100 // size}%)"
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": format_size(size),
        "Reclaimable": reclaimable,
    }


def _usage(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    return volume.get("UsageData") or {"RefCount": 0, "Size": 0}


def _summary(usage: Mapping[str, Any]) -> list[dict[str, str]]:
    images = usage.get("Images") or []
    layers = int(usage.get("LayersSize") or 0)
    used = sum(
        int(image["Size"]) - int(image["SharedSize"])
        for image in images
        if image.get("Containers", 0) > 0 and image["Size"] != -1 and image["SharedSize"] != -1
    )
    containers = usage.get("Containers") or []
    active = [c for c in containers if c.get("State") in _ACTIVE_STATES]
    size = sum(c.get("SizeRw") or 0 for c in containers)
    volumes = usage.get("Volumes") or []
    volume_size = sum(_usage(v)["Size"] for v in volumes if _usage(v)["Size"] != -1)
    # -1 is a size that nobody has measured
    free = sum(max(0, _usage(v)["Size"]) for v in volumes if _usage(v)["RefCount"] == 0)
    cache = usage.get("BuildCache") or []
    cache_size = sum(item["Size"] for item in cache)
    cache_free = sum(
        item["Size"] for item in cache if not item.get("InUse") and not item.get("Shared")
    )
    in_use = sum(1 for image in images if image.get("Containers", 0) > 0)
    return [
        _summary_row("Images", len(images), in_use, layers, layers - used, True),
        _summary_row(
            "Containers",
            len(containers),
            len(active),
            size,
            size - sum(c.get("SizeRw") or 0 for c in active),
            True,
        ),
        _summary_row(
            "Local Volumes",
            len(volumes),
            sum(1 for v in volumes if _usage(v)["RefCount"] > 0),
            volume_size,
            free,
            True,
        ),
        _summary_row(
            "Build Cache",
            len(cache),
            sum(1 for item in cache if item.get("InUse")),
            cache_size,
            cache_free,
            False,
        ),
    ]


def _at(text: str | None) -> str:
    return rfc_to_go(text) if text else ""


def _cache_row(item: Mapping[str, Any], truncate: bool) -> dict[str, Any]:
    from datetime import datetime

    def since(text: str | None) -> str:
        return ago(datetime.fromisoformat(text).timestamp()) if text else ""

    return {
        "ID": short_id(item["ID"]) if truncate else item["ID"],
        "Parent": ",".join(item.get("Parents") or ()),
        "Description": item.get("Description", ""),
        "CreatedAt": _at(item.get("CreatedAt")),
        "LastUsedAt": _at(item.get("LastUsedAt")),
        "InUse": "true" if item.get("InUse") else "false",
        "CacheType": item.get("Type", ""),
        "Size": format_size(item["Size"]),
        "CreatedSince": since(item.get("CreatedAt")),
        "LastUsedSince": since(item.get("LastUsedAt")),
        "UsageCount": str(item.get("UsageCount", 0)),
        "Shared": "true" if item.get("Shared") else "false",
    }


def _rows(usage: Mapping[str, Any], truncate: bool) -> dict[str, list[dict[str, Any]]]:
    containers = [{**c, "SizeRootFs": 0} for c in usage.get("Containers") or ()]
    return {
        "Images": [
            row
            for image in usage.get("Images") or ()
            for row in image_rows(image, truncate=truncate)[:1]  # one name is enough here
        ],
        "Containers": [container_row(c, truncate=truncate) for c in containers],
        "Volumes": [volume_row(v) for v in usage.get("Volumes") or ()],
        "BuildCache": [_cache_row(item, truncate) for item in usage.get("BuildCache") or ()],
    }


def disk_usage(call: Call) -> None:
    """Show disk usage."""
    flags = call.flags
    usage = call.client.request("GET", "/system/df").json()
    if not flags["verbose"]:
        show(call.surface, _SUMMARY, _summary(usage), flags["format"])
        return
    if flags["format"] == "json":
        rows = _rows(usage, truncate=False)
        for row in rows["Images"]:
            row["Digest"] = ""
        plain = {kind: _plain(found) for kind, found in rows.items()}
        call.surface.out(escape_markup(go_json(plain)))  # without a newline, as the client has it
        return
    if flags["format"] not in ("", "table"):
        _evaluate(call, usage)
        return
    rows = _rows(usage, truncate=True)
    cache_size = sum(item["Size"] for item in usage.get("BuildCache") or ())
    for title, view, kind in (
        ("Images space usage:\n", _IMAGES, "Images"),
        ("\nContainers space usage:\n", _CONTAINERS, "Containers"),
        ("\nLocal Volumes space usage:\n", _VOLUMES, "Volumes"),
        (f"\nBuild cache usage: {format_size(cache_size)}\n", _CACHE, "BuildCache"),
    ):
        call.surface.out(f"{title}\n")
        call.surface.out(listing(view, rows[kind]).text)


def _evaluate(call: Call, usage: Mapping[str, Any]) -> None:
    """A template on all rows at once; the client adds no newline."""
    text, _ = format_text(_SUMMARY, call.flags["format"])
    try:
        rows = _rows(usage, truncate=True)
        call.surface.out(render(check_format(text), rows, type_name=_SUMMARY.type_name))
    except TemplateError as error:
        raise CommandError(str(error)) from None


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in sorted(row) if not callable(row[key])} for row in rows]

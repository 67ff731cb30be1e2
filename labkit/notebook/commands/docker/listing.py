"""`ps`, `images`, `network ls`, `volume ls`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.rows import (
    CONTAINERS,
    IMAGES,
    IMAGES_DIGESTS,
    NETWORKS,
    VOLUMES,
    container_row,
    image_rows,
    network_row,
    volume_row,
)
from labkit.notebook.commands.formatting import check_fields, check_format, filters_of, show
from labkit.notebook.commands.tree import Call
from labkit.notebook.endpoint import load_config

__all__ = ["containers", "images", "natural", "networks", "volumes"]


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sorting key under which `web10` follows `web9`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", text)
        if part
    ]


def _template(call: Call, configured: str) -> str:
    """What --format says, or else the user's configuration of Docker's client."""
    if call.flags["format"]:
        return str(call.flags["format"])
    return "" if call.flags.get("quiet") else str(load_config().get(configured) or "")


def _mentions_size(template: str) -> bool:
    """Whether the template shows a container's size, which the engine has to add up first."""
    return re.search(r"\.Size\b|json\s+\.\s*[}|)]", template) is not None


def containers(call: Call) -> None:
    """List containers."""
    flags = call.flags
    template = _template(call, "psFormat")
    limit = flags["last"]
    if flags["latest"]:
        limit = 1
    wants_size = bool(flags["size"])
    problem = "failed to parse template"
    if template not in ("", "table", "json", "raw"):
        check_format(template, problem)
    if flags["quiet"] and flags["format"]:
        call.surface.err(
            "WARNING: Ignoring custom format, because both --format and --quiet are set.\n"
        )
    else:
        check_fields(CONTAINERS, template, problem)
        wants_size = wants_size or _mentions_size(template)
    query = {
        "all": flags["all"],
        "limit": limit if limit > 0 else None,
        "size": wants_size,
        "filters": filters_of(flags["filter"]),
    }
    found = call.client.request("GET", "/containers/json", query=query).json() or []
    view = CONTAINERS
    if flags["size"]:
        view = replace(view, table=view.table + "\t{{.Size}}", raw=view.raw + "size: {{.Size}}\n")
    rows = [container_row(row, truncate=not flags["no-trunc"]) for row in found]
    show(call.surface, view, rows, template, quiet=flags["quiet"])


def images(call: Call) -> None:
    """List images."""
    flags = call.flags
    if flags.get("tree"):
        raise CommandError("--tree needs an engine with a containerd image store")
    values = list(flags["filter"])
    if call.args:
        values.append(f"reference={call.args[0]}")
    query: dict[str, Any] = {"all": flags["all"], "filters": filters_of(values)}
    found = call.client.request("GET", "/images/json", query=query).json() or []
    template = _template(call, "imagesFormat")
    digests = bool(flags["digests"])
    asks_digest = digests or ".Digest" in template
    rows = [
        row
        for image in found
        for row in image_rows(image, truncate=not flags["no-trunc"], digests=asks_digest)
    ]
    view = IMAGES_DIGESTS if digests and not flags["quiet"] else IMAGES
    show(call.surface, view, rows, template, quiet=flags["quiet"])


def networks(call: Call) -> None:
    """List networks."""
    query = {"filters": filters_of(call.flags["filter"])}
    found = call.client.request("GET", "/networks", query=query).json() or []
    found.sort(key=lambda network: natural(network["Name"]))
    rows = [network_row(row, truncate=not call.flags["no-trunc"]) for row in found]
    template = _template(call, "networksFormat")
    show(call.surface, NETWORKS, rows, template, quiet=call.flags["quiet"])


def volumes(call: Call) -> None:
    """List volumes."""
    query = {"filters": filters_of(call.flags["filter"])}
    answer = call.client.request("GET", "/volumes", query=query).json() or {}
    found = answer.get("Volumes") or []
    found.sort(key=lambda volume: natural(volume["Name"]))
    template = _template(call, "volumesFormat")
    show(
        call.surface,
        VOLUMES,
        [volume_row(row) for row in found],
        template,
        quiet=call.flags["quiet"],
    )

"""`pull`, `push`, `rmi`, `tag`, `history`, `search`, `commit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.base.ids import short_id
from labkit.base.quantities import format_size
from labkit.notebook.commands.docker.config_file import auth_header
from labkit.notebook.commands.docker.reference import ImageName, parse_image_name
from labkit.notebook.commands.docker.rows import ago
from labkit.notebook.commands.formatting import View, ellipsis, filters_of, show
from labkit.notebook.commands.progress import show_progress

if TYPE_CHECKING:
    from labkit.notebook.client import Client
    from labkit.notebook.commands.surface import Surface
    from labkit.notebook.commands.tree import Call

__all__ = ["commit", "history", "pull", "pull_image", "push", "remove", "search", "tag"]

_HISTORY = View(
    type_name="*image.historyContext",
    headings={
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    },
    table="{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
)
_SEARCH = View(
    type_name="*formatter.searchContext",
    headings={
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "StarCount": "STARS",
        "IsOfficial": "OFFICIAL",
        "IsAutomated": "AUTOMATED",
    },
    table="{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
)


def pull_image(
    client: Client,
    surface: Surface,
    name: ImageName,
    *,
    platform: str = "",
    quiet: bool = False,
    all_tags: bool = False,
    to_stderr: bool = False,
) -> None:
    """Ask the engine for an image and show its progress."""
    tag = name.digest or ("" if all_tags else name.tag or "latest")
    query = {
        "fromImage": name.canonical,
        "tag": tag or None,
        "platform": platform or None,
    }
    messages: Iterable[Mapping[str, Any]] = client.stream(
        "POST", "/images/create", query=query, headers=auth_header(name.domain)
    )
    show_progress(messages, surface, to_stderr=to_stderr, quiet=quiet)


def pull(call: Call) -> None:
    """Download an image."""
    flags = call.flags
    name = parse_image_name(call.args[0])
    if flags["all-tags"] and (name.tag or name.digest):
        raise CommandError("tag can't be used with --all-tags/-a")
    if not flags["all-tags"] and not name.tag and not name.digest and not flags["quiet"]:
        call.surface.out("Using default tag: latest\n")
    pull_image(
        call.client,
        call.surface,
        name,
        platform=flags["platform"],
        quiet=flags["quiet"],
        all_tags=flags["all-tags"],
    )
    shown = name.shown() if not flags["all-tags"] else name.familiar
    call.surface.out(f"{name.domain}/{name.path}{_suffix(name, shown)}\n")


def _suffix(name: ImageName, shown: str) -> str:
    return shown[len(name.familiar) :]


def push(call: Call) -> None:
    """Upload an image."""
    name = parse_image_name(call.args[0])
    if call.flags["all-tags"] and name.tag:
        raise CommandError("tag can't be used with --all-tags/-a")
    tag_name = None if call.flags["all-tags"] else name.tag or "latest"
    if tag_name and not name.tag and not call.flags["quiet"]:
        call.surface.out("Using default tag: latest\n")
    messages = call.client.stream(
        "POST",
        f"/images/{name.canonical}/push",
        query={"tag": tag_name},
        headers=auth_header(name.domain),
    )
    show_progress(messages, call.surface, quiet=call.flags["quiet"])
    if call.flags["quiet"]:
        call.surface.out(f"{name.canonical}:{tag_name}\n" if tag_name else f"{name.canonical}\n")


def remove(call: Call) -> int:
    """Remove images."""
    query = {"force": call.flags["force"], "noprune": call.flags["no-prune"]}
    failed = 0
    for name in call.args:
        try:
            deleted = call.client.request("DELETE", f"/images/{name}", query=query).json() or []
        except LabkitError as error:
            not_found = getattr(error, "status", 0) == 404
            if not (not_found and call.flags["force"]):
                failed = 1
            call.surface.err(getattr(error, "sentence", error.message) + "\n")
            continue
        for item in deleted:
            if item.get("Deleted"):
                call.surface.out(f"Deleted: {item['Deleted']}\n")
            else:
                call.surface.out(f"Untagged: {item['Untagged']}\n")
    return failed


def tag(call: Call) -> None:
    """Give an image another name."""
    source, target = call.args
    name = _target_name(target)
    call.client.request(
        "POST",
        f"/images/{source}/tag",
        query={"repo": name.canonical, "tag": name.tag or "latest"},
    )


def _target_name(text: str) -> ImageName:
    try:
        return parse_image_name(text)
    except CommandError as error:
        raise CommandError(
            f'Error parsing reference: "{text}" is not a valid repository/tag: {error.message}'
        ) from None


def history(call: Call) -> None:
    """The steps an image was made of."""
    import time

    flags = call.flags
    steps = call.client.request("GET", f"/images/{call.args[0]}/history").json() or []
    human = flags["human"]
    truncate = not flags["no-trunc"]
    rows = []
    for step in steps:
        command = (step.get("CreatedBy") or "").replace("\t", " ")
        created = step.get("Created") or 0
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(created))
        stamp = stamp[:-5] + ("Z" if stamp.endswith("+0000") else f"{stamp[-5:-2]}:{stamp[-2:]}")
        identifier = step.get("Id") or "<missing>"
        rows.append(
            {
                "ID": short_id(identifier)
                if truncate and identifier != "<missing>"
                else identifier,
                "CreatedSince": ago(created) if human else stamp,
                "CreatedAt": stamp,
                "CreatedBy": ellipsis(command, 45) if truncate else command,
                "Size": format_size(step.get("Size") or 0, digits=3)
                if human
                else str(step.get("Size") or 0),
                "Comment": step.get("Comment") or "",
            }
        )
    view = _HISTORY if human else replace(_HISTORY, table=_HISTORY.table.replace("Since", "At"))
    show(call.surface, view, rows, flags["format"], quiet=flags["quiet"])


def search(call: Call) -> None:
    """Search the registry."""
    flags = call.flags
    query = {
        "term": call.args[0],
        "limit": flags["limit"] or None,
        "filters": filters_of(flags["filter"]),
    }
    found = call.client.request("GET", "/images/search", query=query).json() or []
    rows = []
    for item in found:
        text = (item.get("description") or "").replace("\n", " ").replace("\r", " ")
        rows.append(
            {
                "Name": item["name"],
                "Description": text if flags["no-trunc"] else ellipsis(text, 45),
                "StarCount": str(item.get("star_count") or 0),
                "IsOfficial": "[OK]" if item.get("is_official") else "",
                "IsAutomated": "[OK]" if item.get("is_automated") else "",
            }
        )
    show(call.surface, _SEARCH, rows, flags["format"])


def commit(call: Call) -> None:
    """Make an image from a container."""
    flags = call.flags
    query: dict[str, Any] = {
        "container": call.args[0],
        "comment": flags["message"],
        "author": flags["author"],
        "changes": flags["change"] or None,
        "repo": "",
        "tag": "",
    }
    if len(call.args) > 1:
        name = parse_image_name(call.args[1])
        query |= {"repo": name.canonical, "tag": name.tag or "latest"}
    if not flags["pause"]:
        query["pause"] = "0"
    answer = call.client.request("POST", "/commit", query=query).json()
    call.surface.out(f"{answer['Id']}\n")

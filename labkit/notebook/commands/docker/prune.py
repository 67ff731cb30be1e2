"""`prune` in all its forms: a warning, a question, and what was removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.base.quantities import format_size
from labkit.notebook.commands.formatting import filters_of

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["containers", "images", "networks", "system", "volumes"]

_QUESTION = "Are you sure you want to continue? [y/N] "


def _agreed(call: Call, warning: str) -> bool:
    if call.flags["force"]:
        return True
    call.surface.out(f"{warning}\n")
    return call.surface.ask(_QUESTION, flag="--force").strip().lower() == "y"


def _filters(call: Call, **more: str) -> dict[str, dict[str, bool]] | None:
    filters = filters_of(call.flags["filter"]) or {}
    for name, value in more.items():
        filters.setdefault(name, {})[value] = True
    return filters or None


def _post(call: Call, path: str, query: Mapping[str, Any]) -> dict[str, Any]:
    return call.client.request("POST", path, query=query).json() or {}


def _prune_containers(call: Call) -> tuple[str, int]:
    found = _post(call, "/containers/prune", {"filters": _filters(call)})
    return _listing("Deleted Containers:", found.get("ContainersDeleted") or ()), _space(found)


def _prune_networks(call: Call) -> tuple[str, int]:
    found = _post(call, "/networks/prune", {"filters": _filters(call)})
    return _listing("Deleted Networks:", found.get("NetworksDeleted") or ()), 0


def _prune_volumes(call: Call, *, named_too: bool) -> tuple[str, int]:
    filters = _filters(call, all="true") if named_too else _filters(call)
    found = _post(call, "/volumes/prune", {"filters": filters})
    return _listing("Deleted Volumes:", found.get("VolumesDeleted") or ()), _space(found)


def _prune_images(call: Call, *, tagged_too: bool) -> tuple[str, int]:
    filters = _filters(call, dangling="false" if tagged_too else "true")
    found = _post(call, "/images/prune", {"filters": filters})
    lines = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
        for item in found.get("ImagesDeleted") or ()
    ]
    return _listing("Deleted Images:", lines), _space(found)


def _prune_cache(call: Call, *, everything: bool) -> tuple[str, int]:
    query: dict[str, Any] = {"all": everything, "filters": _filters(call) or ""}
    found = _post(call, "/build/prune", query)
    return _listing("Deleted build cache objects:", found.get("CachesDeleted") or ()), _space(found)


def _space(found: Mapping[str, Any]) -> int:
    return int(found.get("SpaceReclaimed") or 0)


def _listing(title: str, names: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in (title, *names)) if names else ""


def _report(call: Call, text: str, space: int) -> None:
    if text:
        call.surface.out(f"{text}\n")
    call.surface.out(f"Total reclaimed space: {format_size(space)}\n")


def containers(call: Call) -> None:
    """Remove stopped containers."""
    if _agreed(call, "WARNING! This will remove all stopped containers."):
        _report(call, *_prune_containers(call))


def images(call: Call) -> None:
    """Remove unused images."""
    everything = call.flags["all"]
    kind = "images without at least one container associated to them"
    warning = f"WARNING! This will remove all {kind if everything else 'dangling images'}."
    if _agreed(call, warning):
        _report(call, *_prune_images(call, tagged_too=everything))


def volumes(call: Call) -> None:
    """Remove unused volumes."""
    everything = call.flags["all"]
    version = call.client.api_version
    # Before 1.42 an engine prunes named volumes too, and knows no flag that says so.
    is_old = tuple(map(int, version.split("."))) < (1, 42)
    if everything and is_old:
        raise CommandError(
            f'"--all" requires API version 1.42, but the Docker daemon API version is {version}'
        )
    if everything and any(value.startswith("all=") for value in call.flags["filter"]):
        raise CommandError("conflicting options: cannot specify both --all and --filter all=1")
    kind = "all local volumes" if everything or is_old else "anonymous local volumes"
    warning = f"WARNING! This will remove {kind} not used by at least one container."
    if _agreed(call, warning):
        _report(call, *_prune_volumes(call, named_too=everything))


def networks(call: Call) -> None:
    """Remove unused networks."""
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if _agreed(call, warning):
        text, _ = _prune_networks(call)
        if text:
            call.surface.out(f"{text}\n")


def system(call: Call) -> None:
    """Remove everything that is unused."""
    everything, with_volumes = call.flags["all"], call.flags["volumes"]
    if with_volumes and any(value.startswith("until=") for value in call.flags["filter"]):
        raise CommandError('ERROR: The "until" filter is not supported with "--volumes"')
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        lines.append("all anonymous volumes not used by at least one container")
    if everything:
        lines += ["all images without at least one container associated to them", "all build cache"]
    else:
        lines += ["all dangling images", "unused build cache"]
    warning = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    if call.flags["filter"]:
        warning += "\n  Items to be pruned will be filtered with:\n"
        warning += "".join(f"  - {value}\n" for value in sorted(call.flags["filter"]))
    if not _agreed(call, warning):
        return
    steps = [_prune_containers(call), _prune_networks(call)]
    if with_volumes:
        steps.append(_prune_volumes(call, named_too=False))
    steps.append(_prune_images(call, tagged_too=everything))
    steps.append(_prune_cache(call, everything=everything))
    for text, _ in steps:
        if text:
            call.surface.out(f"{text}\n")
    call.surface.out(f"Total reclaimed space: {format_size(sum(space for _, space in steps))}\n")

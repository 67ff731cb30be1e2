"""`inspect` in its forms: raw JSON of the API, or a template evaluated on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.apierrors import ConnectFailed
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

__all__ = ["anything", "containers", "images", "networks", "print_found", "volumes"]

# Fields that are maps, not structs: a key that is missing there is no error.
_MAPS = frozenset(
    (
        *("Labels", "Options", "DriverOpts", "Annotations", "Sysctls", "Tmpfs", "StorageOpt"),
        *(
            "Networks",
            "Ports",
            "PortBindings",
            "Containers",
            "ExposedPorts",
            "Volumes",
            "AuxiliaryAddresses",
            "Status",
        ),
    )
)

Fetch = Callable[[str], Any]


def _as_go(value: Any, key: str = "") -> Any:
    """The same data with Go's maps told from structs."""
    if isinstance(value, dict):
        items = {name: _as_go(item, name) for name, item in value.items()}
        is_map = key in _MAPS or (
            key in ("Config", "Data") and all(isinstance(item, str) for item in items.values())
        )
        return GoMap(items) if is_map and items else items
    if isinstance(value, list):
        return [_as_go(item) for item in value]
    return value


def _template(text: str) -> Template | None:
    """None stands for plain JSON."""
    if text in ("", "json"):
        return None
    try:
        return parse(text)
    except TemplateSyntaxError as error:
        raise CommandError(f"template parsing error: {error}", 64) from None


def print_found(call: Call, fetch: Fetch, references: Sequence[str] | None = None) -> int:
    """Fetch all references, print what was found, then the errors."""
    text = call.flags["format"]
    template = _template(text)
    found: list[Any] = []
    lines: list[str] = []
    errors: list[LabkitError] = []
    for reference in references or call.args:
        try:
            value = fetch(reference)
        except LabkitError as error:
            errors.append(error)
            if isinstance(error, ConnectFailed):
                break
            continue
        if template is not None:
            try:
                lines.append(render(template, _as_go(value)))
            except TemplateError as error:
                errors.append(CommandError(f"template parsing error: {error}"))
                break
        else:
            found.append(value)
    if text == "json":
        call.surface.out(go_json(found) + "\n")
    else:
        _print(call, template is None, found, lines)
    for failure in errors:
        call.surface.err(getattr(failure, "sentence", failure.message) + "\n")
    give_hint = getattr(call.surface, "hint", None)
    if errors and errors[0].hint and give_hint is not None:
        give_hint(errors[0].hint)
    return 1 if errors else 0


def _print(call: Call, as_list: bool, found: list[Any], lines: list[str]) -> None:
    if as_list:
        text = json.dumps(found, indent=4, ensure_ascii=False) if found else "[]"
        call.surface.out(text + "\n")
    elif lines:
        call.surface.out("\n".join(lines) + "\n")
    else:
        call.surface.out("\n")


def _getter(call: Call, path: str, **query: Any) -> Fetch:
    def fetch(reference: str) -> Any:
        return call.client.request("GET", path.format(reference), query=query).json()

    return fetch


def containers(call: Call) -> int:
    """Details of containers."""
    return print_found(call, _getter(call, "/containers/{}/json", size=call.flags["size"]))


def images(call: Call) -> int:
    """Details of images."""
    return print_found(
        call, _getter(call, "/images/{}/json", platform=call.flags["platform"] or None)
    )


def networks(call: Call) -> int:
    """Details of networks."""
    query = {"verbose": "true" if call.flags["verbose"] else None}
    return print_found(call, _getter(call, "/networks/{}", **query))


def volumes(call: Call) -> int:
    """Details of volumes."""
    return print_found(call, _getter(call, "/volumes/{}"))


_KINDS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
    "plugin": "/plugins/{}/json",
}
# Kinds whose engine may know nothing of them; their failure is "no such object".
_OPTIONAL = "/plugins"


_KIND_LIST = (
    '"config", "container", "image", "network", "node", "plugin", "secret", "service", '
    '"task", "volume"'
)


def anything(call: Call) -> int:
    """Details of whatever has that name: containers first, then images, networks, volumes."""
    kind = call.flags["type"]
    if call.flags.given("type") and not kind:
        raise CommandError(f"type is empty: must be one of {_KIND_LIST}")
    if kind and kind not in _KINDS:
        raise CommandError(f'unknown type: "{kind}": must be one of {_KIND_LIST}')
    paths = [_KINDS[kind]] if kind else list(_KINDS.values())

    def fetch(reference: str) -> Any:
        for path in paths:
            if path.startswith(_OPTIONAL) and not kind:
                call.client.request("GET", "/info")  # a swarm manager would have more kinds
            query = {"size": call.flags["size"] and path.startswith("/containers")}
            try:
                return call.client.request("GET", path.format(reference), query=query).json()
            except LabkitError as error:
                status = getattr(error, "status", 0)
                if kind:
                    raise
                if status not in (404, 501) and not path.startswith(_OPTIONAL):
                    raise
        raise CommandError(f"Error: No such object: {reference}")

    return print_found(call, fetch)

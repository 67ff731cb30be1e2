"""`inspect` in its forms: raw JSON of the API, or a template evaluated on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.apierrors import ConnectFailed
from labkit.notebook.commands.gotemplate import (
    GoMap,
    GoNil,
    GoNilMap,
    GoStruct,
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

# Fields that point to a struct or a number; without one they are nil, while lists are empty.
_POINTERS = frozenset(
    (
        *("Health", "IPAMConfig", "Init", "PidsLimit", "OomKillDisable", "MemorySwappiness"),
        *("Healthcheck", "StopTimeout", "UsageData", "Descriptor", "ConfigFrom"),
    )
)
# All fields of the structs that people print whole, in Go's order.
_STRUCTS: dict[str, dict[str, Any]] = {
    "State": {
        **dict.fromkeys(("Status",), ""),
        **dict.fromkeys(("Running", "Paused", "Restarting", "OOMKilled", "Dead"), False),
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "",
        "FinishedAt": "",
        "Health": None,
    },
    "Mounts": {
        **dict.fromkeys(("Type", "Name", "Source", "Destination", "Driver", "Mode"), ""),
        "RW": False,
        "Propagation": "",
    },
}

Fetch = Callable[[str], Any]


def _as_go(value: Any, key: str = "") -> Any:
    """The same data with Go's maps, structs and nil lists told apart."""
    if value is None:
        if key in _POINTERS:
            return None
        return GoNilMap() if key in _MAPS else GoNil()
    if isinstance(value, dict):
        inside_map = _is_map(value, key)
        items = {
            name: _as_go(item, f"{key}[]" if inside_map else name) for name, item in value.items()
        }
        return GoMap(items) if inside_map else GoStruct(items, layout=_STRUCTS.get(key))
    if isinstance(value, list):
        return [_as_go(item, key) for item in value]
    return value


def _is_map(value: dict[str, Any], key: str) -> bool:
    if key in ("Config", "Data"):  # of a log driver, an address pool, a storage driver
        return all(isinstance(item, str) for item in value.values())
    return key in _MAPS


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
                lines.append(_evaluate(template, value))
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


def _evaluate(template: Template, value: Any) -> str:
    """The template on the API's types; where those fail on the JSON itself, whose every missing key
    is an error, and whose error is the one that is shown."""
    try:
        return render(template, _as_go(value))
    except TemplateError:
        return render(template, value)


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
            is_container = path.startswith("/containers")
            query = {"size": call.flags["size"] and is_container}
            try:
                found = call.client.request("GET", path.format(reference), query=query).json()
                if call.flags["size"] and not is_container:
                    word = next(name for name, known in _KINDS.items() if known == path)
                    call.surface.err(f"WARNING: --size ignored for {word}\n")
                return found
            except LabkitError as error:
                status = getattr(error, "status", 0)
                if kind:
                    raise
                if status not in (404, 501) and not path.startswith(_OPTIONAL):
                    raise
        raise CommandError(f"Error: No such object: {reference}")

    return print_found(call, fetch)

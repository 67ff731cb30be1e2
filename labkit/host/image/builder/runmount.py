"""`RUN --mount=type=cache,target=/x,…`: one comma-separated list, as a RunMount."""

from __future__ import annotations

import csv
import re

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes
from labkit.host.image.builder.instructions import RunMount

__all__ = ["parse_mount"]

_KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
_KEYS = {
    "type": "kind",
    "target": "target",
    "dst": "target",
    "destination": "target",
    "source": "source",
    "src": "source",
    "from": "origin",
    "id": "id",
    "sharing": "sharing",
}


def _fail(reason: str, hint: str | None = None) -> InvalidParameter:
    return InvalidParameter(reason, hint=hint)


def _flag(key: str, value: str) -> bool:
    if value.lower() not in ("", "true", "1", "false", "0"):
        raise _fail(f"invalid value for {key}: {value}")
    return value.lower() in ("", "true", "1")


def _number(key: str, value: str, base: int = 10) -> int:
    if not re.fullmatch(r"[0-7]{1,5}" if base == 8 else r"[0-9]{1,10}", value):
        raise _fail(f"invalid value {value} for {key}")
    return int(value, base)


def parse_mount(text: str) -> RunMount:
    """Raises InvalidParameter with BuildKit's sentence."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise _fail(f"failed to parse csv mounts: {error}") from None
    values: dict[str, str] = {}
    for item in fields:
        key, _, value = item.partition("=")
        key = key.strip().lower()
        if key in ("readonly", "ro", "readwrite", "rw", "required"):
            on = _flag(key, value)
            name = "required" if key == "required" else "readonly"
            values[name] = "1" if on == (key in ("readonly", "ro", "required")) else ""
        elif key in ("mode", "uid", "gid", "size"):
            values[key] = value
        elif key in _KEYS:
            values[_KEYS[key]] = value
        else:
            raise _fail(f"unexpected key '{key}' in '{item}'")
    return _checked(values, text)


def _checked(values: dict[str, str], text: str) -> RunMount:
    kind = values.get("kind", "bind").lower()
    if kind not in _KINDS:
        raise _fail(f'unsupported mount type "{kind}"', f"types are {', '.join(_KINDS[:4])}")
    if kind == "ssh":
        raise _fail("mounts of type ssh need an agent, which this builder does not forward")
    if kind in ("bind", "cache", "tmpfs") and not values.get("target"):
        raise _fail(f'invalid mount config for type "{kind}": target is required')
    sharing = values.get("sharing", "shared").lower()
    if sharing not in ("shared", "private", "locked"):
        raise _fail(f'unsupported sharing value "{sharing}"')
    identifier = values.get("id", "")
    target = values.get("target", "")
    if kind == "secret":
        identifier = identifier or target.rpartition("/")[2]
        if not identifier:
            raise _fail('invalid mount config for type "secret": id or target is required')
        target = target or f"/run/secrets/{identifier}"
    elif kind == "cache":
        identifier = identifier or target
    return RunMount(
        kind=kind,
        target=target,
        source=values.get("source", ""),
        origin=values.get("origin", ""),
        id=identifier,
        readonly=bool(values.get("readonly", "1" if kind == "bind" else "")),
        required=bool(values.get("required")),
        sharing=sharing,
        mode=_number("mode", values["mode"], 8) if "mode" in values else None,
        uid=_number("uid", values.get("uid", "0")),
        gid=_number("gid", values.get("gid", "0")),
        size_bytes=parse_bytes(values["size"]) if "size" in values else 0,
        text=text,
    )

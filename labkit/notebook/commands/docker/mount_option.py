"""The long forms `--mount type=…,source=…` and `--network name=…,alias=…`."""

from __future__ import annotations

import csv
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes
from labkit.notebook.commands.gotext import parse_bool

__all__ = ["parse_mount", "parse_network"]

_SOURCE_KEYS = frozenset({"source", "src"})
_TARGET_KEYS = frozenset({"target", "dst", "destination"})
_VALUELESS = frozenset({"readonly", "ro", "volume-nocopy", "bind-nonrecursive"})


def _fields(text: str) -> list[str]:
    """Comma separated, a field may be quoted as in CSV."""
    return next(csv.reader([text]), [])


def _boolean(key: str, value: str) -> bool:
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _key_value(text: str) -> tuple[str, str]:
    """`key=value`, or one of the keys that mean true alone."""
    key, equals, value = text.partition("=")
    key = key.strip().lower()
    if equals:
        return key, value
    if key in _VALUELESS:
        return key, "true"
    raise ValueError(f"invalid field '{text}' must be a key=value pair")


def _mount_field(mount: dict[str, Any], key: str, value: str) -> None:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in _SOURCE_KEYS:
        mount["Source"] = value
    elif key in _TARGET_KEYS:
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        if _boolean(key, value):
            mount["ReadOnly"] = True
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif key.startswith("bind-"):
        _bind_field(mount.setdefault("BindOptions", {}), key, value)
    elif key.startswith("volume-"):
        _volume_field(mount.setdefault("VolumeOptions", {}), key, value)
    elif key == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = value
    elif key.startswith("tmpfs-"):
        _tmpfs_field(mount.setdefault("TmpfsOptions", {}), key, value)
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def _bind_field(options: dict[str, Any], key: str, value: str) -> None:
    if key == "bind-propagation":
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        raise ValueError("bind-nonrecursive is deprecated, use bind-recursive=disabled instead")
    elif key == "bind-recursive":
        if value == "disabled":
            options["NonRecursive"] = True
        elif value == "writable":
            options["ReadOnlyNonRecursive"] = True
        elif value == "readonly":
            options["ReadOnlyForceRecursive"] = True
        elif value != "enabled":
            raise ValueError(
                f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", '
                '"writable", or "readonly")'
            )
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def _volume_field(options: dict[str, Any], key: str, value: str) -> None:
    if key == "volume-subpath":
        options["Subpath"] = value
    elif key == "volume-nocopy":
        try:
            options["NoCopy"] = parse_bool(value)
        except ValueError:
            raise ValueError(f"invalid value for volume-nocopy: {value}") from None
    elif key == "volume-label":
        name, _, content = value.partition("=")
        options.setdefault("Labels", {})[name] = content
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, content = value.partition("=")
        options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def _tmpfs_field(options: dict[str, Any], key: str, value: str) -> None:
    if key == "tmpfs-size":
        try:
            options["SizeBytes"] = parse_bytes(value)
        except InvalidParameter:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        try:
            options["Mode"] = int(value, 8)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    else:
        raise ValueError(f"unexpected key '{key}' in '{key}={value}'")


def parse_mount(text: str) -> dict[str, Any]:
    """One `--mount` as the API's Mount; raises ValueError with the client's reason."""
    mount: dict[str, Any] = {"Type": "volume"}
    for item in _fields(text):
        key, value = _key_value(item)
        _mount_field(mount, key, value)
    if not mount["Type"]:
        raise ValueError("type is required")
    kind = mount["Type"]
    allowed = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
    if "Target" not in mount or not mount["Target"]:
        raise ValueError("target is required")
    for other, options in allowed.items():
        if options in mount and kind != other and kind in ("bind", "volume", "tmpfs"):
            raise ValueError(f"cannot mix '{other}-*' options with mount type '{kind}'")
    if mount.get("BindOptions", {}).get("ReadOnlyNonRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified")
    return mount


def parse_network(text: str) -> dict[str, Any]:
    """One `--network`: a name or mode, or `name=…,alias=…,ip=…`.

    Raises ValueError with the client's reason.
    """
    attachment: dict[str, Any] = {"Target": "", "Aliases": [], "DriverOpts": {}}
    if "=" not in text:
        attachment["Target"] = text
        return attachment
    for item in _fields(text):
        key, equals, value = item.strip().partition("=")
        key = key.strip().lower()
        value = value.strip()
        if not equals or not key:
            raise ValueError(f"invalid key/value pair format in driver options: {item}")
        if key == "name":
            attachment["Target"] = value
        elif key == "alias":
            attachment["Aliases"].append(value)
        elif key == "driver-opt":
            name, has_value, content = value.partition("=")
            if not has_value:
                raise ValueError("invalid key value pair format in driver options")
            attachment["DriverOpts"][name.strip().lower()] = content
        elif key in ("ip", "ip6", "mac-address"):
            attachment[key] = value
        elif key == "link-local-ip":
            attachment.setdefault(key, []).append(value)
        elif key == "gw-priority":
            attachment[key] = int(value)
        else:
            raise ValueError(f"invalid field key {key}")
    if not attachment["Target"]:
        raise ValueError("network name/id is not specified")
    return attachment

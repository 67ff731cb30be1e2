"""What `run`, `create` and `exec` refuse while they read their flags, with the client's words.

Each function turns the text of one flag into its value or raises ValueError with the reason.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes
from labkit.notebook.commands.docker.mount_option import parse_mount, parse_network
from labkit.notebook.commands.flags import Validators
from labkit.notebook.commands.gotext import go_quote, parse_uint

__all__ = ["VALIDATORS", "parse_ulimit", "validate_environment"]

_STREAMS = frozenset({"stdin", "stdout", "stderr"})
_CGROUP_RULE = re.compile(r"[acb] (?:[0-9]+|\*):(?:[0-9]+|\*) [rwm]{1,3}\Z")
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*)\Z"
)
# Kernel parameters that belong to a namespace and may be set per container.
_SYSCTLS = frozenset(
    {
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall"),
        *("kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
    }
)
_ULIMITS = frozenset(
    {
        *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile"),
        *("nproc", "rss", "rtprio", "rttime", "sigpending", "stack"),
    }
)


def _attach(text: str) -> str:
    if text.lower() not in _STREAMS:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def validate_environment(text: str) -> str:
    """`NAME=value`; a bare NAME takes the value from our environment where it has one."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def _label(text: str) -> str:
    if not text.partition("=")[0].strip():
        raise ValueError(f"invalid label '{text}': empty name")
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def _extra_host(text: str) -> str:
    # The name ends at the first `=`, or at the first `:` where there is none (IPv6 has colons).
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not found or not name:
        raise ValueError(f"bad format for add-host: {go_quote(text)}")
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if bare != "host-gateway":
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            raise ValueError(f"invalid IP address in add-host: {go_quote(address)}") from None
    return f"{name}:{bare}"


def _dns_search(text: str) -> str:
    text = text.strip()
    if text == ".":
        return text
    if not _DOMAIN.match(text):
        raise ValueError(f"{text} is not a valid domain")
    return text


def _sysctl(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return text


def parse_ulimit(text: str) -> dict[str, Any]:
    """`nofile=1024:2048` as the API wants it; raises ValueError."""
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = rest.split(":")
    if len(parts) > 2:
        raise ValueError(
            f"too many limit value arguments - {rest}, can only have up to two, `soft[:hard]`"
        )
    numbers = []
    for part in parts:
        if not re.fullmatch(r"-?\d+", part):
            raise ValueError(f'strconv.ParseInt: parsing "{part}": invalid syntax')
        numbers.append(int(part))
    soft, hard = numbers[0], numbers[-1]
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return {"Name": name, "Hard": hard, "Soft": soft}


def _cgroup_rule(text: str) -> str:
    if not _CGROUP_RULE.match(text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _split_device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path or ":" in value:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def _device_bytes(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    try:
        return {"Path": path, "Rate": parse_bytes(value)}
    except InvalidParameter:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is "
            "<device-path>:<number>[<unit>]. Number must be a positive integer. "
            "Unit is optional and can be kb, mb, or gb"
        ) from None


def _device_operations(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    try:
        return {"Path": path, "Rate": parse_uint(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        ) from None


def _device_weight(text: str) -> dict[str, Any]:
    path, value = _split_device(text)
    if not value.isdecimal() or (int(value) != 0 and not 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(value)}


def _gpus(text: str) -> dict[str, Any]:
    """`all`, a number, or `key=value,…` as a device request."""
    request: dict[str, Any] = {
        "Driver": "",
        "Count": 0,
        "DeviceIDs": None,
        "Capabilities": [["gpu"]],
        "Options": {},
    }
    for item in text.split(","):
        key, equals, value = item.strip().partition("=")
        if not equals:
            key, value = "count", key
        if key == "count":
            request["Count"] = _gpu_count(value)
        elif key == "driver":
            request["Driver"] = value
        elif key == "device":
            request["DeviceIDs"] = value.strip('"').split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.strip('"').split(","), "gpu"]]
        else:
            raise ValueError(f"unexpected key '{key}' in '{item}'")
    if request["Count"] == 0 and request["DeviceIDs"] is None:
        request["Count"] = 1
    return request


def _gpu_count(text: str) -> int:
    if text == "all":
        return -1
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(
            f'invalid count ({text}): value must be either "all" or an integer: invalid syntax'
        )
    return int(text)


def _memory_swap(text: str) -> int:
    if text == "-1":
        return -1
    try:
        return parse_bytes(text)
    except InvalidParameter as error:
        raise ValueError(error.message) from None


VALIDATORS: Validators = {
    "add-host": _extra_host,
    "annotation": _label,
    "attach": _attach,
    "blkio-weight-device": _device_weight,
    "device-cgroup-rule": _cgroup_rule,
    "device-read-bps": _device_bytes,
    "device-read-iops": _device_operations,
    "device-write-bps": _device_bytes,
    "device-write-iops": _device_operations,
    "dns": _address,
    "dns-search": _dns_search,
    "env": validate_environment,
    "gpus": _gpus,
    "label": _label,
    "link-local-ip": _address,
    "memory-swap": _memory_swap,
    "mount": parse_mount,
    "network": parse_network,
    "sysctl": _sysctl,
    "ulimit": parse_ulimit,
}

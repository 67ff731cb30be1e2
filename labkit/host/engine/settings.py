"""daemon.json: Docker's own file of settings, of which a lab honours a part.

The file is LABKIT_HOME/etc/daemon.json, as /etc/docker/daemon.json is Docker's. What the registry
client reads of it is in image/registry/settings.py. A key that means nothing here stops the daemon
with dockerd's sentence, because a setting that is silently ignored is worse than none.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.engine.hostconfig import LogConfig
from labkit.host.engine.logdrivers import DRIVERS, log_limits

__all__ = ["AddressPool", "Settings", "read_settings", "with_log_defaults"]

_REGISTRY = frozenset(
    {"registry-mirrors", "insecure-registries", "max-concurrent-downloads",
     "max-concurrent-uploads", "max-download-attempts"}
)  # fmt: skip
_OWN = frozenset({"log-driver", "log-opts", "default-address-pools", "labels"})


@dataclass(frozen=True, slots=True)
class AddressPool:
    """Where new networks take their subnets from: parts of `base`, each with prefix `size`."""

    base: str
    size: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file says, or Docker's defaults."""

    log: LogConfig = field(default_factory=lambda: LogConfig("json-file", {}))
    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    pools: tuple[AddressPool, ...] = ()
    labels: tuple[str, ...] = ()

    def subnets(self) -> Iterable[ipaddress.IPv4Network]:
        """The parts of the address pools, in order; empty when the file names none."""
        if not self.pools:
            return ()
        return (
            part
            for pool in self.pools
            for part in ipaddress.ip_network(pool.base).subnets(new_prefix=pool.size)
            if isinstance(part, ipaddress.IPv4Network)
        )


def read_settings(file: Path) -> Settings:
    """The settings in `file`; the defaults when it is not there.

    Raises InvalidParameter naming the file and what is wrong with it.
    """
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file, str(error)) from error
    if not isinstance(found, dict):
        raise _unusable(file, "it must hold a JSON object")
    unknown = [key for key in found if key not in _OWN | _REGISTRY]
    if unknown:
        raise _unusable(
            file,
            "the following directives don't match any configuration option: " + ", ".join(unknown),
        )
    return Settings(
        log=_log(file, found),
        mirrors=_words(file, found, "registry-mirrors"),
        insecure=_words(file, found, "insecure-registries"),
        pools=_pools(file, found),
        labels=_labels(file, found),
    )


def _unusable(file: Path, why: str) -> InvalidParameter:
    return InvalidParameter(
        f"unable to configure the Docker daemon with file {file}: {why}",
        hint=f"known here: {', '.join(sorted(_OWN | _REGISTRY))}",
    )


def _words(file: Path, found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = found.get(key, [])
    if not isinstance(values, list) or not all(isinstance(word, str) for word in values):
        raise _unusable(file, f"{key} must be a list of strings")
    return tuple(values)


def _log(file: Path, found: Mapping[str, Any]) -> LogConfig:
    driver, options = found.get("log-driver", "json-file"), found.get("log-opts", {})
    if driver not in DRIVERS:
        raise _unusable(file, f"logger: no log driver named '{driver}' is registered")
    if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
        raise _unusable(file, "log-opts must be an object of strings")
    log = LogConfig(driver, options)
    try:
        log_limits(log)
    except InvalidParameter as error:
        raise _unusable(file, error.message) from None
    return log


def _pools(file: Path, found: Mapping[str, Any]) -> tuple[AddressPool, ...]:
    rows = found.get("default-address-pools", [])
    pools = []
    try:
        for row in rows:
            base = ipaddress.ip_network(row["base"], strict=False)
            size = int(row["size"])
            if not base.prefixlen <= size <= base.max_prefixlen:
                raise ValueError(f"size {size} does not fit {base}")
            pools.append(AddressPool(str(base), size))
    except (TypeError, KeyError, ValueError) as error:
        raise _unusable(file, f"invalid default address pool: {error}") from None
    return tuple(pools)


def _labels(file: Path, found: Mapping[str, Any]) -> tuple[str, ...]:
    labels = _words(file, found, "labels")
    for label in labels:
        if not label.partition("=")[2]:
            raise _unusable(file, f"bad attribute format: {label}")
    return labels


def with_log_defaults(settings: Settings, log: LogConfig) -> LogConfig:
    """A container's LogConfig completed from the daemon's: its driver, and its options where the
    driver is the same."""
    default = settings.log
    kind = log.type or default.type
    options = dict(log.config or {})
    if kind == default.type:
        options = {**(default.config or {}), **options}
    return LogConfig(kind, options)

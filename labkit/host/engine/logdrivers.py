"""Log drivers: which there are, what their options mean, where their bytes lie.

Every driver but `none` keeps the lines in files of the json-file format, written by the shim:
`json-file` and `local` for good, `syslog` and `journald` so that `docker logs` works with them too
(Docker calls it dual logging) while forwarding.py sends the lines on. Option names and sentences
are those of moby's daemon/logger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import parse_bytes
from labkit.host.engine.hostconfig import LogConfig

__all__ = [
    "DRIVERS",
    "LOG_FUSE",
    "TAG_FIELDS",
    "LogSource",
    "can_be_read",
    "is_forwarded",
    "log_attributes",
    "log_file",
    "log_limits",
    "log_tag",
]

LOG_FUSE = (200 << 20, 2)
"""Size and number of log files where nothing was asked for. Docker keeps everything; here a
forgotten `yes` would fill a student's disk within minutes. `--log-opt max-size=-1` is Docker's
own default."""

_LOCAL_LIMITS = (20 << 20, 5)
_FILES_MAX = 10_000
_FILES = frozenset({"max-file", "max-size", "compress"})
_WORDS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_CACHE = frozenset({"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"})
_MODES = frozenset({"mode", "max-buffer-size"})
DRIVERS: Mapping[str, frozenset[str]] = {
    "json-file": _FILES | _WORDS,
    "local": _FILES,
    "none": frozenset(),
    "syslog": _WORDS | {"syslog-address", "syslog-facility", "syslog-format"},
    "journald": _WORDS | {"journald-address"},
}
"""The options each driver knows, besides those of Docker's own layer above the drivers."""

TAG_FIELDS = ("ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName")
_FIELD = re.compile(r"\{\{\s*(?:\.(\w+)|[^}]*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class LogSource:
    """What a tag and the extra attributes are made of."""

    id: str
    name: str
    image: str
    image_id: str
    labels: Mapping[str, str]
    env: tuple[str, ...]


def is_forwarded(log: LogConfig) -> bool:
    """Whether lines go to a socket as well."""
    return log.type in ("syslog", "journald")


def can_be_read(log: LogConfig) -> bool:
    """Whether `docker logs` works."""
    is_cached = (log.config or {}).get("cache-disabled", "false").lower() not in ("1", "t", "true")
    return log.type != "none" and (is_cached or not is_forwarded(log))


def log_file(folder: Path, identifier: str, log: LogConfig) -> Path | None:
    """The present file of the log; rotated ones have `.1`, `.2`, … behind their name."""
    if log.type == "none":
        return None
    if log.type in ("", "json-file"):
        return folder / f"{identifier}-json.log"
    return folder / ("container.log" if log.type == "local" else "container-cached.log")


def _number(options: Mapping[str, str], key: str, default: int) -> int:
    text = options.get(key)
    if text is None:
        return default
    if not text.lstrip("-").isdecimal():
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 1:
        raise InvalidParameter(f"{key} cannot be less than 1")
    if len(text) > 5 or int(text) > _FILES_MAX:
        # Each rotation renames every one of them.
        raise InvalidParameter(f"{key} cannot be greater than {_FILES_MAX}")
    return int(text)


def _check_names(log: LogConfig, driver: str) -> None:
    known = DRIVERS[driver]
    for name in log.config or {}:
        if name in _MODES or (name in _CACHE and driver in ("syslog", "journald")):
            continue
        if name not in known:
            message = f"unknown log opt '{name}' for {driver} log driver"
            if driver == "local":
                message = f"unknown log opt '{name}' for log driver local"
            raise InvalidParameter(message)


def _check_mode(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        parse_bytes(options["max-buffer-size"])


def log_limits(log: LogConfig) -> tuple[int, int]:
    """Greatest size of one log file in bytes (-1: no limit) and the number of files.

    Raises InvalidParameter with Docker's sentence for a driver or an option that does not exist.
    """
    driver = log.type or "json-file"
    if driver not in DRIVERS:
        raise InvalidParameter(
            f"logger: no log driver named '{log.type}' is registered",
            hint=f"{', '.join(DRIVERS)} are available",
        )
    options = dict(log.config or {})
    if driver == "none":
        return -1, 1
    _check_names(log, driver)
    _check_mode(options)
    for name in ("labels-regex", "env-regex"):
        _pattern(options, name)
    log_tag(options.get("tag", ""), None)
    if is_forwarded(log):
        from labkit.host.engine.forwarding import check_address

        check_address(log)
        cached = {key.removeprefix("cache-"): value for key, value in options.items()}
        return _limits(cached, _LOCAL_LIMITS)
    return _limits(options, _LOCAL_LIMITS if driver == "local" else None)


def _limits(options: Mapping[str, str], default: tuple[int, int] | None) -> tuple[int, int]:
    size = default[0] if default else -1
    if options.get("max-size", "-1") != "-1":
        size = parse_bytes(options["max-size"])
        if size <= 0:
            raise InvalidParameter("max-size must be a positive number")
    files = _number(options, "max-file", default[1] if default else 1)
    compress = options.get("compress", "")
    if compress and compress.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidParameter(f'strconv.ParseBool: parsing "{compress}": invalid syntax')
    if compress.lower() in ("true", "1", "t") and (size == -1 or files < 2):
        raise InvalidParameter(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    if default is None and "max-size" not in options:
        return LOG_FUSE
    return size, files


def _pattern(options: Mapping[str, str], name: str) -> re.Pattern[str] | None:
    text = options.get(name)
    if not text:
        return None
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidParameter(f"error parsing regexp: {error}: `{text}`") from None


def log_attributes(log: LogConfig, source: LogSource) -> dict[str, str]:
    """What `--log-opt labels=…,env=…` and their regular expressions add to every line."""
    options = log.config or {}
    variables = dict(entry.partition("=")[::2] for entry in source.env)
    found: dict[str, str] = {}
    for key, values in (("labels", source.labels), ("env", variables)):
        names = [name for name in options.get(key, "").split(",") if name]
        pattern = _pattern(options, f"{key}-regex")
        if pattern is not None:
            names += [name for name in values if pattern.search(name)]
        found |= {name: values[name] for name in names if name in values}
    if options.get("tag"):
        found["tag"] = log_tag(options["tag"], source)
    return found


def log_tag(template: str, source: LogSource | None) -> str:
    """`{{.Name}}` and its like filled in; None only checks. InvalidParameter for anything else."""

    def field(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TAG_FIELDS:
            raise InvalidParameter(
                f"log tag: cannot evaluate {match[0]}",
                hint=f"fields are {', '.join('.' + name for name in TAG_FIELDS)}",
            )
        if source is None:
            return ""
        image_id = source.image_id.removeprefix("sha256:")
        return {
            "ID": source.id[:12],
            "FullID": source.id,
            "Name": source.name,
            "ImageID": image_id[:12],
            "ImageFullID": source.image_id,
            "ImageName": source.image,
            "DaemonName": "labkit",
        }[name]

    return _FIELD.sub(field, template)

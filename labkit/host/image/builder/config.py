"""What each instruction makes of the image's configuration, and its words in the history.

The history's words are the classic builder's, down to its Go formatting: `CMD ["a" "b"]` without
commas, `VOLUME [/a /b]`, `HEALTHCHECK &{["CMD-SHELL" "x"] "30s" "0s" "0s" "0s" '\\x03'}`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import format_duration
from labkit.host.image.builder.instructions import CommandLine, Healthcheck

__all__ = [
    "DEFAULT_PATH",
    "argument_prefix",
    "command_words",
    "environment_of",
    "exposed",
    "go_list",
    "health",
    "nop",
    "set_environment",
    "shell_of",
    "workdir",
]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]+))?\Z")


def shell_of(config: Mapping[str, Any]) -> list[str]:
    """The words before a command in shell form."""
    return list(config.get("Shell") or ["/bin/sh", "-c"])


def nop(config: Mapping[str, Any], comment: str, *, tight: bool = False) -> str:
    """A step that runs nothing, as history tells it. COPY, ADD and WORKDIR have one blank less."""
    return f"{' '.join(shell_of(config))} #(nop) {'' if tight else ' '}{comment}"


def command_words(config: Mapping[str, Any], command: CommandLine) -> list[str]:
    """The argument vector; the shell form is given to the image's shell."""
    if command.is_shell and command.words:
        return [*shell_of(config), *command.words]
    return list(command.words)


def _quoted(text: str) -> str:
    """Go's %q of a string."""
    return json.dumps(text, ensure_ascii=False)


def go_list(words: Sequence[str], *, quoted: bool) -> str:
    """Go's %q or %v of a list."""
    return f"[{' '.join(_quoted(word) if quoted else word for word in words)}]"


def environment_of(config: Mapping[str, Any]) -> dict[str, str]:
    """ENV as a mapping, in order."""
    found = {}
    for entry in config.get("Env") or []:
        name, _, value = entry.partition("=")
        found[name] = value
    return found


def set_environment(config: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """The configuration with more variables; known names keep their place."""
    merged = {**environment_of(config), **values}
    return {**config, "Env": [f"{name}={value}" for name, value in merged.items()]}


def exposed(words: Sequence[str]) -> list[str]:
    """`80`, `80/udp`, `8000-8002/tcp` as single ports. Raises InvalidParameter."""
    found = []
    for word in words:
        match = _PORT.match(word)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        protocol = (match[3] or "tcp").lower() if match else ""
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidParameter(f"invalid containerPort: {word}")
        if protocol not in ("tcp", "udp", "sctp"):
            raise InvalidParameter(f"invalid proto: {match[3]}")
        found += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return found


def workdir(config: Mapping[str, Any], path: str) -> str:
    """WORKDIR's new value: relative to the present one."""
    if not path:
        raise InvalidParameter("cannot normalize nothing")
    return posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", path)).replace(
        "//", "/"
    )


def health(found: Healthcheck) -> tuple[dict[str, Any], str]:
    """The configuration's Healthcheck, and its words in the history."""
    if found.test == ("NONE",):
        return {"Test": ["NONE"]}, 'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" \'\\x00\'}'
    times = {
        "Interval": found.interval_ns,
        "Timeout": found.timeout_ns,
        "StartPeriod": found.start_period_ns,
        "StartInterval": found.start_interval_ns,
    }
    value: dict[str, Any] = {"Test": list(found.test)}
    value |= {name: time for name, time in times.items() if time}
    if found.retries:
        value["Retries"] = found.retries
    shown = " ".join(f'"{go_duration(time)}"' for time in times.values())
    words = f"HEALTHCHECK &{{{go_list(found.test, quoted=True)} {shown} {_rune(found.retries)}}}"
    return value, words


def go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `30s`, `1m30s`, `1h0m0s`."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    if rest or not seconds:
        return format_duration(nanoseconds) if rest else "0s"
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _rune(value: int) -> str:
    """Go's %q of a small number: the character of that code."""
    names = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}
    if value in names:
        return f"'{names[value]}'"
    return f"'\\x{value:02x}'" if value < 32 else f"'{chr(min(value, 0x10FFFF))}'"


def argument_prefix(arguments: Mapping[str, str]) -> str:
    """`|1 X=y `: the build arguments that a RUN saw, part of its identity."""
    if not arguments:
        return ""
    shown = " ".join(f"{name}={arguments[name]}" for name in sorted(arguments))
    return f"|{len(arguments)} {shown} "

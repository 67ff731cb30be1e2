"""The next word of a command line: subcommands, flags, and names of things that exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabkitError
from labkit.notebook.commands.tree import Command, Tree

if TYPE_CHECKING:
    from labkit.notebook.client import Client

__all__ = ["Completion", "propose"]

_WAIT_S = 0.1

# Values that a flag can only take from a short list.
_FLAG_VALUES: dict[str, tuple[str, ...]] = {
    "pull": ("always", "missing", "never"),
    "restart": ("no", "always", "on-failure", "unless-stopped"),
    "attach": ("stdin", "stdout", "stderr"),
    "signal": ("SIGTERM", "SIGKILL", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGSTOP"),
    "stop-signal": ("SIGTERM", "SIGKILL", "SIGINT", "SIGQUIT", "SIGHUP"),
    "log-driver": ("json-file", "local", "none", "syslog", "journald"),
    "type": ("container", "image", "network", "volume"),
    "format": ("json", "table"),
    "tail": ("all", "10", "100"),
    "cap-add": ("ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_TIME"),
    "cap-drop": ("ALL", "CHOWN", "KILL", "MKNOD", "NET_RAW", "SETUID"),
}
_FLAG_OBJECTS = {"volumes-from": "container", "network": "network", "volume": "volume"}
# Commands whose containers may also be stopped ones.
_STOPPED_TOO = frozenset(
    {"rm", "start", "inspect", "logs", "rename", "commit", "cp"}
    | {"diff", "export", "wait", "create", "update", "port"}
)


@dataclass(frozen=True, slots=True)
class Completion:
    """One proposal: `text` replaces the word being typed, `kind` and `detail` describe it."""

    text: str
    kind: str
    detail: str = ""


def propose(tree: Tree, words: Sequence[str], current: str, client: Client) -> list[Completion]:
    """All completions of `current` after `words`."""
    path, found, rest = tree.find(words)
    if not isinstance(found, Command):
        if rest or current.startswith("-"):
            return []
        return [
            Completion(word, "command", short)
            for word, short in tree.children(path)
            if word.startswith(current)
        ]
    value_of = _flag_waiting(found, rest)
    if value_of is not None:
        return _flag_values(value_of, current, client)
    if not found.interspersed and _operands(found, rest):
        return []  # what follows the image belongs to the container
    if current.startswith("-"):
        return _flag_names(found, current)
    count = len(_operands(found, rest))
    kind = found.completes
    high = found.operands[1]
    if not kind or (high is not None and count >= high):
        return []
    if found.path.startswith("network ") and "connect" in found.path and count == 1:
        kind = "container"
    verb = found.path.rpartition(" ")[2]
    return _objects(kind, current, client, stopped_too=verb in _STOPPED_TOO)


def _flag_waiting(command: Command, rest: Sequence[str]) -> str | None:
    """The flag whose value is being typed, if the last complete word is one."""
    if not rest or not rest[-1].startswith("-") or "=" in rest[-1]:
        return None
    word = rest[-1]
    for flag in command.table:
        if flag.is_switch:
            continue
        if word == f"--{flag.long}" or (
            not word.startswith("--") and flag.short and word.endswith(flag.short)
        ):
            return flag.long
    return None


def _operands(command: Command, rest: Sequence[str]) -> list[str]:
    """Operands among complete words, skipping flags and their values."""
    takes_value = {f"--{flag.long}" for flag in command.table if not flag.is_switch}
    takes_value |= {f"-{flag.short}" for flag in command.table if flag.short and not flag.is_switch}
    operands: list[str] = []
    skip = False
    for word in rest:
        if skip:
            skip = False
        elif word.startswith("-") and len(word) > 1:
            skip = word in takes_value
        else:
            operands.append(word)
    return operands


def _flag_names(command: Command, current: str) -> list[Completion]:
    name, equals, _ = current.partition("=")
    if equals:
        flag_name = name.removeprefix("--")
        return [Completion(f"{name}={value}", "value") for value in _FLAG_VALUES.get(flag_name, ())]
    found = [
        Completion(f"--{flag.long}", "flag", flag.help.partition("\n")[0])
        for flag in command.table
        if not flag.hidden and f"--{flag.long}".startswith(current)
    ]
    if "--help".startswith(current) and all(item.text != "--help" for item in found):
        found.append(Completion("--help", "flag", "Print usage"))
    return found


def _flag_values(flag: str, current: str, client: Client) -> list[Completion]:
    if flag in _FLAG_OBJECTS:
        return _objects(_FLAG_OBJECTS[flag], current, client, stopped_too=True)
    values = _FLAG_VALUES.get(flag, ())
    return [Completion(value, "value") for value in values if value.startswith(current)]


def _objects(kind: str, current: str, client: Client, *, stopped_too: bool) -> list[Completion]:
    try:
        if kind == "object":
            found = [
                *_names("container", client, stopped_too=True),
                *_names("image", client, stopped_too=True),
            ]
        else:
            found = _names(kind, client, stopped_too=stopped_too)
    except (LabkitError, OSError, KeyError, TypeError, ValueError):
        return []  # a completion is a courtesy: no engine, no names
    return [
        Completion(name, "image" if kind == "catalog" else kind, detail)
        for name, detail in found
        if name.startswith(current)
    ]


def _get(client: Client, path: str, **query: Any) -> Any:
    return client.request("GET", path, query=query, timeout_s=_WAIT_S).json()


def _names(kind: str, client: Client, *, stopped_too: bool) -> list[tuple[str, str]]:
    if kind == "container":
        rows = _get(client, "/containers/json", all=stopped_too)
        return [
            (name.removeprefix("/"), f"{row['Image']}, {row['Status']}")
            for row in rows
            for name in row["Names"][:1]
        ]
    if kind in ("image", "catalog"):
        rows = _get(client, "/images/json")
        tags = {tag for row in rows for tag in row.get("RepoTags") or () if tag != "<none>:<none>"}
        tags |= {tag.removesuffix(":latest") for tag in tags}
        return [(tag, "image") for tag in sorted(tags)]
    if kind == "network":
        return [(row["Name"], row.get("Driver", "")) for row in _get(client, "/networks")]
    if kind == "volume":
        rows = _get(client, "/volumes").get("Volumes") or []
        return [(row["Name"], row.get("Driver", "")) for row in rows]
    return []

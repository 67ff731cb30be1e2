"""`--change` of commit and import: Dockerfile instructions applied to a configuration.

Which ones make sense without a build is Docker's list (builder/dockerfile, validCommitCommands).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.image.builder import config as words
from labkit.host.image.builder import instructions as kinds
from labkit.host.image.builder.expand import expand, expand_words
from labkit.host.image.builder.parser import parse_trigger

__all__ = ["with_changes"]

Json = dict[str, Any]

_ALLOWED_TEXT = "cmd entrypoint healthcheck env expose label onbuild stopsignal user volume workdir"
_ALLOWED = frozenset(_ALLOWED_TEXT.split())


def with_changes(config: Mapping[str, Any], changes: Sequence[str]) -> Json:
    """`config` (Docker's Config object) after the instructions, each one text of one line or more.

    Raises InvalidParameter with Docker's sentence for one that cannot be committed.
    """
    found: Json = dict(config)
    for text in changes:
        for line in text.replace("\\\n", " ").splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            word = line.split(maxsplit=1)[0]
            step = parse_trigger(line)
            if word.lower() not in _ALLOWED:
                raise InvalidParameter(f"{word.upper()} is not a valid change command")
            found = _applied(found, step)
    return found


def _applied(config: Json, step: kinds.Instruction) -> Json:
    variables = words.environment_of(config)
    match step:
        case kinds.Cmd(command=command):
            return {**config, "Cmd": words.command_words(config, command)}
        case kinds.Entrypoint(command=command):
            return {**config, "Entrypoint": words.command_words(config, command)}
        case kinds.Env(pairs=pairs):
            values = {expand(key, variables): expand(value, variables) for key, value in pairs}
            return words.set_environment(config, values)
        case kinds.Label(pairs=pairs):
            values = {expand(key, variables): expand(value, variables) for key, value in pairs}
            return {**config, "Labels": {**(config.get("Labels") or {}), **values}}
        case kinds.Expose(ports=ports):
            texts = [word for port in ports for word in expand_words(port, variables)]
            return _united(config, "ExposedPorts", words.exposed(texts))
        case kinds.Volume(paths=paths):
            return _united(config, "Volumes", [expand(path, variables) for path in paths])
        case kinds.User(user=user):
            return {**config, "User": expand(user, variables)}
        case kinds.Workdir(path=path):
            return {**config, "WorkingDir": words.workdir(config, expand(path, variables))}
        case kinds.StopSignal(signal=signal):
            return {**config, "StopSignal": expand(signal, variables)}
        case kinds.OnBuild(trigger=trigger):
            return {**config, "OnBuild": [*(config.get("OnBuild") or []), trigger]}
        case kinds.Healthcheck():
            return {**config, "Healthcheck": words.health(step)[0]}
    return config


def _united(config: Json, key: str, names: Sequence[str]) -> Json:
    return {**config, key: {**(config.get(key) or {}), **{name: {} for name in names}}}

"""A bundle's hooks (config.md, POSIX-platform hooks): programs told the state on their stdin."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.base.errors import InvalidParameter, SystemFailure

__all__ = ["HOOKS", "check_hooks", "hooks_of", "run_hooks"]

HOOKS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
_OUTPUT_MAX = 2000


def hooks_of(config: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    """The hooks of one kind, in order."""
    return list((config.get("hooks") or {}).get(kind) or ())


def check_hooks(config: Mapping[str, Any]) -> None:
    """Raises InvalidParameter for a hook that cannot mean anything."""
    for kind in HOOKS:
        for hook in hooks_of(config, kind):
            path = hook.get("path")
            if not isinstance(path, str) or not os.path.isabs(path):
                raise InvalidParameter(f"invalid {kind} hook: path {path!r} is not absolute")
            timeout = hook.get("timeout")
            if timeout is not None and (not isinstance(timeout, int) or timeout <= 0):
                raise InvalidParameter(f"invalid {kind} hook: timeout must be greater than zero")


def run_hooks(
    hooks: Sequence[Mapping[str, Any]],
    kind: str,
    state: Mapping[str, Any],
    *,
    prefix: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
) -> None:
    """Run hooks one after another; `prefix` is a command that enters the container first.

    Raises SystemFailure, in runc's words, at the first that fails or takes too long.
    """
    if not hooks:
        return
    import subprocess

    text = json.dumps(state).encode()
    for number, hook in enumerate(hooks):
        args = [str(word) for word in hook.get("args") or (hook["path"],)]
        failed = f"error running hook #{number}: error running {kind} hook"
        words = [*prefix, str(hook["path"]), *args[1:]] if prefix else args
        environment = dict(
            entry.partition("=")[::2] for entry in map(str, hook.get("env") or ()) if "=" in entry
        )
        try:
            done = subprocess.run(
                words,
                executable=None if prefix else str(hook["path"]),
                input=text,
                env=environment,
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=hook.get("timeout"),
                check=False,
                pass_fds=pass_fds,
            )
        except subprocess.TimeoutExpired:
            raise SystemFailure(
                f"{failed}: hook ran past specified timeout of {hook['timeout']}s"
            ) from None
        except OSError as error:
            raise SystemFailure(
                f"{failed}: fork/exec {hook['path']}: {(error.strerror or '').lower()}"
            ) from error
        if done.returncode != 0:
            code = done.returncode
            status = f"signal: {-code}" if code < 0 else f"exit status {code}"
            output = done.stdout[-_OUTPUT_MAX:].decode("utf-8", "replace").strip()
            raise SystemFailure(f"{failed}: {status}, stdout: , stderr: {output}")

"""The runtimes a host can start containers with, by the names that `--runtime` takes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.foreign.runtime import ForeignRuntime
from labkit.host.isolation.runtime import Runtime

__all__ = ["DEFAULT_NAME", "KNOWN", "Runtimes"]

DEFAULT_NAME = "labkit"
KNOWN = ("crun", "runc")
"""Looked for on PATH."""
_OURS = frozenset({"", DEFAULT_NAME, "io.containerd.runc.v2"})


class Runtimes:
    """The host's own runtime and those that are installed beside it."""

    def __init__(self, default: Runtime, *, programs: Mapping[str, str] | None = None) -> None:
        self.default = default
        if programs is None:
            search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            looked = {name: shutil.which(name, path=search) for name in KNOWN}
            programs = {name: path for name, path in looked.items() if path}
        self._foreign = {name: ForeignRuntime(default, path) for name, path in programs.items()}

    def names(self) -> dict[str, dict[str, Any]]:
        """What `docker info` lists as Runtimes."""
        found: dict[str, dict[str, Any]] = {DEFAULT_NAME: {"path": "labkit-shim"}}
        return found | {name: {"path": each.path} for name, each in self._foreign.items()}

    def check(self, name: str) -> None:
        """Raises InvalidParameter, in Docker's words, for a name that nothing answers to."""
        if name not in _OURS and name not in self._foreign:
            raise InvalidParameter(
                f"unknown or invalid runtime name: {name}",
                hint=f"there are {', '.join(self.names())}; crun and runc are used once installed",
            )

    def get(self, name: str) -> Runtime | ForeignRuntime:
        """The runtime of this name. Raises as `check`."""
        self.check(name)
        return self._foreign.get(name, self.default)

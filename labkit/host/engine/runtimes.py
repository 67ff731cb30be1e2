"""Which runtime starts a container: `--runtime NAME`, the host's own by default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from labkit.base.errors import InvalidParameter

if TYPE_CHECKING:
    from labkit.host.engine.context import Context
    from labkit.host.engine.ports import RuntimePort

__all__ = ["check_runtime", "runtime_names", "runtime_of"]

_DEFAULT = frozenset({"", "labkit", "io.containerd.runc.v2"})


def check_runtime(context: Context, name: str) -> None:
    """Raises InvalidParameter, in Docker's words, when there is no such runtime."""
    if context.ports.runtimes is not None:
        context.ports.runtimes.check(name)
    elif name not in _DEFAULT:
        raise InvalidParameter(f"unknown or invalid runtime name: {name}")


def runtime_names(context: Context) -> dict[str, Any]:
    """Runtimes as `docker info` lists them."""
    if context.ports.runtimes is None:
        return {"labkit": {"path": "labkit-shim"}}
    return cast(dict[str, Any], context.ports.runtimes.names())


def runtime_of(context: Context, name: str) -> RuntimePort:
    """The runtime for a container created with `--runtime name`. Raises as `check_runtime`, when
    it has been uninstalled since."""
    if context.ports.runtimes is None or name in _DEFAULT:
        return context.ports.runtime
    return cast("RuntimePort", context.ports.runtimes.get(name))

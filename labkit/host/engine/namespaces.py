"""Which namespaces a container has of its own, shares with the host, or joins of another one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict, NotFound
from labkit.host.engine.container import Definition
from labkit.host.isolation.spec import NamespaceChoice, NamespaceKind

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["joined_namespaces"]

_SHARED_MODES: tuple[tuple[NamespaceKind, str], ...] = (
    ("net", "network_mode"),
    ("ipc", "ipc_mode"),
    ("pid", "pid_mode"),
    ("uts", "uts_mode"),
    ("cgroup", "cgroupns_mode"),
)


@contextmanager
def joined_namespaces(
    context: Context, definition: Definition
) -> Iterator[Mapping[NamespaceKind, NamespaceChoice | int]]:
    """Where each namespace comes from; descriptors of joined ones are open inside the block."""
    choices: dict[NamespaceKind, NamespaceChoice | int] = {
        "mnt": NamespaceChoice.NEW,
        "user": NamespaceChoice.HOST,
    }
    opened: list[int] = []
    try:
        for kind, attribute in _SHARED_MODES:
            mode: str = getattr(definition.host, attribute)
            if mode == "host":
                choices[kind] = NamespaceChoice.HOST
            elif mode.startswith("container:"):
                opened.append(_namespace_of(context, mode.partition(":")[2], kind))
                choices[kind] = opened[-1]
            else:
                choices[kind] = NamespaceChoice.NEW
        yield choices
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _namespace_of(context: Context, reference: str, kind: NamespaceKind) -> int:
    try:
        other = context.find(reference)
    except NotFound as error:
        words = "network namespace" if kind == "net" else f"{kind} namespace"
        raise NotFound(f"joining {words} of container: {error.message}") from None
    if other.shim is None or not other.state.is_live:
        words = "network namespace" if kind == "net" else f"{kind} namespace"
        raise Conflict(
            f"cannot join {words} of a non running container: container {other.name} is "
            f"{other.state.status}",
            hint=f"`docker start {other.name}` first",
        )
    try:
        return os.open(f"/proc/{other.shim.init_pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Conflict(
            f"cannot join the {kind} namespace of container {other.name}: {error.strerror}"
        ) from error

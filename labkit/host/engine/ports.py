"""What the engine acts through, as the narrow interfaces it needs.

The isolation floor's Runtime and Shim and the image floor's store and snapshotter satisfy these;
tests put in fakes of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from labkit.host.isolation.spec import (
    ContainerSpec,
    HostNamespaces,
    IoSpec,
    ProcessSpec,
    ResourceLimits,
    RootSpec,
    Step,
)

__all__ = [
    "ChangeLike",
    "ExitLike",
    "GroupsPort",
    "ImageLike",
    "ImagesPort",
    "Ports",
    "ProbeLike",
    "RuntimePort",
    "ShimPort",
    "SnapshotsPort",
]


@runtime_checkable
class ExitLike(Protocol):
    """How a process ended."""

    @property
    def code(self) -> int: ...
    @property
    def finished_at_ns(self) -> int: ...
    @property
    def oom_killed(self) -> bool: ...
    @property
    def error(self) -> str: ...


class ShimPort(Protocol):
    """One live process and the shim that owns it."""

    @property
    def pid(self) -> int: ...
    @property
    def init_pid(self) -> int: ...
    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def started_at_ns(self) -> int: ...
    async def wait(self) -> ExitLike: ...
    async def attach(
        self, *, stdin: bool, stdout: bool, stderr: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]: ...
    async def release(self) -> None: ...
    async def signal(self, number: int) -> None: ...
    async def resize(self, rows: int, columns: int) -> None: ...
    async def pause(self) -> None: ...
    async def resume(self) -> None: ...
    def pids(self) -> list[int]: ...
    def stats(self) -> Any: ...
    async def update(self, limits: ResourceLimits) -> list[str]: ...
    async def cleanup(self) -> None: ...
    def detach(self) -> None: ...


class GroupsPort(Protocol):
    """The control groups of a lab, its boxes' included."""

    def names(self) -> list[str]: ...
    def open(self, name: str) -> Any: ...


class RuntimePort(Protocol):
    """Starts processes and finds those started before."""

    @property
    def cgroups(self) -> GroupsPort: ...

    async def start(
        self, spec: ContainerSpec, io: IoSpec, directory: Path, *, hold: bool = False
    ) -> ShimPort: ...
    async def exec(
        self,
        container: Any,
        process: ProcessSpec,
        io: IoSpec,
        directory: Path,
        *,
        hold: bool = False,
    ) -> ShimPort: ...
    def warnings_for(self, limits: ResourceLimits) -> list[str]: ...
    async def recover(self, directory: Path) -> ShimPort | ExitLike: ...


class ImageLike(Protocol):
    """An image as the store knows it."""

    @property
    def id(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def repo_tags(self) -> Sequence[str]: ...
    @property
    def repo_digests(self) -> Sequence[str]: ...
    @property
    def created_ns(self) -> int: ...
    @property
    def size(self) -> int: ...


class ImagesPort(Protocol):
    """The image store: synchronous, safe to call from a thread."""

    def get(self, reference: str) -> Any: ...
    def tag(self, source: str, reference: str) -> None: ...
    def history(self, reference: str) -> list[dict[str, Any]]: ...
    def inspect(self, reference: str) -> dict[str, Any]: ...
    def summary(self, image: Any) -> dict[str, Any]: ...
    def remove(
        self,
        reference: str,
        *,
        force: bool,
        prune: bool,
        in_use: Callable[[str], list[str]],
    ) -> list[dict[str, Any]]: ...


class ChangeLike(Protocol):
    """One path that differs from the image: kind 0 changed, 1 added, 2 deleted."""

    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> int: ...


class SnapshotsPort(Protocol):
    """Writable layers of containers."""

    def prepare(self, container_id: str, image: Any) -> RootSpec: ...
    def root_spec(self, container_id: str) -> RootSpec: ...
    def containers(self) -> list[str]: ...
    def graph_driver(self, container_id: str) -> dict[str, Any]: ...
    def remove(self, container_id: str) -> None: ...
    def size(self, container_id: str) -> int: ...
    def changes(self, container_id: str) -> Iterable[ChangeLike]: ...


class ProbeLike(Protocol):
    """What this machine can do."""

    @property
    def mode(self) -> str: ...
    @property
    def cgroup(self) -> str: ...
    @property
    def controllers(self) -> Iterable[str]: ...
    @property
    def overlay(self) -> bool: ...


PullFunction = Callable[..., AsyncIterator[dict[str, Any]]]
"""`pull(store, reference, options=PullOptions(…))`: the image floor's."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything a host acts through."""

    runtime: RuntimePort
    images: Any
    snapshots: SnapshotsPort
    host: HostNamespaces | None
    probe: ProbeLike
    pull: PullFunction | None = None
    runtimes: Any = None
    """Further runtimes by name (isolation.foreign.Runtimes); None offers the default one only."""
    publish_on: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses of the machine on which published ports answer; none on a simulated node."""

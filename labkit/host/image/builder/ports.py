"""What a build acts through, and what it is asked to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from labkit.host.image.model import Image
from labkit.host.isolation.spec import RootSpec

__all__ = ["BuildMount", "BuildOptions", "Fetched", "Output", "Puller", "RunRequest", "Runner"]

Output = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class BuildMount:
    """A mount for one RUN: `bind` of the folder or file `source`, or an empty `tmpfs`."""

    kind: str
    target: str
    source: Path | None = None
    readonly: bool = False
    options: str = ""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One RUN, complete: `id` is the container's, whose writable layer is there already."""

    id: str
    image: Image
    config: Mapping[str, Any]
    args: tuple[str, ...]
    env: tuple[str, ...]
    root: RootSpec
    mounts: tuple[BuildMount, ...] = ()
    network: str = "default"
    host_config: Mapping[str, Any] = field(default_factory=dict)


class Runner(Protocol):
    """Runs one command in a container."""

    async def run(self, request: RunRequest, output: Output) -> int:
        """The exit code. When it returns or raises (also when cancelled) nothing runs any more.

        Raises StartFailure when the command cannot be started.
        """


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a URL gave: a file in the scratch folder, and its Last-Modified (0: unknown)."""

    path: Path
    modified_ns: int = 0


Fetcher = Callable[[str, Path], Fetched]
"""Downloads a URL into a folder; blocking, called in a thread. Raises InvalidParameter."""

Puller = Callable[..., AsyncIterator[dict[str, Any]]]
"""`pull(store, reference, options=PullOptions(…))`, as labkit.host.image.pull."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The query of `POST /build`."""

    dockerfile: str = "Dockerfile"
    remote: str = ""
    """Where the context comes from instead of the request: a URL, or a git repository."""
    tags: Sequence[str] = ()
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    platform: str = ""
    cache_from: Sequence[str] = ()
    network: str = "default"
    host_config: Mapping[str, Any] = field(default_factory=dict)
    """Limits and extra hosts of RUN, as in a HostConfig."""
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Credentials by registry, as X-Registry-Config has them."""
    epoch_s: int | None = None
    """SOURCE_DATE_EPOCH: every time in the image is at most this."""

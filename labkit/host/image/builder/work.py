"""What the stages of one build share: store, options, scratch folder, context, stage results."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from labkit.base.errors import InvalidParameter, LabkitError, NotFound
from labkit.host.image.builder.cache import BuildCache
from labkit.host.image.builder.cachemounts import CacheMounts
from labkit.host.image.builder.instructions import Stage
from labkit.host.image.builder.ports import BuildOptions, Fetcher, Puller, Runner
from labkit.host.image.builder.trees import SpooledTree, UnionTree
from labkit.host.image.model import Image
from labkit.host.image.reference import DEFAULT_DOMAIN, parse
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore

__all__ = ["BuildPorts", "Emit", "StepFailed", "Work", "in_thread", "owner_ids"]

T = TypeVar("T")
_DOCKER_HUB = "https://index.docker.io/v1/"
Emit = Callable[[dict[str, Any]], Awaitable[None]]


class StepFailed(LabkitError):
    """A RUN ended with `code`, which becomes the client's own exit code."""

    http_status = 500

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BuildPorts:
    """Everything a build acts through. `caches` outlives builds: one per store."""

    store: ImageStore
    snapshots: Snapshotter
    runner: Runner
    pull: Puller
    fetch: Fetcher
    caches: CacheMounts


async def in_thread(work: Callable[..., T], *args: Any) -> T:
    """Run `work` in a thread to its end: cancelled or not, it has ended when this returns."""
    future = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise


@dataclass(slots=True)
class Work:
    """One build under way."""

    ports: BuildPorts
    options: BuildOptions
    scratch: Path
    context: SpooledTree
    stages: tuple[Stage, ...]
    escape: str
    global_arguments: dict[str, str]
    cache: BuildCache
    consumed: set[str] = field(default_factory=set)
    """Build arguments that some ARG declared."""
    results: dict[int, asyncio.Task[Image | None]] = field(default_factory=dict)
    pulling: dict[str, asyncio.Lock] = field(default_factory=dict)
    _numbers: int = 0

    @property
    def store(self) -> ImageStore:
        return self.ports.store

    def time_ns(self) -> int:
        """The time of the step under way."""
        epoch = self.options.epoch_s
        return self.store.now_ns() if epoch is None else epoch * 1_000_000_000

    @property
    def clamp_ns(self) -> int | None:
        epoch = self.options.epoch_s
        return None if epoch is None else epoch * 1_000_000_000

    def folder(self) -> Path:
        """A fresh folder that goes with the build."""
        self._numbers += 1
        path = self.scratch / f"step-{self._numbers}"
        path.mkdir(mode=0o700)
        return path

    def tree(self, image: Image | None) -> UnionTree:
        """The tree of an image; None is `scratch`."""
        paths = self.store.layer_paths(image)[::-1] if image is not None else []
        if not paths:
            empty = self.scratch / "empty"
            empty.mkdir(exist_ok=True)
            paths = [empty]
        return UnionTree(paths)

    async def image(self, reference: str, platform: str, emit: Emit) -> Image:
        """An image by name, pulled when it is missing (or always, with --pull)."""
        from labkit.host.image.pull import PullOptions

        async with self.pulling.setdefault(reference, asyncio.Lock()):
            try:
                found = await in_thread(self.store.get, reference)
                if not self.options.pull or not found.repo_tags:
                    return _checked(found, reference, platform)
            except NotFound:
                pass
            options = PullOptions(platform=platform)
            auth = self._credentials(reference)
            if auth:
                from labkit.host.image.registry.login import options_from_auth

                options = replace(options, registry=options_from_auth(auth))
            async for line in self.ports.pull(self.store, reference, options=options):
                await emit(line)
            return _checked(await in_thread(self.store.get, reference), reference, platform)

    def _credentials(self, reference: str) -> dict[str, Any]:
        domain = parse(reference).domain
        keys = (_DOCKER_HUB,) if domain == DEFAULT_DOMAIN else (domain, f"https://{domain}")
        return next(
            (dict(found) for key in keys if (found := self.options.registries.get(key))), {}
        )


def _checked(image: Image, reference: str, platform: str) -> Image:
    parts = platform.split("/")
    found = str(image.config.get("architecture") or "")
    if len(parts) > 1 and found and parts[1] != found:
        raise NotFound(
            f"image with reference {reference} was found but its platform (linux/{found}) does "
            f"not match the specified platform ({platform})"
        )
    return image


def owner_ids(tree: UnionTree, text: str) -> tuple[int, int]:
    """`--chown=user[:group]` by the image's own files; a group not given is called as the user."""
    user, _, group = text.partition(":")
    return _id(tree, "etc/passwd", user, "user"), _id(tree, "etc/group", group or user, "group")


def _id(tree: UnionTree, path: str, name: str, what: str) -> int:
    try:
        text = tree.union.read(path, 4 << 20).decode("utf-8", "replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] == name and fields[2].isdecimal():
            return int(fields[2])
    if name.isdecimal() and int(name) < 1 << 32:
        return int(name)
    raise InvalidParameter(
        f"unable to convert uid/gid chown string to host mapping: can't find {what[0]}id for "
        f"{what} {name}: no such {what}: {name}",
        hint=f"the name must be in the image's /{path}, or be a number",
    )


def download(url: str, folder: Path) -> Any:
    """The real Fetcher: http and https, with the proxies of the environment."""
    import email.utils
    import urllib.error
    import urllib.request

    from labkit.host.image.builder.ports import Fetched

    target = folder / "download"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "labkit"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer, open(target, "wb") as file:  # noqa: S310 - ADD takes http and https only
            while data := answer.read(1 << 18):
                file.write(data)
            stamp = answer.headers.get("Last-Modified")
    except urllib.error.HTTPError as error:
        error.close()  # it is the open answer as well
        raise InvalidParameter(
            f"failed to GET {url} with status {error.code} {error.reason}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InvalidParameter(f"failed to GET {url}: {reason}") from None
    modified = 0
    if stamp:
        try:
            modified = int(email.utils.parsedate_to_datetime(stamp).timestamp()) * 1_000_000_000
        except (TypeError, ValueError, OverflowError):
            modified = 0
    os.chmod(target, 0o600)
    return Fetched(target, modified)

"""A runtime without processes and an image store without files, for tests of the engine alone."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import NotFound, StartFailure
from labkit.host.engine.context import Context, Ports
from labkit.host.engine.engine import Engine
from labkit.host.isolation.cgroups.stats import CgroupStats
from labkit.host.isolation.spec import (
    ContainerSpec,
    IoSpec,
    ProcessSpec,
    ResourceLimits,
    RootSpec,
    Step,
)


@dataclass
class FakeExit:
    code: int
    finished_at_ns: int = 0
    oom_killed: bool = False
    error: str = ""


class FakeShim:
    """A process that ends when a test says so, or when it is killed."""

    def __init__(self, runtime: FakeRuntime, spec: ProcessSpec, directory: Path) -> None:
        self.runtime = runtime
        self.process = spec
        self.directory = directory
        self.pid = runtime.next_pid()
        self.init_pid = runtime.next_pid()
        self.started_at_ns = time.time_ns()
        self.steps: tuple[Step, ...] = (Step("clone", "clone3", "", 1, 2, "shim"),)
        self.signals: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self.released = False
        self.frozen = False
        self.cleaned = False
        self.ignores_term = False
        self.updates: list[ResourceLimits] = []
        self._exit: asyncio.Future[FakeExit] = asyncio.get_running_loop().create_future()
        self._readers: list[asyncio.StreamReader] = []
        self.input = bytearray()
        self.input_closed = False

    def exit(self, code: int = 0, **more: Any) -> None:
        if not self._exit.done():
            (self.directory / "exit.json").write_text(json.dumps({"code": code}))
            self._exit.set_result(FakeExit(code, time.time_ns(), **more))
            for reader in self._readers:
                reader.feed_eof()

    def say(self, text: str, stream: int = 1) -> None:
        data = text.encode()
        for reader in self._readers:
            reader.feed_data(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

    async def wait(self) -> FakeExit:
        return await asyncio.shield(self._exit)

    async def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> tuple[Any, Any]:
        reader = asyncio.StreamReader()
        self._readers.append(reader)
        if self._exit.done():
            reader.feed_eof()
        return reader, FakeWriter(self)

    async def release(self) -> None:
        self.released = True

    async def signal(self, number: int) -> None:
        self.signals.append(number)
        if number == 9 or (number == 15 and not self.ignores_term):
            self.exit(128 + number)

    async def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    async def pause(self) -> None:
        self.frozen = True

    async def resume(self) -> None:
        self.frozen = False

    def pids(self) -> list[int]:
        return [os.getpid()]

    def stats(self) -> CgroupStats:
        return CgroupStats(memory_usage_bytes=1000, pids_current=1, read_at_ns=time.time_ns())

    async def update(self, limits: ResourceLimits) -> list[str]:
        self.updates.append(limits)
        return []

    async def cleanup(self) -> None:
        self.cleaned = True

    def detach(self) -> None:
        return None


class FakeWriter:
    def __init__(self, shim: FakeShim) -> None:
        self._shim = shim

    def write(self, data: bytes) -> None:
        self._shim.input += data

    async def drain(self) -> None:
        return None

    def write_eof(self) -> None:
        self._shim.input_closed = True

    def close(self) -> None:
        return None


class FakeGroups:
    """Control groups by name."""

    def __init__(self) -> None:
        self.present: set[str] = set()

    def names(self) -> list[str]:
        return sorted(self.present)

    def open(self, name: str) -> FakeGroup:
        return FakeGroup(self, name)


@dataclass
class FakeGroup:
    groups: FakeGroups
    name: str

    def remove(self) -> bool:
        self.groups.present.discard(self.name)
        return True


class FakeRuntime:
    """Remembers every process by its folder, as if the shims lived outside the daemon."""

    def __init__(self) -> None:
        self.shims: dict[Path, FakeShim] = {}
        self.specs: list[ContainerSpec] = []
        self.ios: list[IoSpec] = []
        self.fail_with: str | None = None
        self.warnings: list[str] = []
        self.cgroups = FakeGroups()
        self._pid = 100_000

    def next_pid(self) -> int:
        self._pid += 1
        return self._pid

    @property
    def last(self) -> FakeShim:
        return list(self.shims.values())[-1]

    def warnings_for(self, limits: ResourceLimits) -> list[str]:
        return list(self.warnings)

    async def start(
        self, spec: ContainerSpec, io: IoSpec, directory: Path, *, hold: bool = False
    ) -> FakeShim:
        if self.fail_with:
            raise StartFailure(self.fail_with)
        self.specs.append(spec)
        self.ios.append(io)
        return self._started(spec.process, directory)

    def _started(self, process: ProcessSpec, directory: Path) -> FakeShim:
        shim = FakeShim(self, process, directory)
        self.shims[directory] = shim
        return shim

    async def exec(
        self,
        container: Any,
        process: ProcessSpec,
        io: IoSpec,
        directory: Path,
        *,
        hold: bool = False,
    ) -> FakeShim:
        if self.fail_with:
            raise StartFailure(self.fail_with)
        return self._started(process, directory)

    async def recover(self, directory: Path) -> FakeShim | FakeExit:
        shim = self.shims.get(directory)
        if shim is not None and not shim._exit.done():
            return shim
        try:
            code = json.loads((directory / "exit.json").read_text())["code"]
        except FileNotFoundError:
            return FakeExit(137, time.time_ns(), error="shim died")
        return FakeExit(code, time.time_ns())


@dataclass(frozen=True)
class FakeImage:
    id: str
    config: Mapping[str, Any]
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    created_ns: int = 0
    size: int = 1000
    labels: Mapping[str, str] = field(default_factory=dict)


def fake_image(name: str, **config: Any) -> FakeImage:
    digest = "sha256:" + name.encode().hex().ljust(64, "0")[:64]
    return FakeImage(digest, {"architecture": "amd64", "config": config}, (f"{name}:latest",))


class FakeImages:
    def __init__(self) -> None:
        self.known: dict[str, FakeImage] = {}
        self.add(fake_image("busybox", Cmd=["sh"], Env=["PATH=/bin"]))

    def add(self, image: FakeImage) -> None:
        for tag in image.repo_tags:
            self.known[tag] = image
            self.known[tag.partition(":")[0]] = image
        self.known[image.id] = image

    def get(self, reference: str) -> FakeImage:
        try:
            return self.known[reference]
        except KeyError:
            raise NotFound(
                f"No such image: {reference}" + ("" if ":" in reference else ":latest")
            ) from None

    def images(self, all: bool = False, filters: Any = None) -> list[FakeImage]:  # noqa: A002
        return list({image.id: image for image in self.known.values()}.values())

    def summary(self, image: FakeImage, *, containers: int = -1) -> dict[str, Any]:
        return {"Id": image.id, "Containers": containers}


class FakeSnapshots:
    """Plain folders as roots."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fail_remove: OSError | None = None

    def _spec(self, identifier: str) -> RootSpec:
        return RootSpec(path=self.folder / identifier)

    def prepare(self, container_id: str, image: Any) -> RootSpec:
        root = self.folder / container_id
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:\n")
        (root / "etc/group").write_text("root:x:0:\nana:x:1000:\nwheel:x:10:ana\n")
        return self._spec(container_id)

    def root_spec(self, container_id: str) -> RootSpec:
        return self._spec(container_id)

    def containers(self) -> list[str]:
        return [entry.name for entry in self.folder.iterdir()]

    def graph_driver(self, container_id: str) -> dict[str, Any]:
        return {"Name": "overlay2", "Data": {}}

    def remove(self, container_id: str) -> None:
        import shutil

        if self.fail_remove is not None:
            raise self.fail_remove
        shutil.rmtree(self.folder / container_id, ignore_errors=True)

    def size(self, container_id: str) -> int:
        return 10

    def changes(self, container_id: str) -> list[Any]:
        return []


@dataclass
class FakeProbe:
    mode: str = "rootful"
    cgroup: str = "v1"
    overlay: bool = True
    controllers: frozenset[str] = frozenset({"memory", "cpu", "pids", "cpuset"})


@dataclass
class World:
    """One host that can be closed and opened again over the same disk and processes."""

    paths: Any
    engine: Engine
    runtime: FakeRuntime
    images: FakeImages
    snapshots: FakeSnapshots

    @property
    def context(self) -> Context:
        return self.engine.context

    @property
    def ports(self) -> Ports:
        return Ports(self.runtime, self.images, self.snapshots, None, FakeProbe())

    async def create(self, name: str = "c1", **body: Any) -> str:
        body.setdefault("Image", "busybox")
        found = await self.engine.container_create(body, name=name)
        return str(found["Id"])

    async def run(self, name: str = "c1", **body: Any) -> FakeShim:
        await self.create(name, **body)
        await self.engine.container_start(name)
        return self.runtime.last

    async def ended(self, name: str = "c1") -> None:
        """Until the engine has noticed the end of a process."""
        await (await self.engine.container_wait(name))

    async def reopen(self, *, politely: bool = True) -> None:
        """A new engine over the old disk; impolitely, as after a kill -9."""
        if politely:
            await self.engine.close()
        else:
            for task in tuple(self.context._tasks):
                task.cancel()
            self.context.closing = True
            await self.context.records.close()
        self.engine = await Engine.open(self.paths, self.ports)

    def actions(self) -> list[str]:
        """Every event so far, by its action."""
        return [event["Action"] for event in self.context.events._history]


async def open_world(paths: Any) -> World:
    folder = paths.home / "roots"
    folder.mkdir(parents=True)
    runtime, images, snapshots = FakeRuntime(), FakeImages(), FakeSnapshots(folder)
    ports = Ports(runtime, images, snapshots, None, FakeProbe())
    engine = await Engine.open(paths, ports)
    return World(paths, engine, runtime, images, snapshots)

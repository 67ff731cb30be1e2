"""A lab host small enough for every test: a busybox root, a runtime, a proof of no leaks."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit.host.isolation import defaults
from labkit.host.isolation.capabilities import DEFAULT_CAPABILITIES
from labkit.host.isolation.runtime import ExitStatus, Runtime, Shim
from labkit.host.isolation.seccomp import compile_profile, load_profile
from labkit.host.isolation.spec import (
    CapabilitySets,
    ContainerSpec,
    IoSpec,
    NamespaceChoice,
    ProcessSpec,
    ResourceLimits,
    RootSpec,
)

BUSYBOX = Path("/bin/busybox")
ALL_NEW = dict.fromkeys(("mnt", "pid", "ipc", "uts", "net", "cgroup"), NamespaceChoice.NEW)
CAPS = frozenset(DEFAULT_CAPABILITIES)
DEFAULT_SETS = CapabilitySets(CAPS, CAPS, CAPS)
_FILTER: list[bytes | None] = []


def default_filter() -> bytes | None:
    """Docker's policy, compiled once for all tests."""
    if not _FILTER:
        _FILTER.append(compile_profile(load_profile(None), CAPS))
    return _FILTER[0]


def make_rootfs(folder: Path) -> Path:
    """A root with busybox under all its names, a user, and a few files to look at."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin" / "busybox")
    names = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout
    for name in names.split():
        link = folder / "bin" / name
        if not link.exists():
            link.symlink_to("busybox")
    for name in ("etc", "tmp", "home/student", "root"):
        (folder / name).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    (folder / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nstudent:x:1000:1000::/home/student:/bin/sh\n"
    )
    (folder / "etc/group").write_text("root:x:0:\nstudent:x:1000:\n")
    (folder / "etc/not-executable").write_text("#!/bin/sh\n")
    return folder


@dataclass
class Result:
    """A container that ran to its end."""

    status: ExitStatus
    stdout: str
    stderr: str
    shim: Shim

    @property
    def code(self) -> int:
        return self.status.code


def split_frames(data: bytes) -> tuple[bytes, bytes]:
    """stdout and stderr out of Docker's multiplexed frames."""
    streams = {1: b"", 2: b""}
    while data:
        size = int.from_bytes(data[4:8], "big")
        assert data[0] in streams
        assert data[1:4] == b"\0\0\0"
        assert len(data) >= 8 + size, "a frame was cut short"
        streams[data[0]] += data[8 : 8 + size]
        data = data[8 + size :]
    return streams[1], streams[2]


@dataclass
class Host:
    """One lab host for one test."""

    folder: Path
    rootfs: Path
    runtime: Runtime
    shims: list[Shim] = field(default_factory=list)
    _count: Any = field(default_factory=lambda: itertools.count(1))

    def spec(self, *argv: str, **options: Any) -> ContainerSpec:
        """A container as `docker run` would ask for it; options name fields of spec or process."""
        name = f"c{next(self._count)}-{uuid.uuid4().hex[:8]}"
        place = self.folder / name
        for each in ("upper", "work", "state"):
            (place / each).mkdir(parents=True, mode=0o700 if each == "state" else 0o755)
        process_fields = {
            "env": ("PATH=/bin", "HOME=/root"),
            "capabilities": DEFAULT_SETS,
            "seccomp": default_filter(),
        }
        for key in list(options):
            if key in ProcessSpec.__dataclass_fields__:
                process_fields[key] = options.pop(key)
        mounts = (*defaults.default_mounts(), *options.pop("extra_mounts", ()))
        fields: dict[str, Any] = {
            "root": RootSpec(
                lowers=(options.pop("lower", self.rootfs),),
                upper=place / "upper",
                work=place / "work",
                readonly=options.pop("read_only", False),
            ),
            "mounts": mounts,
            "devices": defaults.DEVICES,
            "masked_paths": defaults.MASKED_PATHS,
            "readonly_paths": defaults.READONLY_PATHS,
            "hostname": "box",
            "namespaces": {**ALL_NEW, **options.pop("namespaces", {})},
            "limits": ResourceLimits(pids=200),
        }
        return ContainerSpec(
            id=name, process=ProcessSpec(tuple(argv), **process_fields), **{**fields, **options}
        )

    def place(self, spec: ContainerSpec) -> Path:
        return self.folder / spec.id

    async def start(self, spec: ContainerSpec, *, hold: bool = False, **io: Any) -> Shim:
        io.setdefault("log_path", self.place(spec) / "log.json")
        shim = await self.runtime.start(spec, IoSpec(**io), self.place(spec) / "state", hold=hold)
        self.shims.append(shim)
        return shim

    async def finish(self, shim: Shim) -> Result:
        """Release a held process, take all it prints, wait for its end and clean up."""
        reader, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
        try:
            await shim.release()
            data = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
        status = await asyncio.wait_for(shim.wait(), 30)
        out, err = (data, b"") if shim.tty else split_frames(data)
        await shim.cleanup()
        return Result(status, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), shim)

    async def run(self, *argv: str, **options: Any) -> Result:
        """`docker run` in the foreground."""
        return await self.finish(await self.start(self.spec(*argv, **options), hold=True))

    async def sh(self, script: str, **options: Any) -> Result:
        return await self.run("sh", "-c", script, **options)

    async def exec(self, container: Shim, *argv: str, **options: Any) -> Result:
        place = self.folder / f"exec-{uuid.uuid4().hex[:8]}"
        place.mkdir(mode=0o700)
        options.setdefault("env", ("PATH=/bin",))
        options.setdefault("capabilities", DEFAULT_SETS)
        options.setdefault("seccomp", default_filter())
        shim = await self.runtime.exec(
            container, ProcessSpec(tuple(argv), **options), IoSpec(), place, hold=True
        )
        return await self.finish(shim)


def with_limits(spec: ContainerSpec, limits: ResourceLimits) -> ContainerSpec:
    return replace(spec, limits=limits)


def has_all_ids() -> bool:
    """False inside a user namespace that maps only some of them."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def read_proc(pid: int, name: str) -> bytes:
    """One file of a process, as the machine sees it."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def process_state(pid: int) -> str:
    """The letter of proc(5): Z is a zombie; empty when the process is gone."""
    try:
        return read_proc(pid, "stat").decode().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@dataclass(frozen=True)
class Traces:
    """What a test could leave behind on the machine."""

    mounts: tuple[str, ...]
    descriptors: frozenset[str]
    groups: tuple[str, ...]
    children: tuple[str, ...]


def _children() -> tuple[str, ...]:
    me = os.getpid()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        if int(rest.split()[1]) == me:
            found.append(f"{entry} {name} {rest.split()[0]}")
    return tuple(found)


def traces(runtime: Runtime, folder: Path) -> Traces:
    """A picture to compare with a later one; of mounts only those that have to do with `folder`."""
    descriptors = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue
    mounts = tuple(
        line
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(folder) in line
    )
    kept = frozenset(d for d in descriptors if "/proc/" not in d)
    return Traces(mounts, kept, tuple(runtime.cgroups.names()), _children())

"""One foreign runtime behind the interface of ours: start, exec, recover, and the same shims.

The container's folder receives a bundle (config.json, the place where its root is mounted) and the
runtime's own state. native/foreign.c runs the runtime; what it complains about is in its log.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from labkit.base.errors import StartFailure, Unsupported
from labkit.host.isolation.oci.writing import config_from, process_to
from labkit.host.isolation.runtime import Runtime
from labkit.host.isolation.shim import ExitStatus, Shim
from labkit.host.isolation.spec import (
    ContainerSpec,
    ForeignCommand,
    IoSpec,
    NamespaceChoice,
    NamespaceKind,
    ProcessSpec,
    ResourceLimits,
    RootSpec,
)

__all__ = ["ForeignRuntime"]

_HYBRID = "/sys/fs/cgroup/unified"
_DELETE_S = 30.0


class ForeignRuntime:
    """`path` is crun, runc or anything with their command line; `default` gives the shims."""

    def __init__(self, default: Runtime, path: str) -> None:
        self.default = default
        self.path = path
        self.cgroups = default.cgroups

    def warnings_for(self, limits: ResourceLimits) -> list[str]:
        """As the default runtime: the groups are the same."""
        return self.default.warnings_for(limits)

    @property
    def _hidden(self) -> str:
        # crun refuses machines on which both versions of control groups are mounted.
        return _HYBRID if os.path.basename(self.path) == "crun" and _is_hybrid() else ""

    def _words(self, folder: Path, *words: str) -> tuple[str, ...]:
        log = ("--log", str(folder / "runtime.log"), "--log-format", "json")
        return (self.path, "--root", str(folder / "state"), *log, *words)

    # Starting ---------------------------------------------------------------------------------

    async def start(
        self, spec: ContainerSpec, io: IoSpec, directory: Path, *, hold: bool = False
    ) -> Shim:
        """As Runtime.start; the runtime's own complaint is the failure's text."""
        command, root = self._prepare(spec, directory)
        # Everything else is in the bundle, and set by the runtime.
        changed = ContainerSpec(
            id=spec.id,
            process=replace(spec.process, foreign=command, seccomp=None, capabilities=None),
            root=root,
            namespaces={"mnt": NamespaceChoice.NEW},
            limits=ResourceLimits(device_rules=("a *:* rwm",)),
        )
        try:
            shim = await self.default.start(changed, io, directory, hold=hold)
        except StartFailure as error:
            self._delete(directory, spec.id)
            raise self._failure(error, directory, "create") from error
        except BaseException:
            self._delete(directory, spec.id)
            raise
        shim.also_clean = lambda: self._delete(directory, spec.id)
        return shim

    def _prepare(self, spec: ContainerSpec, directory: Path) -> tuple[ForeignCommand, RootSpec]:
        if self.default.host is not None and self.default.host.user is not None:
            raise Unsupported(
                f"{os.path.basename(self.path)} needs root here",
                hint="leave out --runtime, or run labkit as root",
            )
        for name in ("state", "rootfs"):
            (directory / name).mkdir(mode=0o711, exist_ok=True)
        (directory / "runtime.log").unlink(missing_ok=True)
        mountpoint, root = directory / "rootfs", spec.root
        if root.lowers and root.upper is None and len(root.lowers) == 1:
            mountpoint = root.lowers[0]  # one layer is that layer
        elif root.lowers:
            root = replace(root, path=mountpoint)
        elif root.path is not None:
            mountpoint = root.path
        config = config_from(spec, str(mountpoint), self._group_path(spec.id), _joined(spec))
        (directory / "config.json").write_text(json.dumps(config))
        make = ["create", "--bundle", str(directory), "--pid-file", str(directory / "pid")]
        if spec.process.tty:
            make += ["--console-socket", "@console"]
        command = ForeignCommand(
            make=self._words(directory, *make, spec.id),
            go=self._words(directory, "start", spec.id),
            hidden=self._hidden,
        )
        return command, root

    def _group_path(self, name: str) -> str:
        """Where our own groups are, from each hierarchy's top."""
        group = self.cgroups.open(name)
        folder = next(iter(group.folders), None)
        if folder is None:
            return f"/labkit/{self.cgroups.instance}/{name}"
        top = folder
        while not os.path.ismount(top) and top != top.parent:
            top = top.parent
        return f"/{folder.relative_to(top)}"

    def _failure(self, error: StartFailure, directory: Path, word: str) -> StartFailure:
        """The runtime's last words from its log, in the frame Docker puts them into."""
        said = ""
        try:
            for line in (directory / "runtime.log").read_text().splitlines():
                said = str(json.loads(line).get("msg") or said)
        except (OSError, ValueError):
            return error
        if not said:
            return error
        name = os.path.basename(self.path)
        prefix = f"{name} {word} failed: "
        said = said if said.startswith(prefix) else prefix + said
        frame = "failed to create task for container: failed to create shim task: "
        failure = type(error)(f"{frame}OCI runtime create failed: {said}: unknown", hint=error.hint)
        if hasattr(error, "steps"):
            failure.steps = error.steps  # type: ignore[attr-defined]
        return failure

    async def exec(
        self,
        container: Shim,
        process: ProcessSpec,
        io: IoSpec,
        directory: Path,
        *,
        hold: bool = False,
    ) -> Shim:
        """As Runtime.exec: the runtime's `exec` in the foreground, which is what the shim holds."""
        (directory / "process.json").write_text(json.dumps(process_to(process)))
        home, name = container.directory, container.group.name
        make = ["exec", "--process", str(directory / "process.json"), name]
        command = ForeignCommand(make=self._words(home, *make), hidden=self._hidden)
        changed = replace(process, foreign=command)
        return await self.default.exec(container, changed, io, directory, hold=hold)

    # Afterwards -------------------------------------------------------------------------------

    def _delete(self, directory: Path, name: str) -> None:
        """Have the runtime forget the container; whatever is left of its files goes with it."""
        words = list(self._words(directory, "delete", "--force", name))
        if self._hidden:
            hide = f'umount {self._hidden} 2>/dev/null; exec "$@"'
            words = ["unshare", "--mount", "sh", "-c", hide, "sh", *words]
        if (directory / "state").is_dir():
            subprocess.run(words, capture_output=True, check=False, timeout=_DELETE_S)
        shutil.rmtree(directory / "state", ignore_errors=True)
        with contextlib.suppress(OSError):
            (directory / "rootfs").rmdir()
        for each in ("config.json", "pid"):
            (directory / each).unlink(missing_ok=True)
        self._remove_parents()

    def _remove_parents(self) -> None:
        """Folders above the container's in hierarchies that we do not use, but the runtime does."""
        ours = set(self.cgroups.bases)
        with contextlib.suppress(OSError), os.scandir("/sys/fs/cgroup") as mounts:
            for mount in mounts:
                parent = Path(mount.path, "labkit", self.cgroups.instance)
                if parent not in ours:
                    with contextlib.suppress(OSError):
                        parent.rmdir()
                        parent.parent.rmdir()

    async def recover(self, directory: Path) -> Shim | ExitStatus:
        """As Runtime.recover."""
        found = await self.default.recover(directory)
        name = ""
        try:
            name = str(json.loads((directory / "run.json").read_bytes())["group"])
        except (OSError, ValueError, KeyError):
            for entry in (directory / "state").glob("*"):
                name = entry.name
        if isinstance(found, Shim):
            if not found.is_exec:
                found.also_clean = lambda: self._delete(directory, name)
        elif name:
            self._delete(directory, name)
        return found


def _is_hybrid() -> bool:
    return os.path.ismount(_HYBRID) and os.path.ismount("/sys/fs/cgroup/memory")


def _joined(spec: ContainerSpec) -> dict[NamespaceKind, str]:
    """Namespaces that exist, by the descriptors this process holds."""
    found: dict[NamespaceKind, str] = {}
    choices: Any = spec.namespaces.items()
    for kind, choice in choices:
        if isinstance(choice, int):
            found[kind] = f"/proc/{os.getpid()}/fd/{choice}"
    return found

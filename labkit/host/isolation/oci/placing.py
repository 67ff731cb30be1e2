"""Control groups at a given place in every hierarchy, rather than in a lab's own folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from labkit.base.errors import SystemFailure
from labkit.host.isolation.cgroups import Cgroup, CgroupDriver
from labkit.host.isolation.cgroups.driver import usable_unified_base
from labkit.host.isolation.cgroups.group import write_file
from labkit.host.isolation.cgroups.layout import WANTED_V2, find_layout
from labkit.host.isolation.spec import ResourceLimits

__all__ = ["PlacedDriver"]


class PlacedDriver(CgroupDriver):
    """Makes groups below `parent`, a path from each hierarchy's top (from where this process may
    make groups on a v2 tree that belongs to somebody else).

    Hierarchies in which nothing may be made are left out; then limits are warnings.
    """

    def __init__(self, parent: str) -> None:
        # Nothing of the lab's own layout is made, so the base class's constructor is not for us.
        self.instance = "oci"
        self.layout = find_layout()
        self._parent = parent
        self._v1: dict[str, Path] = {}
        self._unified: Path | None = None
        self._v2_controllers: frozenset[str] = frozenset()
        if self.layout.uses_unified:
            base = usable_unified_base(self.layout)
            if base is not None:
                self._unified = base / parent
                self._v2_controllers = self._hand_down(base)
        else:
            for controller, mount in self.layout.v1.items():
                if self._make(mount):
                    self._v1[controller] = mount / parent

    def _make(self, mount: Path) -> bool:
        folder = mount / self._parent
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)

    def _hand_down(self, base: Path) -> frozenset[str]:
        """Enable controllers from the base down to the parent, as far as they are let through."""
        if not self._make(base):
            raise SystemFailure(f"cannot create cgroup {base / self._parent}")
        folders = [base]
        for part in Path(self._parent).parts:
            folders.append(folders[-1] / part)
        given: set[str] = set()
        for folder in folders:
            given = set()
            for controller in self.layout.unified_controllers & set(WANTED_V2):
                with contextlib.suppress(OSError):
                    write_file(folder / "cgroup.subtree_control", f"+{controller}")
                    given.add(controller)
        return frozenset(given)

    def create(self, name: str, limits: ResourceLimits | None = None) -> Cgroup:
        """As CgroupDriver.create; v1 cpusets are filled in from the top first."""
        folder = self._v1.get("cpuset")
        if folder is not None:
            top = self.layout.v1["cpuset"]
            chain = [
                top.joinpath(*folder.relative_to(top).parts[: n + 1])
                for n in range(len(folder.relative_to(top).parts))
            ]
            for level in chain:
                for file in ("cpuset.cpus", "cpuset.mems"):
                    with contextlib.suppress(OSError):
                        if not (level / file).read_text().strip():
                            write_file(level / file, (level.parent / file).read_text().strip())
        return super().create(name, limits)

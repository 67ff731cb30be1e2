"""A lab instance of its own for each test, which must leave nothing of itself behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.errors import Unsupported
from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import find_anchor, shim_path, start_anchor, stop_anchor
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.probe import Probe, probe
from labkit.host.isolation.spec import HostNamespaces


@pytest.fixture(scope="session")
def machine() -> Probe:
    """What this machine allows; skips where containers cannot run."""
    try:
        shim_path()
    except Unsupported as error:
        pytest.skip(error.message)
    found = probe()
    if found.mode == "hollow":
        pytest.skip(f"no containers here: {found.reasons[0].name}: {found.reasons[0].found}")
    return found


@pytest.fixture
def paths(machine: Probe) -> Iterator[LabPaths]:
    # Short, because socket addresses are; not pytest's tmp_path, whose names are long.
    base = Path(tempfile.mkdtemp(prefix="lk-"))
    lab = LabPaths(base / "home", base / "run")
    lab.prepare()
    yield lab
    assert find_anchor(lab) is None, "a lab host was left running"
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(base) not in mounts, "a mount of the lab is seen by the machine"
    assert "labkit-view" not in mounts
    shutil.rmtree(base)


@pytest.fixture
def driver(paths: LabPaths) -> Iterator[CgroupDriver]:
    made = CgroupDriver(paths.instance)
    yield made
    assert made.names() == [], "control groups were left behind"
    assert made.close()
    assert not [base for base in made.bases if base.exists()]


@pytest.fixture
def host(paths: LabPaths, machine: Probe) -> Iterator[HostNamespaces]:
    if os.geteuid() != 0:
        pytest.skip("needs root: an ordinary user's host is tested in test_rootless.py")
    namespaces = start_anchor(paths, "default", machine)
    yield namespaces
    stop_anchor(paths)
    for handle in (namespaces.mnt, namespaces.net):
        os.close(handle)


@pytest.fixture
def rootfs(paths: LabPaths) -> Path:
    """A small root file system: busybox and its usual names."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is missing (package busybox-static)")
    # A program that needs a loader would not run in a root that has none.
    if b"/ld-linux" in Path(busybox).read_bytes()[:4096]:
        pytest.skip("busybox is not static (package busybox-static)")
    root = paths.home / "rootfs"
    for name in ("bin", "proc", "tmp", "dev", "etc"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    applets = "sh ps ls mount hostname ip id cat sleep tail head mkdir true"
    for applet in applets.split(" "):
        (root / "bin" / applet).symlink_to("busybox")
    return root

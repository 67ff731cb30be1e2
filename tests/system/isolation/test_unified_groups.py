"""cgroup v2: the process is born in its group (CLONE_INTO_CGROUP) and sees only that."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from isolation_kit import Host

from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.runtime import Runtime


def unified_root() -> Path | None:
    for folder in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (folder / "cgroup.subtree_control").exists():
            return folder
    return None


@pytest.fixture
async def unified(host: Host) -> AsyncIterator[Host]:
    root = unified_root()
    if root is None or not os.access(root, os.W_OK):
        pytest.skip("no writable cgroup v2 tree here")
    driver = CgroupDriver(f"v2-{host.folder.name}", root=root)
    if driver.kind != "v2":
        pytest.skip("the cgroup v2 tree cannot be used")
    runtime = Runtime(host=None, instance=driver.instance, cgroups=driver)
    inside = Host(host.folder / "unified", host.rootfs, runtime)
    yield inside
    for shim in inside.shims:
        await shim.cleanup()
    assert driver.names() == []
    assert driver.close()
    runtime.close()


async def test_a_process_is_born_in_its_group(unified: Host) -> None:
    shim = await unified.start(unified.spec("sleep", "100"))
    assert shim.pids() == [shim.init_pid]
    found = await unified.exec(shim, "cat", "/proc/self/cgroup")
    assert "0::/" in found.stdout.splitlines()


async def test_the_group_is_shown_read_only(unified: Host) -> None:
    found = await unified.sh("ls /sys/fs/cgroup; mkdir /sys/fs/cgroup/x || echo refused")
    assert "cgroup.procs" in found.stdout
    assert found.stdout.endswith("refused\n")


async def test_pause_and_kill_work_through_it(unified: Host) -> None:
    shim = await unified.start(unified.spec("sh", "-c", "sleep 100 & sleep 100"))
    await asyncio.sleep(0.05)
    await shim.pause()
    assert shim.group.is_frozen()
    await shim.cleanup()
    assert not shim.group.exists

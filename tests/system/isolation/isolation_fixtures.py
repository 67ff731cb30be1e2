"""One busybox root for a whole run; a fresh host, checked for leaks, for each test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from isolation_kit import BUSYBOX, Host, Traces, make_rootfs, traces

from labkit.host.isolation.runtime import Runtime

__all__ = ["host", "rootfs"]


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not BUSYBOX.exists():
        pytest.skip("busybox is missing (Debian package busybox-static)")
    return make_rootfs(tmp_path_factory.mktemp("root") / "rootfs")


def _new_children(before: Traces, after: Traces) -> list[str]:
    """Children (pid, name, state) that were not there before, whatever their state was."""
    known = {child.split()[0] for child in before.children}
    return [child for child in after.children if child.split()[0] not in known]


@pytest.fixture
async def host(short_tmp: Path, rootfs: Path) -> AsyncIterator[Host]:
    runtime = Runtime(host=None, instance=f"test-{short_tmp.name}", probe=None)
    before = traces(runtime, short_tmp)
    host = Host(short_tmp, rootfs, runtime)
    yield host
    for shim in host.shims:
        await shim.cleanup()
    assert runtime.cgroups.names() == []
    runtime.close()
    assert runtime.cgroups.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):  # the kernel ends what was told to end a moment later
            while _new_children(before, traces(runtime, short_tmp)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    after = traces(runtime, short_tmp)
    assert after.mounts == before.mounts
    assert not _new_children(before, after)
    assert after.descriptors <= before.descriptors

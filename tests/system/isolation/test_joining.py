"""Namespaces that are not new: the lab host's (an anchor holds them) and another container's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from isolation_kit import Host, traces

from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import find_anchor, start_anchor, stop_anchor
from labkit.host.isolation.probe import probe
from labkit.host.isolation.runtime import Runtime
from labkit.host.isolation.spec import HostNamespaces, NamespaceChoice


@pytest.fixture
async def anchored(host: Host, lab_paths: LabPaths) -> AsyncIterator[Host]:
    """A host whose containers start inside a lab host's own namespaces."""
    found = probe(lab_paths)
    if found.mode != "rootful":
        pytest.skip("needs a machine where an anchor can be made as root")
    before = traces(host.runtime, host.folder)
    namespaces = start_anchor(lab_paths, "default", found)
    runtime = Runtime(host=namespaces, instance=f"anchored-{host.folder.name}", probe=found)
    inside = Host(host.folder / "anchored", host.rootfs, runtime)
    yield inside
    for shim in inside.shims:
        await shim.cleanup()
    assert runtime.cgroups.close()
    runtime.close()
    stop_anchor(lab_paths, "default")
    for fd in (namespaces.mnt, namespaces.net):
        os.close(fd)
    assert traces(host.runtime, host.folder).mounts == before.mounts
    assert find_anchor(lab_paths, "default") is None


def inode(namespaces: HostNamespaces, kind: str) -> str:
    return f"{kind}:[{os.fstat(getattr(namespaces, kind)).st_ino}]"


async def test_host_network_means_the_lab_hosts(anchored: Host) -> None:
    namespaces = anchored.runtime.host
    assert namespaces is not None
    found = await anchored.sh(
        "readlink /proc/self/ns/net; readlink /proc/self/ns/mnt; cat /proc/net/dev",
        namespaces={"net": NamespaceChoice.HOST},
    )
    net, mnt = found.stdout.splitlines()[:2]
    assert net == inode(namespaces, "net") != os.readlink("/proc/self/ns/net")
    assert mnt != inode(namespaces, "mnt")
    assert "lo:" in found.stdout


async def test_a_shim_lives_on_the_lab_host(anchored: Host) -> None:
    namespaces = anchored.runtime.host
    assert namespaces is not None
    shim = await anchored.start(anchored.spec("sleep", "100"))
    assert os.readlink(f"/proc/{shim.pid}/ns/mnt") == inode(namespaces, "mnt")
    assert os.readlink(f"/proc/{shim.pid}/ns/net") == inode(namespaces, "net")
    found = await anchored.exec(shim, "readlink", "/proc/self/ns/net")
    assert found.stdout.strip() == os.readlink(f"/proc/{shim.init_pid}/ns/net")


@pytest.mark.parametrize("kind", ["net", "ipc", "uts", "pid"])
async def test_a_containers_namespace_can_be_joined(host: Host, kind: str) -> None:
    first = await host.start(host.spec("sleep", "100"))
    with ExitStack() as stack:
        fd = os.open(f"/proc/{first.init_pid}/ns/{kind}", os.O_RDONLY)
        stack.callback(os.close, fd)
        found = await host.sh(f"readlink /proc/self/ns/{kind}; ps", namespaces={kind: fd})
    assert found.stdout.splitlines()[0] == os.readlink(f"/proc/{first.init_pid}/ns/{kind}")
    assert ("sleep 100" in found.stdout) == (kind == "pid")
    assert not first.has_exited

"""Control groups on the kernel that runs the tests, whichever version it mounts."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.spec import ResourceLimits

pytestmark = pytest.mark.root
MIB = 1 << 20


@pytest.fixture(autouse=True)
def usable(driver: CgroupDriver) -> None:
    if driver.kind == "none":
        pytest.skip("no cgroup hierarchy that may be written")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def _need(driver: CgroupDriver, controller: str) -> None:
    if controller not in driver.controllers:
        pytest.skip(f"no {controller} controller here")


def test_a_process_moved_in_is_listed_frozen_thawed_and_killed(
    driver: CgroupDriver, sleeper: subprocess.Popen[bytes]
) -> None:
    group = driver.create("one", ResourceLimits())
    group.add(sleeper.pid)
    assert group.pids() == [sleeper.pid]
    group.freeze()
    assert group.is_frozen()
    group.thaw()
    assert not group.is_frozen()
    group.freeze()  # killing must work on what is frozen, too
    group.kill(timeout_s=0.05)  # a zombie stays listed until its parent, this test, reaps it
    sleeper.wait(timeout=5)
    assert sleeper.returncode == -signal.SIGKILL
    assert group.remove()


def test_limits_come_back_from_the_kernel(driver: CgroupDriver) -> None:
    _need(driver, "memory")
    _need(driver, "pids")
    limits = ResourceLimits(memory_bytes=64 * MIB, nano_cpus=500_000_000, pids=17)
    group = driver.create("two", limits)
    try:
        stats = group.stats()
        assert stats.memory_limit_bytes == 64 * MIB
        assert stats.pids_limit == 17
        assert group.update(ResourceLimits(memory_bytes=256 * MIB)) == []
        assert group.stats().memory_limit_bytes == 256 * MIB
        assert group.update(ResourceLimits(memory_bytes=32 * MIB)) == []
        assert group.stats().memory_limit_bytes == 32 * MIB
    finally:
        group.remove()


def test_a_block_weight_either_holds_or_is_told(driver: CgroupDriver) -> None:
    _need(driver, "io")
    group = driver.create("weight", ResourceLimits(blkio_weight=300))
    try:
        names = ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight")
        found = [text for text in map(group.read, names) if text]
        assert bool(group.warnings) == (not found)
        assert not found or "100" not in found  # the kernel's default
    finally:
        group.remove()


def test_an_impossible_cpuset_is_refused_and_leaves_no_group(driver: CgroupDriver) -> None:
    _need(driver, "cpuset")
    with pytest.raises(InvalidParameter, match="Requested CPUs are not available"):
        driver.create("three", ResourceLimits(cpuset_cpus="4000"))
    assert driver.names() == []


def test_a_memory_hog_is_killed_and_counted(driver: CgroupDriver) -> None:
    _need(driver, "memory")
    group = driver.create("four", ResourceLimits(memory_bytes=32 * MIB, memory_swap_bytes=32 * MIB))
    code = "import sys; sys.stdin.readline(); x = b'x' * (200 << 20)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    group.add(process.pid)
    process.communicate(b"\n", timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert group.oom_kills() == 1
    assert group.remove()


def test_a_fork_bomb_stops_at_the_limit(driver: CgroupDriver) -> None:
    _need(driver, "pids")
    group = driver.create("five", ResourceLimits(pids=5))
    script = "read x; for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait"
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    group.add(process.pid)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    deadline = time.monotonic() + 10
    while group.stats().pids_current < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(group.pids()) <= 5
    group.kill()
    process.wait(timeout=5)
    process.stdin.close()
    assert group.remove()


def test_a_child_joins_by_the_handles_it_inherits(driver: CgroupDriver) -> None:
    if driver.kind == "v2":
        pytest.skip("v2: joining is CLONE_INTO_CGROUP, which Python cannot do")
    group = driver.create("six", ResourceLimits())
    with group.join() as handles:
        words = " ".join(f"echo 0 >&{fd};" for fd in handles.tasks)
        process = subprocess.Popen(["bash", "-c", f"{words} exec sleep 60"], pass_fds=handles.tasks)
        deadline = time.monotonic() + 10
        while not group.pids() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert group.pids() == [process.pid]
    group.kill()
    process.wait(timeout=5)
    assert group.remove()


def test_devices_outside_the_list_cannot_be_opened(driver: CgroupDriver) -> None:
    group = driver.create("seven", ResourceLimits())
    if group.warnings:
        group.remove()
        pytest.skip(group.warnings[0])
    code = (
        "import sys; sys.stdin.readline()\n"
        "open('/dev/null', 'r+b').close()\n"
        "try:\n open('/dev/kmsg', 'rb'); print('opened')\n"
        "except PermissionError: print('refused')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    group.add(process.pid)
    out, _ = process.communicate(b"\n", timeout=30)
    assert out == b"refused\n"
    assert group.remove()


def test_groups_of_an_earlier_daemon_are_found_and_cleaned(
    driver: CgroupDriver, sleeper: subprocess.Popen[bytes]
) -> None:
    driver.create("kept").remove()
    first, second = driver.create("first"), driver.create("second")
    first.add(sleeper.pid)
    again = CgroupDriver(driver.instance)
    assert again.names() == ["first", "second"]
    assert again.open("first").pids() == [sleeper.pid]
    assert again.clean(keep=["first"]) == ["second"]
    assert not second.exists
    first.kill(timeout_s=0.05)
    sleeper.wait(timeout=5)
    assert again.clean() == ["first"]

"""Chapter 01's road: each primitive changes exactly one thing, and nothing outlives the box."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter, Unavailable
from labkit.host.isolation.anchor import process_start_time
from labkit.host.isolation.box import BoxProcess, BoxReply
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.seccomp import compile_profile, load_profile
from labkit.host.isolation.spec import HostNamespaces

pytestmark = pytest.mark.root


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that waits for its reaper has."""
    try:
        process_start_time(pid)
    except OSError:
        return True
    return False


@pytest.fixture
async def box(host: HostNamespaces, driver: CgroupDriver) -> AsyncIterator[BoxProcess]:
    made = await BoxProcess.start(host, identifier="t1", driver=driver)
    yield made
    pids = made.pids()
    await made.close()
    assert not [pid for pid in pids if not is_gone(pid)]


def status_of(pid: int, key: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{key}:")).partition(":")[2].strip()


async def do(box: BoxProcess, op: str, **args: object) -> BoxReply:
    reply = await box.call(op, **args)
    assert reply.ok, (reply.message, reply.hint)
    return reply


async def output(box: BoxProcess, argv: str | list[str]) -> str:
    reply = await do(box, "run", argv=argv)
    assert reply.result["exit_code"] == 0, reply.result
    text = reply.result["stdout"]
    assert isinstance(text, bytes)
    return text.decode()


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {kind for kind in after if before[kind] != after[kind]}


async def test_a_fresh_box_shares_everything_with_its_host(
    box: BoxProcess, host: HostNamespaces
) -> None:
    described = await box.describe()
    assert described["namespaces"] == described["host_namespaces"]
    assert described["root"] == "/"


@pytest.mark.parametrize("kind", ["uts", "mnt", "net", "ipc", "cgroup", "user", "pid"])
async def test_unshare_changes_one_namespace(box: BoxProcess, kind: str) -> None:
    before = box.namespaces
    reply = await do(box, "unshare", kinds=kind)
    assert changed(before, box.namespaces) == {kind}
    assert reply.steps[0].call == "unshare"


async def test_the_name_is_changed_for_the_box_alone(box: BoxProcess) -> None:
    await do(box, "unshare", kinds="uts")
    await do(box, "sethostname", name="mine")
    assert await output(box, "hostname") == "mine\n"
    assert os.uname().nodename != "mine"
    assert (await box.describe())["hostname"] == "mine"


async def test_proc_shows_the_host_until_it_is_fresh(box: BoxProcess) -> None:
    before = box.pid
    await do(box, "unshare", kinds="pid")
    assert box.pid != before
    assert (await do(box, "info")).result["inner_pid"] == 1
    # Not ps itself: it looks for its own process id in /proc, which is another one outside.
    listing = ["sh", "-c", "echo /proc/[0-9]*"]
    assert f"/proc/{box.pid}" in (await output(box, listing)).split()
    await do(box, "unshare", kinds="mnt")
    await do(box, "mount", source="proc", target="/proc", fstype="proc")
    assert len((await output(box, listing)).split()) == 2


async def test_a_chroot_can_be_left_and_a_pivoted_root_cannot(
    box: BoxProcess, rootfs: Path
) -> None:
    await do(box, "unshare", kinds="mnt")
    await do(box, "mount", source=str(rootfs), target=str(rootfs), flags="bind")
    await do(box, "chroot", path=str(rootfs))
    assert "lib" not in (await output(box, "ls /")).split()
    assert (await box.describe())["root"] == str(rootfs)
    # The way out: a root below the working directory, then up.
    await do(box, "chroot", path="/tmp", chdir=False)
    await do(box, "chdir", path="../../../../../../../..")
    await do(box, "chroot", path=".")
    assert "lib" in (await output(box, "ls /")).split()
    await do(box, "pivot_root", new=str(rootfs))
    for path in ("/tmp", "../../../../../../../..", "."):
        op = "chdir" if path.startswith("..") else "chroot"
        await do(box, op, path=path, **({"chdir": False} if path == "/tmp" else {}))
    assert "lib" not in (await output(box, "ls /")).split()
    described = await box.describe()
    assert described["pivoted"] is True
    assert described["mounts"] == ["/"]


async def test_the_old_root_can_be_kept_and_taken_away_later(box: BoxProcess, rootfs: Path) -> None:
    await do(box, "unshare", kinds="mnt")
    await do(box, "mount", source=str(rootfs), target=str(rootfs), flags="bind")
    await do(box, "pivot_root", new=str(rootfs), old=".old")
    assert "lib" in (await output(box, "ls /.old")).split()
    await do(box, "umount", target="/.old", detach=True)
    assert await output(box, "ls /.old") == ""


async def test_a_new_network_has_lo_alone(box: BoxProcess) -> None:
    await do(box, "unshare", kinds="net")
    assert (await box.describe())["interfaces"] == ["lo"]
    await do(box, "lo_up")
    assert "UP" in await output(box, "ip -br link")


async def test_memory_beyond_the_group_kills_and_the_counter_says_so(
    box: BoxProcess, driver: CgroupDriver
) -> None:
    if "memory" not in driver.controllers:
        pytest.skip("no memory controller here")
    reply = await do(box, "cgroup", memory="64m", pids=20)
    assert reply.result["memory_limit_bytes"] == 64 << 20
    assert reply.steps[0].call == "mkdir"
    hog = await do(box, "run", argv=["tail", "/dev/zero"], timeout_s=20)
    assert (hog.result["exit_code"], hog.result["timed_out"]) == (137, 0)
    counters = (await do(box, "cgroup_read")).result
    assert counters["oom_kills"] == 1
    assert isinstance(counters["memory_failcnt"], int)
    assert counters["memory_failcnt"] > 0
    assert (await box.describe())["own_cgroup"] is True


async def test_root_inside_is_an_ordinary_user_outside(box: BoxProcess) -> None:
    await do(box, "unshare", kinds="user")
    assert (await do(box, "info")).result["uid"] == 65534
    await do(box, "map_ids", uids=[[0, 100000, 1000]], gids=[[0, 100000, 1000]])
    await do(box, "setgid", gid=0)
    await do(box, "setuid", uid=0)
    assert await output(box, "id -u") == "0\n"
    assert os.stat(f"/proc/{box.pid}").st_uid in (0, 100000)
    assert status_of(box.pid, "Uid").startswith("100000")
    again = await box.call("uid_map", map=[[0, 0, 1]])
    assert not again.ok
    assert "once only" in again.hint


async def test_a_filter_and_dropped_capabilities_bind_what_runs(box: BoxProcess) -> None:
    await do(box, "capabilities", keep=["CHOWN"])
    assert "CapEff:\t0000000000000001" in await output(box, "cat /proc/self/status")
    await do(box, "no_new_privs")
    program = compile_profile(load_profile(None), ["CAP_CHOWN"])
    await do(box, "seccomp", program=program)
    assert "Seccomp:\t2" in await output(box, "cat /proc/self/status")
    refused = await box.call("unshare", kinds="net")
    assert not refused.ok
    assert refused.steps[-1].error == 1


async def test_a_refusal_is_a_reply_with_a_reason_and_a_hint(box: BoxProcess) -> None:
    reply = await box.call("pivot_root", new="/etc")
    assert not reply.ok
    assert reply.message.startswith("pivot_root")
    assert "mount point" in reply.hint
    missing = await box.call("run", argv="no-such-program")
    assert (missing.ok, missing.result["exit_code"]) == (False, 127)
    with pytest.raises(InvalidParameter):
        await box.call("fly")


async def test_time_and_output_of_a_program_are_bounded(box: BoxProcess) -> None:
    slow = await do(box, "run", argv="sleep 60", timeout_s=0.2)
    assert slow.result["timed_out"] == 1
    loud = await do(box, "run", argv="cat /dev/zero", max_output_bytes=1000)
    assert loud.result["truncated"] == 1
    assert len(loud.result["stdout"]) == 1000  # type: ignore[arg-type]
    assert await output(box, "echo still here") == "still here\n"
    fed = await do(box, "run", argv="cat", stdin="through a pipe")
    assert fed.result["stdout"] == b"through a pipe"


async def test_what_runs_in_the_background_is_seen_and_dies_with_the_box(
    host: HostNamespaces, driver: CgroupDriver
) -> None:
    box = await BoxProcess.start(host, identifier="t2", driver=driver)
    await do(box, "unshare", kinds="pid")
    spawned = await do(box, "spawn", argv="sleep 300")
    assert (await do(box, "children")).result[
        "children"
    ] == f"{spawned.result['inner_pid']} running 0\n"
    pids = box.pids()
    assert len(pids) == 3
    await box.close()
    assert not [pid for pid in pids if not is_gone(pid)]
    with pytest.raises(Unavailable):
        await box.call("info")
    await box.close()


async def test_a_box_that_was_killed_says_so(host: HostNamespaces, driver: CgroupDriver) -> None:
    box = await BoxProcess.start(host, identifier="t3", driver=driver)
    os.kill(box.pid, 9)
    with pytest.raises(Unavailable, match="killed by signal 9"):
        await box.call("info")
    assert (await box.describe())["alive"] is False
    await box.close()


async def test_a_box_joins_another_one(host: HostNamespaces, driver: CgroupDriver) -> None:
    first = await BoxProcess.start(host, identifier="a", driver=driver)
    second = await BoxProcess.start(host, identifier="b", driver=driver)
    await do(first, "unshare", kinds=["uts", "net"])
    await do(first, "sethostname", name="shared")
    await do(second, "setns", pid=first.pid, kinds=["uts", "net"])
    assert second.namespaces == first.namespaces
    assert await output(second, "hostname") == "shared\n"
    await first.close()
    await second.close()


async def test_a_fork_bomb_in_a_box_meets_its_fuse(box: BoxProcess, driver: CgroupDriver) -> None:
    if "pids" not in driver.controllers:
        pytest.skip("no pids controller here")
    bomb = "i=0; while [ $i -lt 400 ]; do sleep 30 & i=$((i+1)); done"
    await box.call("run", argv=["sh", "-c", bomb], timeout_s=5)
    assert len(box.pids()) <= 256

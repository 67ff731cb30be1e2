"""The driver on a folder that looks like a delegated v2 tree: what is written where, and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.cgroups import driver as driver_module
from labkit.host.isolation.spec import ResourceLimits

FILES = {
    "memory.max": "max\n",
    "memory.swap.max": "max\n",
    "memory.current": "4096\n",
    "memory.peak": "8192\n",
    "memory.stat": "anon 1\ninactive_file 77\n",
    "memory.events": "low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\n",
    "cpu.max": "max 100000\n",
    "cpu.weight": "100\n",
    "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 1\n"
    "throttled_usec 50\n",
    "pids.max": "max\n",
    "pids.current": "2\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    "cgroup.procs": "",
    "cgroup.controllers": "cpu memory pids\n",
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cgroup.freeze": "0\n",
}


def _fill(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "cgroup.subtree_control").write_text("")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CgroupDriver:
    _fill(tmp_path)
    _fill(tmp_path / "labkit")
    _fill(tmp_path / "labkit" / "test")
    # A plain folder holds no BPF programs: what cannot be restricted here is not the subject.
    monkeypatch.setattr(driver_module.devices, "attach_loaded_program", lambda *_: None)
    return CgroupDriver("test", root=tmp_path)


def test_it_is_recognized_as_v2_with_the_controllers_it_offers(driver: CgroupDriver) -> None:
    assert driver.kind == "v2"
    assert {"memory", "pids", "cpu"} <= driver.controllers


def test_limits_are_written_into_the_groups_own_files(driver: CgroupDriver, tmp_path: Path) -> None:
    folder = tmp_path / "labkit" / "test" / "abc"
    _fill(folder)
    limits = ResourceLimits(memory_bytes=1 << 26, nano_cpus=500_000_000, pids=7)
    group = driver.create("abc", limits)
    assert (folder / "memory.max").read_text().startswith(str(1 << 26))
    assert (folder / "cpu.max").read_text().startswith("50000 100000")
    assert (folder / "pids.max").read_text().startswith("7")
    assert group.unified == folder


def test_a_missing_file_is_a_warning_and_not_an_error(driver: CgroupDriver, tmp_path: Path) -> None:
    _fill(tmp_path / "labkit" / "test" / "abc")
    group = driver.create("abc", ResourceLimits(blkio_weight=100, cpuset_cpus="0"))
    ending = "or the cgroup is not mounted."
    assert group.warnings == [
        f"Your kernel does not support cpuset {ending} Cpuset discarded.",
        f"Your kernel does not support Block I/O weight {ending} Weight discarded.",
    ]


def test_counters_are_read_with_their_units(driver: CgroupDriver, tmp_path: Path) -> None:
    _fill(tmp_path / "labkit" / "test" / "abc")
    group = driver.open("abc")
    stats = group.stats()
    assert stats.version == 2
    assert (stats.memory_usage_bytes, stats.memory_max_usage_bytes) == (4096, 8192)
    assert stats.memory_limit_bytes == 0
    assert (stats.memory_inactive_file_bytes, stats.memory_failcnt) == (77, 9)
    assert (stats.cpu_total_ns, stats.cpu_user_ns, stats.cpu_system_ns) == (10_000, 6000, 4000)
    assert (stats.throttling_periods, stats.throttled_periods) == (3, 1)
    assert stats.throttled_time_ns == 50_000
    assert [(c.operation, c.value) for c in stats.block_bytes] == [("read", 1), ("write", 2)]
    assert [(c.operation, c.value) for c in stats.block_operations] == [("read", 3), ("write", 4)]
    assert group.oom_kills() == 2


def test_a_group_that_is_gone_reads_as_zeros(driver: CgroupDriver) -> None:
    group = driver.open("never")
    assert group.stats().memory_usage_bytes == 0
    assert group.pids() == []
    assert not group.exists


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_cannot_lead_elsewhere(driver: CgroupDriver, name: str) -> None:
    with pytest.raises(InvalidParameter):
        driver.open(name)


def test_a_file_of_another_group_cannot_be_written(driver: CgroupDriver, tmp_path: Path) -> None:
    _fill(tmp_path / "labkit" / "test" / "abc")
    with pytest.raises(PermissionError):
        driver.open("abc").write("../memory.max", "1")


def test_joining_a_group_that_is_gone_fails_by_name(driver: CgroupDriver) -> None:
    with pytest.raises(SystemFailure, match="never"):
        driver.open("never").join()


def test_without_any_hierarchy_groups_exist_in_name_only(tmp_path: Path) -> None:
    driver = CgroupDriver("test", root=tmp_path)
    assert driver.kind == "none"
    group = driver.create("abc", ResourceLimits(memory_bytes=1 << 20))
    assert group.folders == ()
    assert len(group.warnings) == 1
    with group.join() as handles:
        assert handles.tasks == ()
        assert handles.directory is None
    assert group.remove()


def test_where_strangers_live_no_controller_is_handed_down(tmp_path: Path) -> None:
    for name in ("", "labkit", "labkit/test", "labkit.daemon"):
        _fill(tmp_path / name)
    (tmp_path / "cgroup.type").write_text("domain\n")
    (tmp_path / "cgroup.procs").write_text("1\n")
    driver = CgroupDriver("test", root=tmp_path)
    assert driver.controllers == {"freezer"}
    assert (tmp_path / "cgroup.subtree_control").read_text() == ""
    assert driver.warnings_for(ResourceLimits(pids=7, nano_cpus=500_000_000)) != []

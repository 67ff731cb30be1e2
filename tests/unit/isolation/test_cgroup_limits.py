"""Docker's limits become the values that each cgroup version understands."""

from __future__ import annotations

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.cgroups.devices import device_program, parse_device_rule
from labkit.host.isolation.cgroups.layout import parse_mountinfo
from labkit.host.isolation.cgroups.limits import (
    device_rules,
    settings_v1,
    settings_v2,
    shares_to_weight,
    unenforceable,
)
from labkit.host.isolation.spec import ResourceLimits, ThrottleDevice

MIB = 1 << 20


def v1(**limits: object) -> dict[str, str]:
    settings = settings_v1(ResourceLimits(**limits), device_number=lambda _: (8, 0))  # type: ignore[arg-type]
    return {setting.file: setting.value for setting in settings}


def v2(**limits: object) -> dict[str, str]:
    settings = settings_v2(ResourceLimits(**limits), device_number=lambda _: (8, 0))  # type: ignore[arg-type]
    return {setting.file: setting.value for setting in settings}


def test_no_limits_write_nothing() -> None:
    assert v1() == {}
    assert v2() == {}


def test_memory_without_swap_said_allows_as_much_swap_again() -> None:
    assert v1(memory_bytes=64 * MIB) == {
        "memory.limit_in_bytes": str(64 * MIB),
        "memory.memsw.limit_in_bytes": str(128 * MIB),
    }
    assert v2(memory_bytes=64 * MIB) == {
        "memory.max": str(64 * MIB),
        "memory.swap.max": str(64 * MIB),
    }


@pytest.mark.parametrize(
    ("total", "swap"), [(-1, "max"), (64 * MIB, "0"), (96 * MIB, str(32 * MIB))]
)
def test_v2_counts_swap_alone(total: int, swap: str) -> None:
    assert v2(memory_bytes=64 * MIB, memory_swap_bytes=total)["memory.swap.max"] == swap


@pytest.mark.parametrize(
    ("nano", "quota"),
    [(500_000_000, 50_000), (1_500_000_000, 150_000), (10_000_000, 1000), (1, 1000)],
)
def test_cpus_become_a_quota_of_a_tenth_of_a_second(nano: int, quota: int) -> None:
    assert v1(nano_cpus=nano) == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": str(quota),
    }
    assert v2(nano_cpus=nano) == {"cpu.max": f"{quota} 100000"}


def test_an_explicit_period_without_quota_lifts_the_limit() -> None:
    assert v2(cpu_period_us=50_000) == {"cpu.max": "max 50000"}
    assert v1(cpu_period_us=50_000)["cpu.cfs_quota_us"] == "-1"


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 100), (262_144, 10_000), (1, 1), (999_999, 10_000)]
)
def test_shares_and_weight_meet_at_their_defaults_and_ends(shares: int, weight: int) -> None:
    assert shares_to_weight(shares) == weight


def test_weight_grows_with_shares() -> None:
    weights = [shares_to_weight(shares) for shares in range(2, 262_145, 997)]
    assert weights == sorted(weights)


def test_the_rest_goes_where_each_version_keeps_it() -> None:
    throttle = (ThrottleDevice("/dev/vda", 1000),)
    limits: dict[str, object] = {
        "memory_reservation_bytes": MIB,
        "cpu_shares": 512,
        "cpuset_cpus": "0-1",
        "pids": 100,
        "blkio_weight": 500,
        "read_bps": throttle,
        "write_iops": throttle,
    }
    assert v1(**limits) == {
        "memory.soft_limit_in_bytes": str(MIB),
        "cpu.shares": "512",
        "cpuset.cpus": "0-1",
        "pids.max": "100",
        "blkio.weight": "500",
        "blkio.throttle.read_bps_device": "8:0 1000",
        "blkio.throttle.write_iops_device": "8:0 1000",
    }
    found = v2(**limits)
    assert found["memory.low"] == str(MIB)
    assert found["cpuset.cpus"] == "0-1"
    assert found["io.weight"] == "4950"
    assert found["io.max"] == "8:0 wiops=1000"


def test_pids_minus_one_is_no_limit() -> None:
    assert v1(pids=-1) == v2(pids=-1) == {"pids.max": "max"}


def test_a_throttle_on_something_else_than_a_block_device_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="not a block device"):
        settings_v2(ResourceLimits(read_bps=(ThrottleDevice("/dev/null", 1),)))
    with pytest.raises(InvalidParameter, match="no such file"):
        settings_v2(ResourceLimits(read_bps=(ThrottleDevice("/dev/nothing", 1),)))


def test_without_cgroups_every_limit_is_a_sentence() -> None:
    limits = ResourceLimits(memory_bytes=1, nano_cpus=1, pids=1, cpu_shares=2, cpuset_cpus="0")
    found = unenforceable(limits, (), version=None)
    assert len(found) == 5
    assert found[0] == (
        "Your kernel does not support memory limit capabilities or the cgroup is not mounted. "
        "Limitation discarded."
    )


def test_with_every_controller_nothing_is_said() -> None:
    limits = ResourceLimits(memory_bytes=1, nano_cpus=1, pids=1, cpu_shares=2, cpuset_cpus="0")
    assert unenforceable(limits, {"memory", "cpu", "pids", "cpuset", "io"}, version=2) == []


def test_the_oom_killer_cannot_be_switched_off_on_v2() -> None:
    limits = ResourceLimits(memory_bytes=1, oom_kill_disable=True)
    assert unenforceable(limits, {"memory"}, version=1) == []
    assert unenforceable(limits, {"memory"}, version=2) == [
        "Your kernel does not support OomKillDisable. OomKillDisable discarded."
    ]


def test_device_rules_are_the_defaults_and_what_was_asked_for() -> None:
    rules = device_rules(ResourceLimits(device_rules=("c 10:200 rwm",)))
    assert rules is not None
    assert "c 1:3 rwm" in rules
    assert rules[-1] == "c 10:200 rwm"
    assert device_rules(ResourceLimits(device_rules=("a *:* rwm",))) is None


@pytest.mark.parametrize("text", ["", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c a:b r"])
def test_a_malformed_device_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule"):
        parse_device_rule(text)


def _allows(program: bytes, kind: int, access: int, major: int, minor: int) -> bool:
    """Runs the eBPF instructions that device_program emits."""
    import struct

    words = {0: kind | access << 16, 4: major, 8: minor}
    registers = {1: 0}
    code = [struct.unpack("=BBhi", program[i : i + 8]) for i in range(0, len(program), 8)]
    at = 0
    while True:
        operation, pair, offset, value = code[at]
        dst, src = pair & 15, pair >> 4
        at += 1
        if operation == 0x61:
            registers[dst] = words[offset]
        elif operation == 0xBC:
            registers[dst] = registers[src]
        elif operation == 0x74:
            registers[dst] >>= value
        elif operation == 0x54:
            registers[dst] &= value & 0xFFFFFFFF
        elif operation == 0x55:
            at += offset if registers[dst] != value else 0
        elif operation == 0xB7:
            registers[dst] = value
        else:
            assert operation == 0x95
            return bool(registers[0])


def test_the_v2_device_program_allows_what_its_rules_say_and_nothing_else() -> None:
    rules = [parse_device_rule(text) for text in ("c 1:3 rw", "b 8:* r", "c *:* m")]
    program = device_program(rules)
    char, block, make, read, write = 2, 1, 1, 2, 4
    assert _allows(program, char, read | write, 1, 3)
    assert _allows(program, char, make, 77, 5)
    assert _allows(program, block, read, 8, 17)
    assert not _allows(program, block, write, 8, 17)
    assert not _allows(program, block, read, 9, 0)
    assert not _allows(program, char, read | make, 1, 3)
    assert not _allows(program, char, read, 1, 4)


MOUNTINFO = """\
22 27 0:21 / /proc rw - proc proc rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/with\\040blank rw - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_mountinfo_tells_where_each_controller_is() -> None:
    controllers, unified = parse_mountinfo(MOUNTINFO)
    assert {name: str(path) for name, path in controllers.items()} == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/with blank",
    }
    assert str(unified) == "/sys/fs/cgroup/unified"

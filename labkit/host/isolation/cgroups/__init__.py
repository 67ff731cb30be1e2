"""Control groups, whatever the machine has: v1, v2, both or none (cgroups(7))."""

from labkit.host.isolation.cgroups.driver import CgroupDriver
from labkit.host.isolation.cgroups.group import Cgroup, JoinHandles
from labkit.host.isolation.cgroups.layout import CgroupKind, Layout, find_layout
from labkit.host.isolation.cgroups.stats import BlockCounter, CgroupStats, host_cpu_ns

__all__ = [
    "BlockCounter",
    "Cgroup",
    "CgroupDriver",
    "CgroupKind",
    "CgroupStats",
    "JoinHandles",
    "Layout",
    "find_layout",
    "host_cpu_ns",
]

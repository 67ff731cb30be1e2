"""The other direction: a container spec of ours as a config.json for another runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import Unsupported
from labkit.host.isolation.oci.bundle import OCI_VERSION
from labkit.host.isolation.seccomp import source_of
from labkit.host.isolation.spec import (
    CapabilitySets,
    ContainerSpec,
    Device,
    IdMapping,
    Mount,
    NamespaceChoice,
    NamespaceKind,
    ProcessSpec,
    ResourceLimits,
    ThrottleDevice,
)

__all__ = ["config_from", "process_to"]

_KINDS: Mapping[NamespaceKind, str] = {
    "mnt": "mount",
    "pid": "pid",
    "ipc": "ipc",
    "uts": "uts",
    "net": "network",
    "cgroup": "cgroup",
    "user": "user",
}
_INFINITY = (1 << 64) - 1
_RULE_TYPES = {"a": "a", "b": "b", "c": "c"}


def process_to(process: ProcessSpec) -> dict[str, Any]:
    """config.md, process."""
    data: dict[str, Any] = {
        "terminal": process.tty,
        "args": list(process.args),
        "env": list(process.env),
        "cwd": process.cwd,
        "user": {
            "uid": process.uid,
            "gid": process.gid,
            "umask": process.umask,
            "additionalGids": list(process.groups),
        },
        "noNewPrivileges": process.no_new_privs,
    }
    if process.capabilities is not None:
        data["capabilities"] = _capabilities(process.capabilities)
    if process.rlimits:
        data["rlimits"] = [
            {
                "type": f"RLIMIT_{limit.name.upper()}",
                "soft": _INFINITY if limit.soft < 0 else limit.soft,
                "hard": _INFINITY if limit.hard < 0 else limit.hard,
            }
            for limit in process.rlimits
        ]
    if process.oom_score_adj is not None:
        data["oomScoreAdj"] = process.oom_score_adj
    if process.console_size and all(process.console_size):
        data["consoleSize"] = dict(zip(("height", "width"), process.console_size, strict=True))
    return data


def _capabilities(sets: CapabilitySets) -> dict[str, list[str]]:
    return {
        name: sorted(getattr(sets, name))
        for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }


def config_from(
    spec: ContainerSpec, rootfs: str, groups: str, joined: Mapping[NamespaceKind, str]
) -> dict[str, Any]:
    """The whole file. `groups` is its cgroupsPath, `joined` names the namespaces that exist."""
    if spec.init:
        raise Unsupported(
            "--init needs labkit's own runtime",
            hint="leave out --runtime, or use an image with an init of its own",
        )
    linux: dict[str, Any] = {
        "cgroupsPath": groups,
        "namespaces": [
            {"type": _KINDS[kind], **({"path": joined[kind]} if kind in joined else {})}
            for kind, choice in spec.namespaces.items()
            if choice is not NamespaceChoice.HOST
        ],
        "resources": _resources(spec.limits),
        "devices": [entry for each in spec.devices if (entry := _device(each))],
        "maskedPaths": list(spec.masked_paths),
        "readonlyPaths": list(spec.readonly_paths),
        "sysctl": dict(spec.sysctls),
    }
    for key, maps in (("uidMappings", spec.uid_map), ("gidMappings", spec.gid_map)):
        if maps:
            linux[key] = [_mapping(each) for each in maps]
    if spec.process.seccomp is not None:
        linux["seccomp"] = source_of(spec.process.seccomp)
    config: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": process_to(spec.process),
        "root": {"path": rootfs, "readonly": spec.root.readonly},
        "mounts": [_mount(each) for each in spec.mounts],
        "linux": linux,
    }
    names = {"hostname": spec.hostname, "domainname": spec.domainname}
    return config | {key: value for key, value in names.items() if value}


def _mapping(each: IdMapping) -> dict[str, int]:
    return {"containerID": each.inside, "hostID": each.outside, "size": each.count}


def _mount(mount: Mount) -> dict[str, Any]:
    options = [
        word
        for word, wanted in (
            ("ro", mount.readonly),
            ("nosuid", mount.nosuid),
            ("nodev", mount.nodev),
            ("noexec", mount.noexec),
        )
        if wanted
    ]
    if mount.kind == "bind":
        options += ["rbind" if mount.recursive else "bind", mount.propagation]
    elif mount.data:
        options += mount.data.split(",")
    return {
        "destination": mount.target,
        "type": mount.kind,
        "source": mount.source or mount.kind,
        "options": options,
    }


def _device(device: Device) -> dict[str, Any] | None:
    import stat

    try:
        found = os.stat(device.source)
    except OSError:
        return None
    return {
        "path": device.path,
        "type": "b" if stat.S_ISBLK(found.st_mode) else "c",
        "major": os.major(found.st_rdev),
        "minor": os.minor(found.st_rdev),
        "fileMode": found.st_mode & 0o777,
        "uid": 0,
        "gid": 0,
    }


def _rule(line: str) -> dict[str, Any]:
    kind, numbers, access = line.split()
    major, _, minor = numbers.partition(":")
    rule: dict[str, Any] = {"allow": True, "type": _RULE_TYPES[kind], "access": access}
    for name, text in (("major", major), ("minor", minor)):
        if text != "*":
            rule[name] = int(text)
    return rule


def _resources(limits: ResourceLimits) -> dict[str, Any]:
    from labkit.host.isolation.cgroups.limits import (
        cpu_quota_and_period,
        device_rules,
        swap_total,
    )

    memory: dict[str, Any] = {
        "limit": limits.memory_bytes,
        "swap": swap_total(limits) or 0,
        "reservation": limits.memory_reservation_bytes,
        "disableOOMKiller": limits.oom_kill_disable,
    }
    quota, period = cpu_quota_and_period(limits) or (0, 0)
    cpu = {
        "shares": limits.cpu_shares,
        "quota": quota,
        "period": period,
        "cpus": limits.cpuset_cpus,
        "mems": limits.cpuset_mems,
    }
    block: dict[str, Any] = {"weight": limits.blkio_weight}
    for key, devices in (
        ("throttleReadBpsDevice", limits.read_bps),
        ("throttleWriteBpsDevice", limits.write_bps),
        ("throttleReadIOPSDevice", limits.read_iops),
        ("throttleWriteIOPSDevice", limits.write_iops),
    ):
        block[key] = [_throttle(each) for each in devices]
    found: dict[str, Any] = {}
    for key, group in (("memory", memory), ("cpu", cpu), ("blockIO", block)):
        given = {name: value for name, value in group.items() if value}
        if given:
            found[key] = given
    if limits.pids:
        found["pids"] = {"limit": limits.pids}
    rules = device_rules(limits)
    if rules is not None:
        deny = {"allow": False, "access": "rwm"}
        found["devices"] = [deny, *(_rule(line) for line in rules)]
    else:
        found["devices"] = [{"allow": True, "access": "rwm"}]
    return found


def _throttle(device: ThrottleDevice) -> dict[str, int]:
    number = os.stat(device.path).st_rdev
    return {"major": os.major(number), "minor": os.minor(number), "rate": device.rate}

"""config.json's linux.resources (config-linux.md, control groups) as limits of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.isolation.spec import ResourceLimits, ThrottleDevice

__all__ = ["device_rules_from", "limits_from", "merge_resources"]


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidParameter(f"invalid resources: {key} is not a number: {value!r}")
    return value


def _throttles(block: Mapping[str, Any], key: str) -> tuple[ThrottleDevice, ...]:
    return tuple(
        ThrottleDevice(f"/dev/block/{each['major']}:{each['minor']}", int(each["rate"]))
        for each in block.get(key) or ()
    )


def device_rules_from(rules: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    """What is allowed beyond the harmless devices; `a *:* rwm` stands for everything.

    Rules are applied in order: one that denies everything takes back what came before.
    """
    allowed: list[str] = []
    for rule in rules or ():
        kind = str(rule.get("type") or "a")
        numbers = [rule.get(name) for name in ("major", "minor")]
        texts = ["*" if number is None or number < 0 else str(number) for number in numbers]
        line = f"{kind} {':'.join(texts)} {rule.get('access') or 'rwm'}"
        everything = kind == "a"
        if not rule.get("allow"):
            allowed = [] if everything else [each for each in allowed if each != line]
        elif everything:
            allowed = ["a *:* rwm"]
        else:
            allowed.append(line)
    return tuple(allowed)


def limits_from(resources: Mapping[str, Any] | None, *, devices: bool = True) -> ResourceLimits:
    """Limits of a new container; without any word about devices all are allowed, as runc has it."""
    data = resources or {}
    memory, cpu = data.get("memory") or {}, data.get("cpu") or {}
    block, pids = data.get("blockIO") or {}, data.get("pids") or {}
    limit = _number(memory, "limit")
    swap = _number(memory, "swap")
    rules = data.get("devices")
    return ResourceLimits(
        memory_bytes=limit,
        # The specification says nothing of a default; runc leaves swap alone.
        memory_swap_bytes=swap or (-1 if limit > 0 else 0),
        memory_reservation_bytes=_number(memory, "reservation"),
        oom_kill_disable=bool(memory.get("disableOOMKiller")),
        cpu_quota_us=_number(cpu, "quota"),
        cpu_period_us=_number(cpu, "period"),
        cpu_shares=_number(cpu, "shares"),
        cpuset_cpus=str(cpu.get("cpus") or ""),
        cpuset_mems=str(cpu.get("mems") or ""),
        pids=_number(pids, "limit"),
        blkio_weight=_number(block, "weight"),
        read_bps=_throttles(block, "throttleReadBpsDevice"),
        write_bps=_throttles(block, "throttleWriteBpsDevice"),
        read_iops=_throttles(block, "throttleReadIOPSDevice"),
        write_iops=_throttles(block, "throttleWriteIOPSDevice"),
        device_rules=device_rules_from(rules) if devices and rules else ("a *:* rwm",),
    )


def merge_resources(
    old: Mapping[str, Any], change: Mapping[str, Any]
) -> tuple[dict[str, Any], ResourceLimits]:
    """`update`: the resources as they are from now on, and what has to be written."""
    merged: dict[str, Any] = {key: dict(value) for key, value in old.items() if key != "devices"}
    if "devices" in old:
        merged["devices"] = old["devices"]
    for group, values in change.items():
        if group == "devices":
            continue
        if isinstance(values, Mapping):
            merged.setdefault(group, {}).update(values)
    limits = limits_from(change, devices=False)
    if "memory" in change and "swap" not in change["memory"]:
        limits = replace(limits, memory_swap_bytes=_number(merged["memory"], "swap") or -1)
    return merged, limits

"""What Docker's daemon refuses before anything is made, in its words, and its default values."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import replace

from labkit.base.errors import InvalidParameter, NotFound
from labkit.host.engine.config import ContainerConfig, Healthcheck
from labkit.host.engine.hostconfig import HostConfig, LogConfig, RestartPolicy
from labkit.host.engine.logdrivers import LOG_FUSE, log_limits
from labkit.host.engine.networking_ports import port_requests
from labkit.host.engine.signals import parse_signal
from labkit.host.isolation.capabilities import normalize_capability
from labkit.host.isolation.defaults import DEFAULT_SHM_BYTES, MASKED_PATHS, READONLY_PATHS

__all__ = [
    "LOG_FUSE",
    "check_config",
    "check_host",
    "check_resources",
    "check_restart_policy",
    "log_limits",
    "with_defaults",
]

_MIN_MEMORY = 6 << 20
_MIN_HEALTH_NS = 1_000_000
_PRIVATE = frozenset({"", "private"})


def check_config(config: ContainerConfig) -> None:
    """Refuse a Config that cannot mean anything."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidParameter(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute "
            "path"
        )
    for entry in config.env or ():
        if not entry.partition("=")[0]:
            raise InvalidParameter(f"invalid environment variable: {entry}")
        if "\0" in entry:
            raise InvalidParameter("invalid environment variable: it contains a zero byte")
    for word in (*(config.entrypoint or ()), *(config.cmd or ())):
        if "\0" in word:
            raise InvalidParameter("invalid command: an argument contains a zero byte")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if len(config.hostname) > 63:
        raise InvalidParameter(
            f"invalid hostname '{config.hostname}': the kernel allows 64 bytes at most"
        )
    if config.healthcheck is not None:
        _check_health(config.healthcheck)


def _check_health(health: Healthcheck) -> None:
    for word, value in (
        ("Interval", health.interval_ns),
        ("Timeout", health.timeout_ns),
        ("StartPeriod", health.start_period_ns),
        ("StartInterval", health.start_interval_ns),
    ):
        if value != 0 and value < _MIN_HEALTH_NS:
            raise InvalidParameter(f"{word} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidParameter(f"Unknown healthcheck type {health.test[0]} (expected 'CMD')")


def check_restart_policy(policy: RestartPolicy, *, auto_remove: bool = False) -> None:
    """Refuse an unknown policy, or a retry count where it means nothing."""
    if policy.name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        message = "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        if policy.maximum_retry_count < 0:
            message += " and cannot be negative"
        raise InvalidParameter(message)
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def check_resources(host: HostConfig) -> None:
    """Refuse limits that contradict each other or this machine."""
    _check_memory(host)
    _check_cpu(host)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")


def _check_memory(host: HostConfig) -> None:
    if 0 < host.memory < _MIN_MEMORY:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if host.memory > 0 and 0 < host.memory_swap < host.memory:
        raise InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if host.memory == 0 and host.memory_swap > 0:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    swappiness = host.memory_swappiness
    if swappiness is not None and swappiness != -1 and not 0 <= swappiness <= 100:
        raise InvalidParameter(
            f"Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )
    if 0 < host.memory_reservation < _MIN_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if host.memory > 0 and host.memory < host.memory_reservation:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )


def _check_cpu(host: HostConfig) -> None:
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    cpus = os.cpu_count() or 1
    if host.nano_cpus < 0 or host.nano_cpus > cpus * 1_000_000_000:
        raise InvalidParameter(
            f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidParameter(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < host.cpu_quota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.cpu_shares < 0:
        raise InvalidParameter(f"Invalid value {host.cpu_shares} for CPU shares")
    if host.cpuset_cpus:
        _check_cpuset(host.cpuset_cpus, cpus)


def _check_cpuset(text: str, cpus: int) -> None:
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InvalidParameter(f"Invalid value {text} for cpuset cpus")
        chosen.update((int(first), int(last or first)))
    if max(chosen) >= cpus:
        available = "0" if cpus == 1 else f"0-{cpus - 1}"
        raise InvalidParameter(
            f"Requested CPUs are not available - requested {text}, available: {available}"
        )


def _check_capabilities(field: str, names: Iterable[str] | None) -> None:
    for name in names or ():
        try:
            normalize_capability(name)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid {field}: {error}", hint=error.hint) from None


def check_host(host: HostConfig, config: ContainerConfig) -> None:
    """Refuse a HostConfig that cannot mean anything, or that this version cannot do."""
    check_restart_policy(host.restart_policy, auto_remove=host.auto_remove)
    check_resources(host)
    _check_capabilities("CapAdd", host.cap_add)
    _check_capabilities("CapDrop", host.cap_drop)
    log_limits(host.log_config)
    for entry in host.extra_hosts or ():
        name, colon, address = entry.partition(":")
        if not colon or not name:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
        if address != "host-gateway":
            try:
                ipaddress.ip_address(address.strip("[]"))
            except ValueError:
                raise InvalidParameter(f'invalid IP address in add-host: "{address}"') from None
    for address in host.dns or ():
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidParameter(f"invalid nameserver address: {address}") from None
    _check_network(host, config)
    _check_namespaces(host)
    _check_unsupported(host)


def _check_network(host: HostConfig, config: ContainerConfig) -> None:
    mode = host.network_mode
    if mode.startswith("container:"):
        if not mode.removeprefix("container:"):
            raise InvalidParameter(
                "Invalid network mode: invalid container format container:<name|id>"
            )
        clashes = (
            (config.hostname, "hostname and the network mode"),
            (host.links, "container type network can't be used with links"),
            (host.dns, "dns and the network mode"),
            (host.extra_hosts, "custom host-to-IP mapping and the network mode"),
            (host.port_bindings, "port publishing and the container type network mode"),
            (config.exposed_ports, "port exposing and the container type network mode"),
        )
        for given, words in clashes:
            if given:
                raise InvalidParameter(f"conflicting options: {words}")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    port_requests(host, config)


def _check_namespaces(host: HostConfig) -> None:
    for word, value, extra in (
        ("PID", host.pid_mode, ("host",)),
        ("IPC", host.ipc_mode, ("host", "shareable", "none")),
        ("UTS", host.uts_mode, ("host",)),
        ("cgroup namespace", host.cgroupns_mode, ("host",)),
        ("userns", host.userns_mode, ("host",)),
    ):
        shared = word in ("PID", "IPC") and value.startswith("container:") and len(value) > 10
        if value not in _PRIVATE and value not in extra and not shared:
            raise InvalidParameter(f"invalid {word} mode: {value}")


def _check_unsupported(host: HostConfig) -> None:
    for request in host.device_requests or ():
        words = " ".join(str(item) for group in request.capabilities or () for item in group)
        raise InvalidParameter(
            f'could not select device driver "{request.driver}" with capabilities: [[{words}]]'
        )
    for option in host.security_opt or ():
        word = option.partition("=")[0].partition(":")[0]
        if word not in (
            "seccomp", "apparmor", "label", "no-new-privileges", "systempaths", "writable-cgroups",
        ):  # fmt: skip
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
        if word == "apparmor" and option[len(word) + 1 :] not in ("", "unconfined"):
            raise InvalidParameter(
                f'cannot apply AppArmor profile "{option[len(word) + 1 :]}": labkit applies none',
                hint="leave it away, or name apparmor=unconfined; seccomp and capabilities hold",
            )
    if host.volume_driver not in ("", "local"):
        raise NotFound(
            f"error looking up volume plugin {host.volume_driver}: plugin "
            f'"{host.volume_driver}" not found'
        )
    if host.storage_opt:
        raise InvalidParameter(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
        )
    if host.isolation not in ("", "default"):
        raise InvalidParameter(f'invalid isolation "{host.isolation}" on linux')


def _runtime_name(asked: str) -> str:
    """containerd's name for its default is ours too: clients that know no better send it."""
    return "labkit" if asked in ("", "io.containerd.runc.v2") else asked


def with_defaults(host: HostConfig) -> HostConfig:
    """What Docker's inspect shows for values the client left open."""
    swap = host.memory_swap or (2 * host.memory if host.memory > 0 else 0)
    network = "bridge" if host.network_mode in ("", "default") else host.network_mode
    swappiness = None if host.memory_swappiness == -1 else host.memory_swappiness
    masked: tuple[str, ...] | None = host.masked_paths
    readonly: tuple[str, ...] | None = host.readonly_paths
    if host.privileged:
        masked, readonly = None, None
    else:
        masked = MASKED_PATHS if masked is None else masked
        readonly = READONLY_PATHS if readonly is None else readonly
    return replace(
        host,
        memory_swap=swap,
        memory_swappiness=swappiness,
        network_mode=network,
        ipc_mode=host.ipc_mode or "private",
        cgroupns_mode=host.cgroupns_mode or ("host" if host.privileged else "private"),
        shm_size=host.shm_size or DEFAULT_SHM_BYTES,
        runtime=_runtime_name(host.runtime),
        log_config=LogConfig(host.log_config.type or "json-file", host.log_config.config or {}),
        restart_policy=RestartPolicy(
            host.restart_policy.name or "no", host.restart_policy.maximum_retry_count
        ),
        pids_limit=None
        if host.pids_limit is not None and host.pids_limit <= 0
        else host.pids_limit,
        dns=host.dns or (),
        dns_options=host.dns_options or (),
        dns_search=host.dns_search or (),
        devices=host.devices or (),
        blkio_weight_device=host.blkio_weight_device or (),
        port_bindings=host.port_bindings or {},
        console_size=host.console_size if len(host.console_size) == 2 else (0, 0),
        masked_paths=masked,
        readonly_paths=readonly,
    )

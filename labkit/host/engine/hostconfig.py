"""Docker's HostConfig and NetworkingConfig: what ties a container to this host.

Field meanings, units and defaults: Docker Engine API v1.50, schemas HostConfig and Resources.
"""

# ruff: noqa: RUF009 - wire() declares a field, as dataclasses.field does

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labkit.host.engine.wire import (
    BOOL,
    INT,
    INT64,
    RAW,
    STRING,
    STRSLICE,
    UINT16,
    list_of,
    map_of,
    optional,
    struct,
    wire,
)

__all__ = [
    "BlkioWeight",
    "DeviceMapping",
    "DeviceRequest",
    "EndpointConfig",
    "HostConfig",
    "LogConfig",
    "MountPoint",
    "NetworkingConfig",
    "PortBinding",
    "RestartPolicy",
    "Throttle",
    "Ulimit",
    "UpdateConfig",
]


@dataclass(frozen=True)
class RestartPolicy:
    """`no` or empty, `always`, `unless-stopped`, `on-failure` with an optional count (0: none)."""

    name: str = wire("Name", STRING, "")
    maximum_retry_count: int = wire("MaximumRetryCount", INT, 0)


@dataclass(frozen=True)
class LogConfig:
    """The log driver; an empty type is the host's default, json-file."""

    type: str = wire("Type", STRING, "")
    config: dict[str, str] | None = wire("Config", map_of(STRING))


@dataclass(frozen=True)
class PortBinding:
    """Where one port of the container answers on the host; an empty port means any free one."""

    host_ip: str = wire("HostIp", STRING, "")
    host_port: str = wire("HostPort", STRING, "")


@dataclass(frozen=True)
class DeviceMapping:
    """`--device`: a device of the host under a path in the container."""

    path_on_host: str = wire("PathOnHost", STRING, "")
    path_in_container: str = wire("PathInContainer", STRING, "")
    permissions: str = wire("CgroupPermissions", STRING, "")


@dataclass(frozen=True)
class DeviceRequest:
    """`--gpus`; refused here."""

    driver: str = wire("Driver", STRING, "")
    count: int = wire("Count", INT, 0)
    device_ids: tuple[str, ...] | None = wire("DeviceIDs", list_of(STRING))
    capabilities: tuple[Any, ...] | None = wire("Capabilities", list_of(RAW))
    options: dict[str, str] | None = wire("Options", map_of(STRING))


@dataclass(frozen=True)
class BlkioWeight:
    """A relative weight (10 to 1000) for one block device."""

    path: str = wire("Path", STRING, "")
    weight: int = wire("Weight", UINT16, 0)


@dataclass(frozen=True)
class Throttle:
    """A rate, in bytes or operations per second, for one block device."""

    path: str = wire("Path", STRING, "")
    rate: int = wire("Rate", INT64, 0)


@dataclass(frozen=True)
class Ulimit:
    """One resource limit; -1 is infinity."""

    name: str = wire("Name", STRING, "")
    hard: int = wire("Hard", INT64, 0)
    soft: int = wire("Soft", INT64, 0)


@dataclass(frozen=True)
class MountPoint:
    """`--mount`: type bind, volume, tmpfs, npipe, cluster or image, with options of that type."""

    type: str = wire("Type", STRING, "", omitempty=True)
    source: str = wire("Source", STRING, "", omitempty=True)
    target: str = wire("Target", STRING, "", omitempty=True)
    read_only: bool = wire("ReadOnly", BOOL, False, omitempty=True)
    consistency: str = wire("Consistency", STRING, "", omitempty=True)
    bind_options: dict[str, Any] | None = wire("BindOptions", map_of(RAW), omitempty=True)
    volume_options: dict[str, Any] | None = wire("VolumeOptions", map_of(RAW), omitempty=True)
    tmpfs_options: dict[str, Any] | None = wire("TmpfsOptions", map_of(RAW), omitempty=True)
    image_options: dict[str, Any] | None = wire("ImageOptions", map_of(RAW), omitempty=True)


@dataclass(frozen=True)
class HostConfig:
    """The host's half of a container's configuration. Sizes are bytes, CPU time microseconds."""

    binds: tuple[str, ...] | None = wire("Binds", list_of(STRING))
    container_id_file: str = wire("ContainerIDFile", STRING, "")
    log_config: LogConfig = wire("LogConfig", struct(LogConfig), LogConfig)
    network_mode: str = wire("NetworkMode", STRING, "")
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = wire(
        "PortBindings", map_of(list_of(struct(PortBinding)))
    )
    restart_policy: RestartPolicy = wire("RestartPolicy", struct(RestartPolicy), RestartPolicy)
    auto_remove: bool = wire("AutoRemove", BOOL, False)
    volume_driver: str = wire("VolumeDriver", STRING, "")
    volumes_from: tuple[str, ...] | None = wire("VolumesFrom", list_of(STRING))
    console_size: tuple[int, ...] = wire("ConsoleSize", list_of(INT), (0, 0))
    annotations: dict[str, str] | None = wire("Annotations", map_of(STRING), omitempty=True)
    cap_add: tuple[str, ...] | None = wire("CapAdd", STRSLICE)
    cap_drop: tuple[str, ...] | None = wire("CapDrop", STRSLICE)
    cgroupns_mode: str = wire("CgroupnsMode", STRING, "")
    dns: tuple[str, ...] | None = wire("Dns", list_of(STRING))
    dns_options: tuple[str, ...] | None = wire("DnsOptions", list_of(STRING))
    dns_search: tuple[str, ...] | None = wire("DnsSearch", list_of(STRING))
    extra_hosts: tuple[str, ...] | None = wire("ExtraHosts", list_of(STRING))
    group_add: tuple[str, ...] | None = wire("GroupAdd", list_of(STRING))
    ipc_mode: str = wire("IpcMode", STRING, "")
    cgroup: str = wire("Cgroup", STRING, "")
    links: tuple[str, ...] | None = wire("Links", list_of(STRING))
    oom_score_adj: int = wire("OomScoreAdj", INT, 0)
    pid_mode: str = wire("PidMode", STRING, "")
    privileged: bool = wire("Privileged", BOOL, False)
    publish_all_ports: bool = wire("PublishAllPorts", BOOL, False)
    readonly_rootfs: bool = wire("ReadonlyRootfs", BOOL, False)
    security_opt: tuple[str, ...] | None = wire("SecurityOpt", list_of(STRING))
    storage_opt: dict[str, str] | None = wire("StorageOpt", map_of(STRING), omitempty=True)
    tmpfs: dict[str, str] | None = wire("Tmpfs", map_of(STRING), omitempty=True)
    uts_mode: str = wire("UTSMode", STRING, "")
    userns_mode: str = wire("UsernsMode", STRING, "")
    shm_size: int = wire("ShmSize", INT64, 0)
    sysctls: dict[str, str] | None = wire("Sysctls", map_of(STRING), omitempty=True)
    runtime: str = wire("Runtime", STRING, "")
    isolation: str = wire("Isolation", STRING, "")
    cpu_shares: int = wire("CpuShares", INT64, 0)
    memory: int = wire("Memory", INT64, 0)
    nano_cpus: int = wire("NanoCpus", INT64, 0)
    cgroup_parent: str = wire("CgroupParent", STRING, "")
    blkio_weight: int = wire("BlkioWeight", UINT16, 0)
    blkio_weight_device: tuple[BlkioWeight, ...] | None = wire(
        "BlkioWeightDevice", list_of(struct(BlkioWeight))
    )
    blkio_read_bps: tuple[Throttle, ...] | None = wire(
        "BlkioDeviceReadBps", list_of(struct(Throttle))
    )
    blkio_write_bps: tuple[Throttle, ...] | None = wire(
        "BlkioDeviceWriteBps", list_of(struct(Throttle))
    )
    blkio_read_iops: tuple[Throttle, ...] | None = wire(
        "BlkioDeviceReadIOps", list_of(struct(Throttle))
    )
    blkio_write_iops: tuple[Throttle, ...] | None = wire(
        "BlkioDeviceWriteIOps", list_of(struct(Throttle))
    )
    cpu_period: int = wire("CpuPeriod", INT64, 0)
    cpu_quota: int = wire("CpuQuota", INT64, 0)
    cpu_realtime_period: int = wire("CpuRealtimePeriod", INT64, 0)
    cpu_realtime_runtime: int = wire("CpuRealtimeRuntime", INT64, 0)
    cpuset_cpus: str = wire("CpusetCpus", STRING, "")
    cpuset_mems: str = wire("CpusetMems", STRING, "")
    devices: tuple[DeviceMapping, ...] | None = wire("Devices", list_of(struct(DeviceMapping)))
    device_cgroup_rules: tuple[str, ...] | None = wire("DeviceCgroupRules", list_of(STRING))
    device_requests: tuple[DeviceRequest, ...] | None = wire(
        "DeviceRequests", list_of(struct(DeviceRequest))
    )
    memory_reservation: int = wire("MemoryReservation", INT64, 0)
    memory_swap: int = wire("MemorySwap", INT64, 0)
    memory_swappiness: int | None = wire("MemorySwappiness", optional(INT64))
    oom_kill_disable: bool | None = wire("OomKillDisable", optional(BOOL))
    pids_limit: int | None = wire("PidsLimit", optional(INT64))
    ulimits: tuple[Ulimit, ...] | None = wire("Ulimits", list_of(struct(Ulimit)))
    cpu_count: int = wire("CpuCount", INT64, 0)
    cpu_percent: int = wire("CpuPercent", INT64, 0)
    io_maximum_iops: int = wire("IOMaximumIOps", INT64, 0)
    io_maximum_bandwidth: int = wire("IOMaximumBandwidth", INT64, 0)
    mounts: tuple[MountPoint, ...] | None = wire(
        "Mounts", list_of(struct(MountPoint)), omitempty=True
    )
    masked_paths: tuple[str, ...] | None = wire("MaskedPaths", list_of(STRING))
    readonly_paths: tuple[str, ...] | None = wire("ReadonlyPaths", list_of(STRING))
    init: bool | None = wire("Init", optional(BOOL), omitempty=True)


@dataclass(frozen=True)
class UpdateConfig:
    """The body of POST /containers/X/update: limits and a restart policy; zero leaves as it is."""

    cpu_shares: int = wire("CpuShares", INT64, 0)
    memory: int = wire("Memory", INT64, 0)
    nano_cpus: int = wire("NanoCpus", INT64, 0)
    blkio_weight: int = wire("BlkioWeight", UINT16, 0)
    cpu_period: int = wire("CpuPeriod", INT64, 0)
    cpu_quota: int = wire("CpuQuota", INT64, 0)
    cpuset_cpus: str = wire("CpusetCpus", STRING, "")
    cpuset_mems: str = wire("CpusetMems", STRING, "")
    memory_reservation: int = wire("MemoryReservation", INT64, 0)
    memory_swap: int = wire("MemorySwap", INT64, 0)
    pids_limit: int | None = wire("PidsLimit", optional(INT64))
    restart_policy: RestartPolicy = wire("RestartPolicy", struct(RestartPolicy), RestartPolicy)


@dataclass(frozen=True)
class EndpointConfig:
    """How a container joins one network; kept as sent until the networks issue reads it."""

    ipam_config: dict[str, Any] | None = wire("IPAMConfig", map_of(RAW))
    links: tuple[str, ...] | None = wire("Links", list_of(STRING))
    aliases: tuple[str, ...] | None = wire("Aliases", list_of(STRING))
    mac_address: str = wire("MacAddress", STRING, "")
    driver_opts: dict[str, str] | None = wire("DriverOpts", map_of(STRING))
    gateway_priority: int = wire("GwPriority", INT, 0)
    network_id: str = wire("NetworkID", STRING, "")
    endpoint_id: str = wire("EndpointID", STRING, "")
    gateway: str = wire("Gateway", STRING, "")
    ip_address: str = wire("IPAddress", STRING, "")
    ip_prefix_len: int = wire("IPPrefixLen", INT, 0)
    ipv6_gateway: str = wire("IPv6Gateway", STRING, "")
    global_ipv6_address: str = wire("GlobalIPv6Address", STRING, "")
    global_ipv6_prefix_len: int = wire("GlobalIPv6PrefixLen", INT, 0)
    dns_names: tuple[str, ...] | None = wire("DNSNames", list_of(STRING))


@dataclass(frozen=True)
class NetworkingConfig:
    """The networks a container is created on, by name."""

    endpoints: dict[str, EndpointConfig | None] | None = wire(
        "EndpointsConfig", map_of(struct(EndpointConfig))
    )

"""GET /info, /version and /system/df: what this host is, said in Docker's fields."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import labkit
from labkit.host.engine.listing import summary
from labkit.host.engine.logdrivers import DRIVERS
from labkit.host.engine.runtimes import runtime_names
from labkit.host.engine.settings import Settings
from labkit.host.engine.times import format_time

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = [
    "API_VERSION",
    "MIN_API_VERSION",
    "SERVER_VERSION",
    "disk_usage",
    "info",
    "version",
    "volume_json",
]

Json = dict[str, Any]

API_VERSION = "1.50"
MIN_API_VERSION = "1.24"
SERVER_VERSION = "28.2.2+labkit"
"""The Docker release whose behaviour is followed, and honestly whose it is not."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def version(context: Context) -> Json:
    """GET /version."""
    kernel = os.uname()
    arch = _ARCHITECTURES.get(platform.machine(), platform.machine())
    started = format_time(context.opened_at_ns)
    return {
        "Platform": {"Name": f"labkit {labkit.__version__} (speaks the Docker Engine API)"},
        "Version": SERVER_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": kernel.release,
        "GoVersion": f"python{platform.python_version()}",
        "GitCommit": labkit.__version__,
        "BuildTime": started,
        "Components": [
            {
                "Name": "Engine",
                "Version": SERVER_VERSION,
                "Details": {
                    "ApiVersion": API_VERSION,
                    "Arch": arch,
                    "BuildTime": started,
                    "Experimental": "false",
                    "GitCommit": labkit.__version__,
                    "GoVersion": f"python{platform.python_version()}",
                    "KernelVersion": kernel.release,
                    "MinAPIVersion": MIN_API_VERSION,
                    "Os": "linux",
                },
            },
            {
                "Name": "labkit-shim",
                "Version": labkit.__version__,
                "Details": {"GitCommit": labkit.__version__},
            },
        ],
    }


def _operating_system() -> tuple[str, str]:
    """Pretty name and version from os-release(5)."""
    values: dict[str, str] = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8") as file:
                for line in file:
                    key, _, value = line.strip().partition("=")
                    values[key] = value.strip("\"'")
            break
        except OSError:
            continue
    return values.get("PRETTY_NAME", "Linux"), values.get("VERSION_ID", "")


def _counts(context: Context) -> Json:
    states = [container.state.status for container in context.containers.values()]
    paused = states.count("paused")
    running = states.count("running") + states.count("restarting")
    return {
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(states) - running - paused,
    }


def _limits(controllers: frozenset[str]) -> tuple[Json, list[str]]:
    """Which limits hold here, and a sentence for each that does not."""
    memory, cpu = "memory" in controllers, "cpu" in controllers
    flags: Json = {
        "MemoryLimit": memory,
        "SwapLimit": memory,
        "CpuCfsPeriod": cpu,
        "CpuCfsQuota": cpu,
        "CPUShares": cpu,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": False,
    }
    warnings = [
        f"WARNING: No {words} support"
        for holds, words in (
            (memory, "memory limit"),
            (cpu, "cpu cfs quota"),
            (cpu, "cpu shares"),
            ("cpuset" in controllers, "cpuset"),
            ("pids" in controllers, "pids limit"),
        )
        if not holds
    ]
    return flags, warnings


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return -1


def _registries(settings: Settings) -> Json:
    """What daemon.json says about registries, as `docker info` shows it."""
    networks, names = ["::1/128", "127.0.0.0/8"], {}
    for word in settings.insecure:
        if "/" in word:
            networks.append(word)
        else:
            names[word] = {"Name": word, "Mirrors": [], "Secure": False, "Official": False}
    mirrors = [word if word.endswith("/") else f"{word}/" for word in settings.mirrors]
    names["docker.io"] = {
        "Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True,
    }  # fmt: skip
    return {
        "AllowNondistributableArtifactsCIDRs": None,
        "AllowNondistributableArtifactsHostnames": None,
        "InsecureRegistryCIDRs": networks,
        "IndexConfigs": names,
        "Mirrors": mirrors or None,
    }


def _pools(settings: Settings) -> Json:
    rows = [{"Base": pool.base, "Size": pool.size} for pool in settings.pools]
    return {"DefaultAddressPools": rows} if rows else {}


async def info(context: Context) -> Json:
    """GET /info."""
    probe = context.ports.probe
    kernel = os.uname()
    pretty, os_version = _operating_system()
    images = await asyncio.to_thread(context.ports.images.images, all=True)
    flags, warnings = _limits(frozenset(probe.controllers))
    security = ["name=seccomp,profile=builtin"]
    if probe.mode == "rootless":
        security.append("name=rootless")
    security.append("name=cgroupns")
    return {
        "ID": context.engine_id,
        **_counts(context),
        "Images": len(images),
        "Driver": "overlay2" if probe.overlay else "vfs",
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": sorted(DRIVERS),
        },
        **flags,
        "IPv4Forwarding": True,
        "Debug": False,
        "NFd": _open_files(),
        "NGoroutines": len(asyncio.all_tasks()),
        "SystemTime": format_time(time.time_ns()),
        "LoggingDriver": context.settings.log.type,
        "CgroupDriver": "none" if probe.cgroup == "none" else "cgroupfs",
        "CgroupVersion": "2" if probe.cgroup == "v2" else "1",
        "NEventsListener": context.events.listeners,
        "KernelVersion": kernel.release,
        "OperatingSystem": pretty,
        "OSVersion": os_version,
        "OSType": "linux",
        "Architecture": platform.machine(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": _registries(context.settings),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "GenericResources": None,
        "DockerRootDir": "/var/lib/docker",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": kernel.nodename if context.node == "default" else context.node,
        "Labels": list(context.settings.labels),
        "ExperimentalBuild": False,
        "ServerVersion": SERVER_VERSION,
        "Runtimes": runtime_names(context),
        "DefaultRuntime": "labkit",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "labkit-shim",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": security,
        "CDISpecDirs": [],
        **_pools(context.settings),
        "Warnings": warnings or None,
    }


async def disk_usage(context: Context) -> Json:
    """GET /system/df."""
    from labkit.host.engine.builds import build_cache

    containers = [
        await summary(context, container, size=True)
        for container in tuple(context.containers.values())
    ]
    used: dict[str, int] = {}
    for container in context.containers.values():
        image_id = container.definition.image_id
        used[image_id] = used.get(image_id, 0) + 1
    store = context.ports.images

    def collect() -> tuple[list[Json], int]:
        found = store.images(all=True)
        rows = [store.summary(image, containers=used.get(image.id, 0)) for image in found]
        # A layer that several images share lies on the disk once.
        layers = {diff_id for image in found for diff_id in image.diff_ids}
        return rows, sum(row.size for row in map(store.index.layer, layers) if row is not None)

    images, layers_size = await asyncio.to_thread(collect)
    return {
        "LayersSize": layers_size,
        "Images": images,
        "Containers": containers,
        "Volumes": await asyncio.to_thread(_sized_volumes, context),
        "BuildCache": await build_cache(context),
    }


def _sized_volumes(context: Context) -> list[Json]:
    rows = [volume_json(context, name) for name in context.volumes.names()]
    for row in rows:
        row["UsageData"]["Size"] = context.volumes.size(row["Name"])
    return rows


def volume_json(context: Context, name: str) -> Json:
    """One volume as the API shows it."""
    volume = context.volumes.get(name)
    created = datetime.fromtimestamp(volume.created_ns // 1_000_000_000, UTC)
    return {
        "CreatedAt": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Driver": "local",
        "Labels": dict(volume.labels) or None,
        "Mountpoint": f"/var/lib/docker/volumes/{name}/_data",
        "Name": name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
        "UsageData": {"RefCount": len(context.volumes.users_of(name)), "Size": -1},
    }

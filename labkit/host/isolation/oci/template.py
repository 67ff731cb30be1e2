"""`labkit-oci spec`: a config.json to start from."""

from __future__ import annotations

import json
import os
from typing import Any

from labkit.base.errors import Conflict
from labkit.host.isolation.defaults import DEFAULT_PATH, MASKED_PATHS, READONLY_PATHS
from labkit.host.isolation.oci.bundle import OCI_VERSION

__all__ = ["template", "write_template"]

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"destination": target, "type": kind, "source": source}
    return {**entry, "options": list(options)} if options else entry


def template(*, rootless: bool) -> dict[str, Any]:
    """A shell in `rootfs`, with every namespace; `rootless` maps root to this user alone."""
    no = ("nosuid", "noexec", "nodev")
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    if not rootless:
        pts.append("gid=5")
    namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in namespaces],
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
    }
    sys_mount = _mount("/sys", "sysfs", "sysfs", *no, "ro")
    if rootless:
        del linux["resources"]
        linux["namespaces"].append({"type": "user"})
        for key, own in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
            linux[key] = [{"containerID": 0, "hostID": own, "size": 1}]
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={DEFAULT_PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "labkit",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", *pts),
            _mount("/dev/shm", "tmpfs", "shm", *no, "mode=1777", "size=65536k"),  # noqa: S108
            _mount("/dev/mqueue", "mqueue", "mqueue", *no),
            sys_mount,
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", *no, "relatime", "ro"),
        ],
        "linux": linux,
    }


def write_template(folder: str, *, rootless: bool) -> None:
    """Write config.json into `folder`. Raises Conflict when there is one."""
    path = os.path.join(folder, "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(template(rootless=rootless), file, indent="\t")
            file.write("\n")
    except FileExistsError:
        raise Conflict("File config.json exists. Remove it first") from None

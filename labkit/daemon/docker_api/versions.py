"""Fields that came and went between API versions, put right for the version a client asked for.

The engine answers as the newest version does; older clients get what theirs had. The list follows
the version history of the Docker Engine API (docs/api/version-history.md in moby).
"""

from __future__ import annotations

from typing import Any

__all__ = ["container_for", "disk_usage_for", "image_for", "info_for", "row_for"]

Json = dict[str, Any]
Version = tuple[int, int]

# Of an image's Config: what only a container's means; left out since 1.50.
_CONTAINERS_OWN: Json = {
    "Hostname": "",
    "Domainname": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Image": "",
}
_EMPTY_CONFIG: Json = {
    **_CONTAINERS_OWN,
    "User": "",
    "Env": None,
    "Cmd": None,
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}


def _endpoints(networks: Any, version: Version) -> None:
    for endpoint in (networks or {}).values():
        if version < (1, 44):
            endpoint.pop("DNSNames", None)
        if version < (1, 48):
            endpoint.pop("GwPriority", None)


def container_for(found: Json, version: Version) -> Json:
    """GET /containers/X/json."""
    if version < (1, 42):
        found["HostConfig"] |= {"KernelMemory": 0, "KernelMemoryTCP": 0}
    if version < (1, 44):
        data = found["GraphDriver"].get("Data")
        if data:
            data.pop("ID", None)
    _endpoints(found["NetworkSettings"].get("Networks"), version)
    return found


def row_for(found: Json, version: Version) -> Json:
    """One entry of GET /containers/json."""
    if not found.get("SizeRw", 1):
        del found["SizeRw"]  # omitempty, in every version
    _endpoints(found["NetworkSettings"].get("Networks"), version)
    return found


def image_for(found: Json, version: Version) -> Json:
    """GET /images/X/json, or one entry of GET /images/json."""
    if version < (1, 44):
        found["VirtualSize"] = found.get("Size", 0)
    if version < (1, 48):
        found.pop("Descriptor", None)
    if "Config" not in found:
        return found
    if version < (1, 50):
        found["Config"] = {**_CONTAINERS_OWN, **found["Config"]}
    if version < (1, 45):
        found |= {"Container": "", "ContainerConfig": dict(_EMPTY_CONFIG)}
    return found


def info_for(found: Json, version: Version) -> Json:
    """GET /info."""
    if version < (1, 50):
        found |= {"BridgeNfIptables": True, "BridgeNfIp6tables": True}
    if version < (1, 42):
        found |= {"KernelMemory": True, "KernelMemoryTCP": True}
    if version < (1, 44):
        found.pop("CDISpecDirs", None)
    return found


def disk_usage_for(found: Json, version: Version) -> Json:
    """GET /system/df."""
    for row in found.get("Containers") or ():
        row_for(row, version)
    for image in found.get("Images") or ():
        image_for(image, version)
    if version < (1, 42) and "BuildCache" in found:
        found["BuilderSize"] = sum(int(row.get("Size", 0)) for row in found["BuildCache"] or ())
    return found

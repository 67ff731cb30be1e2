"""How one container, image, network or volume of the API becomes a row of a listing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from labkit.base.ids import short_id
from labkit.base.quantities import format_age, format_size
from labkit.notebook.commands.formatting import View, ellipsis
from labkit.notebook.commands.gotext import go_quote

__all__ = [
    "CONTAINERS",
    "IMAGES",
    "IMAGES_DIGESTS",
    "NETWORKS",
    "VOLUMES",
    "ago",
    "container_row",
    "go_time",
    "image_rows",
    "join_labels",
    "network_row",
    "ports_text",
    "rfc_to_go",
    "volume_row",
]

CONTAINERS = View(
    type_name="*formatter.ContainerContext",
    quiet_wins=True,
    headings={
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
        "Platform": "PLATFORM",
    },
    table="{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    raw="container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n"
    "created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n"
    "names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    raw_quiet="container_id: {{.ID}}",
)

_IMAGE_HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
IMAGES = View(
    type_name="*formatter.imageContext",
    headings=_IMAGE_HEADINGS,
    table="{{.Repository}}\t{{.Tag}}\t{{.ID}}\t"
    "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    raw="repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\n"
    "created_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    raw_quiet="image_id: {{.ID}}",
)
IMAGES_DIGESTS = View(
    type_name=IMAGES.type_name,
    headings=_IMAGE_HEADINGS,
    table="{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t"
    "{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
)
NETWORKS = View(
    type_name="*network.networkContext",
    headings={
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
    table="{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    raw="network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    raw_quiet="network_id: {{.ID}}",
)
VOLUMES = View(
    type_name="*formatter.volumeContext",
    headings={
        "Name": "VOLUME NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "Availability": "AVAILABILITY",
        "Mountpoint": "MOUNTPOINT",
        "Links": "LINKS",
        "Labels": "LABELS",
        "Group": "GROUP",
        "Size": "SIZE",
        "Status": "STATUS",
    },
    table="{{.Driver}}\t{{.Name}}",
    quiet="{{.Name}}",
    raw="name: {{.Name}}\ndriver: {{.Driver}}\n",
    raw_quiet="name: {{.Name}}",
)


def ago(seconds_since_epoch: float) -> str:
    """`3 hours ago`."""
    return f"{format_age(time.time() - seconds_since_epoch)} ago"


def go_time(seconds_since_epoch: int) -> str:
    """Go's Time.String of a whole second in the local zone."""
    local = datetime.fromtimestamp(seconds_since_epoch).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def join_labels(labels: Mapping[str, str] | None) -> str:
    """`a=b,c=d` sorted as text."""
    return ",".join(sorted(f"{key}={value}" for key, value in (labels or {}).items()))


def _host_port(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _port_group(key: tuple[str, str], first: int, last: int) -> str:
    address, protocol = key
    span = str(first) if first == last else f"{first}-{last}"
    if address:
        span = f"{_host_port(address, span)}->{span}"
    return f"{span}/{protocol}"


def ports_text(ports: Sequence[Mapping[str, Any]]) -> str:
    """The PORTS column: runs of equal host and container ports are drawn together."""
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    done: list[str] = []
    mappings: list[str] = []
    ordered = sorted(
        ports,
        key=lambda port: (
            port["PrivatePort"],
            port.get("IP") or "",
            port.get("PublicPort") or 0,
            port.get("Type") or "",
        ),
    )
    for port in ordered:
        private, protocol = port["PrivatePort"], port.get("Type") or ""
        address, public = port.get("IP") or "", port.get("PublicPort") or 0
        if address and public != private:
            mappings.append(f"{_host_port(address, str(public))}->{private}/{protocol}")
            continue
        key = (address, protocol)
        if key in groups and private == groups[key][1] + 1:
            groups[key] = (groups[key][0], private)
            continue
        if key in groups:
            done.append(_port_group(key, *groups[key]))
        groups[key] = (private, private)
    done += [_port_group(key, *span) for key, span in groups.items()]
    return ", ".join([*done, *mappings])


def _shown_image(row: Mapping[str, Any], truncate: bool) -> str:
    image = row.get("Image") or "<no image>"
    if not truncate:
        return str(image)
    if short_id(row.get("ImageID") or "") == short_id(image):
        return short_id(image)
    if "@" in image:  # name:tag@digest is shown without its digest
        name = image.partition("@")[0]
        return str(name if ":" in name.rpartition("/")[2] else image)
    return str(image)


def container_row(row: Mapping[str, Any], *, truncate: bool = True) -> dict[str, Any]:
    """The fields of one entry of /containers/json."""
    names = [name.removeprefix("/") for name in row.get("Names") or ()]
    if truncate:
        names = [name for name in names if "/" not in name]
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in row.get("Mounts") or ()]
    size = format_size(row.get("SizeRw") or 0, digits=3)
    if row.get("SizeRootFs"):
        size += f" (virtual {format_size(row['SizeRootFs'], digits=3)})"
    labels: Mapping[str, str] = row.get("Labels") or {}
    command = row.get("Command") or ""
    networks = (row.get("NetworkSettings") or {}).get("Networks") or {}
    return {
        "ID": short_id(row["Id"]) if truncate else row["Id"],
        "Names": ",".join(names),
        "Image": _shown_image(row, truncate),
        "Command": go_quote(ellipsis(command, 20) if truncate else command),
        "CreatedAt": go_time(row.get("Created") or 0),
        "RunningFor": ago(row.get("Created") or 0),
        "Ports": ports_text(row.get("Ports") or ()),
        "State": row.get("State") or "",
        "Status": row.get("Status") or "",
        "Size": size,
        "Labels": join_labels(labels),
        "Label": lambda name: labels.get(name, ""),
        "Mounts": ",".join(ellipsis(name, 15) if truncate else name for name in mounts),
        "LocalVolumes": str(
            sum(1 for mount in row.get("Mounts") or () if mount.get("Driver") == "local")
        ),
        "Networks": ",".join(sorted(networks)),
        "Platform": None,
    }


def image_rows(
    image: Mapping[str, Any], *, truncate: bool = True, digests: bool = False
) -> list[dict[str, Any]]:
    """The rows of one entry of /images/json: one for each name it has."""
    created = image.get("Created") or 0
    size = format_size(image.get("Size") or 0, digits=3)
    shared, containers = image.get("SharedSize", -1), image.get("Containers", -1)
    unique = "N/A"
    if shared not in (-1, None):
        unique = format_size((image.get("Size") or 0) - shared)
    base = {
        "ID": short_id(image["Id"]) if truncate else image["Id"],
        "CreatedSince": ago(created),
        "CreatedAt": go_time(created),
        "Size": size,
        "VirtualSize": format_size(image.get("Size") or 0),
        "Containers": "N/A" if containers in (-1, None) else str(containers),
        "SharedSize": "N/A" if shared in (-1, None) else format_size(shared),
        "UniqueSize": unique,
    }
    return [
        {**base, "Repository": repository, "Tag": tag, "Digest": digest}
        for repository, tag, digest in _image_names(image, digests)
    ]


def _image_names(image: Mapping[str, Any], digests: bool) -> list[tuple[str, str, str]]:
    tags: dict[str, list[str]] = {}
    for reference in image.get("RepoTags") or ():
        repository, _, tag = reference.rpartition(":")
        if repository != "<none>":
            tags.setdefault(repository, []).append(tag)
    found: dict[str, list[str]] = {}
    for reference in image.get("RepoDigests") or ():
        repository, _, digest = reference.partition("@")
        if repository != "<none>":
            found.setdefault(repository, []).append(digest)
    names: list[tuple[str, str, str]] = []
    for repository, its_tags in tags.items():
        its_digests = found.pop(repository, [])
        for tag in its_tags:
            if digests and its_digests:
                names += [(repository, tag, digest) for digest in its_digests]
            else:
                names.append((repository, tag, "<none>"))
    for repository, its_digests in found.items():
        if digests:
            names += [(repository, "<none>", digest) for digest in its_digests]
        else:
            names.append((repository, "<none>", "<none>"))
    return names or [("<none>", "<none>", "<none>")]


def network_row(network: Mapping[str, Any], *, truncate: bool = True) -> dict[str, Any]:
    """The fields of one entry of /networks."""
    labels: Mapping[str, str] = network.get("Labels") or {}
    return {
        "ID": short_id(network["Id"]) if truncate else network["Id"],
        "Name": network["Name"],
        "Driver": network.get("Driver", ""),
        "Scope": network.get("Scope", ""),
        "IPv4": "true" if network.get("EnableIPv4", True) else "false",
        "IPv6": "true" if network.get("EnableIPv6") else "false",
        "Internal": "true" if network.get("Internal") else "false",
        "Labels": join_labels(labels),
        "Label": lambda name: labels.get(name, ""),
        "CreatedAt": rfc_to_go(network.get("Created") or ""),
    }


def rfc_to_go(text: str) -> str:
    """`2026-01-02T03:04:05.6789Z` as Go's Time.String prints it."""
    if not text:
        return "0001-01-01 00:00:00 +0000 UTC"
    day, _, rest = text.partition("T")
    if rest.endswith("Z"):
        return f"{day} {rest[:-1]} +0000 UTC"
    clock, sign = (rest[:-6], rest[-6:]) if rest[-6:-5] in ("+", "-") else (rest, "+00:00")
    offset = sign.replace(":", "")
    return f"{day} {clock} {offset} {'UTC' if offset == '+0000' else offset}"


def volume_row(volume: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of one entry of /volumes."""
    labels: Mapping[str, str] = volume.get("Labels") or {}
    usage = volume.get("UsageData") or {}
    return {
        "Name": volume["Name"],
        "Driver": volume.get("Driver", ""),
        "Scope": volume.get("Scope", ""),
        "Mountpoint": volume.get("Mountpoint", ""),
        "Labels": join_labels(labels),
        "Label": lambda name: labels.get(name, ""),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": format_size(usage["Size"], digits=3) if usage else "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }

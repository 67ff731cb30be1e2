"""What `apk add` finds in the alpine stand-in: real programs from Debian's packages.

The names are Alpine's. A package is packed the first time it is asked for, with every library its
programs need, and kept in LABKIT_HOME/catalog/apk.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.base.ids import new_id
from labkit.host.image.standins.languages import python_packages
from labkit.host.image.standins.layered import Recipe, add_packages
from labkit.host.image.standins.machine import installed_version
from labkit.host.image.standins.packages import bring, catalog_folder
from labkit.host.image.standins.rootfs import RootBuilder
from labkit.host.image.tarwrite import TarWriter

__all__ = ["PACKAGES", "ApkPackage", "available", "pack", "sources_of"]

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "bash": ("bash",),
    "bind-tools": ("bind9-dnsutils", "bind9-host"),
    "curl": ("curl",),
    "file": ("file", "libmagic-mgc"),
    "git": ("git",),
    "htop": ("htop",),
    "iproute2": ("iproute2",),
    "iputils": ("iputils-ping",),
    "jq": ("jq",),
    "less": ("less",),
    "lsof": ("lsof",),
    "make": ("make",),
    "nano": ("nano",),
    "netcat-openbsd": ("netcat-openbsd",),
    "nodejs": ("nodejs",),
    "openssl": ("openssl",),
    "procps": ("procps",),
    "python3": (),
    "redis": ("redis-server", "redis-tools"),
    "rsync": ("rsync",),
    "socat": ("socat",),
    "strace": ("strace",),
    "stress-ng": ("stress-ng",),
    "tcpdump": ("tcpdump",),
    "tree": ("tree",),
    "tzdata": ("tzdata",),
    "wget": ("wget",),
}
"""Alpine's name: Debian's packages of the same programs."""


@dataclass(frozen=True, slots=True)
class ApkPackage:
    """One package, packed: `file` is a gzip'd tar to be unpacked at `/`, `size` its bytes there."""

    name: str
    version: str
    origin: str
    size: int
    file: Path


def sources_of(name: str) -> tuple[str, ...]:
    """Debian's packages for one of PACKAGES."""
    return PACKAGES[name] or (*python_packages(), "python3-minimal")


def available() -> dict[str, str]:
    """Each name, with the version where the package is installed on this machine, else ""."""
    return {name: installed_version(sources_of(name)[0]) or "" for name in sorted(PACKAGES)}


def pack(name: str) -> ApkPackage:
    """Pack one of PACKAGES, or find it packed.

    Raises Unsupported when it is neither installed here nor to be had from apt.
    """
    wanted = sources_of(name)
    packages = bring(f"apk-{name}", wanted)
    named = [one for one in packages if one.is_wanted]
    version = next(one.version for one in named if one.name == wanted[0])
    origin = "Debian " + ", ".join(str(one.source) for one in named)
    folder = catalog_folder() / "apk"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_{version.replace(':', '%3a').replace('/', '_')}"
    file, size_file = folder / f"{stem}.tar.gz", folder / f"{stem}.size"
    if not (file.exists() and size_file.exists()):
        recipe = Recipe(f"apk {name}", wanted, "", {}, (), base="alpine")
        root = RootBuilder()
        add_packages(recipe, root, packages, set())
        size_file.write_text(str(_write(root, file)))
    return ApkPackage(name, version, origin, int(size_file.read_text()), file)


def _write(root: RootBuilder, file: Path) -> int:
    """Write the archive beside its place and rename it; returns its size unpacked."""
    beside = file.with_name(f".{new_id()}")
    size = 0
    deflate = zlib.compressobj(1, wbits=31)
    try:
        with open(beside, "xb") as out:

            def write(data: bytes) -> None:
                nonlocal size
                size += len(data)
                out.write(deflate.compress(data))

            root.write(TarWriter(write))
            out.write(deflate.flush())
        beside.rename(file)
    finally:
        beside.unlink(missing_ok=True)
    return size

"""The files Docker puts into every container: /etc/hosts, /etc/hostname, /etc/resolv.conf.

They live in the container's own folder and are bind-mounted, so the engine can rewrite them while
the container runs. Their mount points, and `/.dockerenv`, come from the snapshotter's init layer,
so they do not count as changes the container made (`docker diff`).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.hostconfig import HostConfig
from labkit.host.isolation.spec import Mount

__all__ = ["FILE_TARGETS", "file_mounts", "write_host_files"]

FILE_TARGETS = {
    "resolv.conf": "/etc/resolv.conf",
    "hostname": "/etc/hostname",
    "hosts": "/etc/hosts",
}

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write_host_files(folder: Path, config: ContainerConfig, host: HostConfig) -> None:
    """Write the three files for one container."""
    hosts = _HOSTS
    if host.network_mode == "host":
        with contextlib.suppress(OSError):
            hosts = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace")
    for entry in host.extra_hosts or ():
        name, _, address = entry.partition(":")
        if address != "host-gateway":
            hosts += f"{address.strip('[]')}\t{name}\n"
    _write(folder / "hosts", hosts)
    name = config.hostname + (f".{config.domainname}" if config.domainname else "")
    _write(folder / "hostname", f"{name}\n")
    _write(folder / "resolv.conf", _resolver(host))


def _resolver(host: HostConfig) -> str:
    own = bool(host.dns or host.dns_search or host.dns_options)
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    if not own:
        return "".join(f"{line}\n" for line in lines)
    words = {"nameserver": host.dns, "search": host.dns_search, "options": host.dns_options}
    kept = [line for line in lines if line.split(maxsplit=1)[:1] and not words.get(line.split()[0])]
    kept += [f"nameserver {address}" for address in host.dns or ()]
    if host.dns_search:
        kept.append("search " + " ".join(host.dns_search))
    if host.dns_options:
        kept.append("options " + " ".join(host.dns_options))
    return "".join(f"{line}\n" for line in kept)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def file_mounts(folder: Path, taken: set[str]) -> list[Mount]:
    """Binds of the three files, except where the user has mounted something himself."""
    return [
        Mount("bind", target, source=str(folder / name), create="file")
        for name, target in FILE_TARGETS.items()
        if target not in taken
    ]

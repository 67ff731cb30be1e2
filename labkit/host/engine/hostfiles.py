"""The files Docker puts into every container: /etc/hosts, /etc/hostname, /etc/resolv.conf.

They live in the container's own folder and are bind-mounted, so the engine can rewrite them while
the container runs. Their mount points, and `/.dockerenv`, come from the snapshotter's init layer,
so they do not count as changes the container made (`docker diff`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.hostconfig import HostConfig
from labkit.host.isolation.spec import Mount

__all__ = ["FILE_TARGETS", "NetworkView", "file_mounts", "write_host_files"]

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


@dataclass(frozen=True, slots=True)
class NetworkView:
    """What a container's networks put into its files."""

    addresses: tuple[str, ...] = ()
    """Its own, one line each in /etc/hosts."""
    links: tuple[tuple[str, str], ...] = ()
    """Address and names of linked containers."""
    host_gateway: str = ""
    """What `--add-host name:host-gateway` stands for."""
    has_resolver: bool = False
    """127.0.0.11 answers inside."""
    resolvers: tuple[str, ...] = ()
    """Name servers instead of the machine's, where those cannot be reached."""


def write_host_files(
    folder: Path, config: ContainerConfig, host: HostConfig, view: NetworkView | None = None
) -> None:
    """Write the three files for one container; again whenever its networks change.

    Files are written in place: they are mounted inside, and a new one would not be seen.
    """
    view = view or NetworkView()
    hosts = _HOSTS
    if host.network_mode == "host":
        with contextlib.suppress(OSError):
            hosts = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace")
    for entry in host.extra_hosts or ():
        name, _, address = entry.partition(":")
        address = view.host_gateway if address == "host-gateway" else address
        if address:
            hosts += f"{address.strip('[]')}\t{name}\n"
    for address, names in view.links:
        hosts += f"{address}\t{names}\n"
    full = f"{config.hostname}.{config.domainname} " if config.domainname else ""
    for address in view.addresses:
        hosts += f"{address}\t{full}{config.hostname}\n"
    _write(folder / "hosts", hosts)
    name = config.hostname + (f".{config.domainname}" if config.domainname else "")
    _write(folder / "hostname", f"{name}\n")
    _write(folder / "resolv.conf", _resolver(host, view))


def _resolver(host: HostConfig, view: NetworkView) -> str:
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    words = [line.split() for line in lines]
    servers = list(host.dns or ()) or list(view.resolvers) or [
        found[1] for found in words if len(found) > 1 and found[0] == "nameserver"
    ]  # fmt: skip
    search = list(host.dns_search or ()) or _last(words, "search")
    options = list(host.dns_options or ()) or _last(words, "options")
    text = "# Written by labkit for this container's networks.\n\n"
    if view.has_resolver:
        known = any(option.startswith("ndots:") for option in options)
        text += "nameserver 127.0.0.11\n"
        options = options if known else [*options, "ndots:0"]
        asked = " ".join(f"host({server})" for server in servers)
    else:
        text += "".join(f"nameserver {server}\n" for server in servers)
    if search and search != ["."]:
        text += "search " + " ".join(search) + "\n"
    if options:
        text += "options " + " ".join(options) + "\n"
    if view.has_resolver:
        text += f"\n# 127.0.0.11 asks further: [{asked}]\n"
    return text


def _last(lines: list[list[str]], word: str) -> list[str]:
    """The values of the last line that begins with `word` (resolv.conf(5))."""
    found = [line[1:] for line in lines if line[:1] == [word]]
    return found[-1] if found else []


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

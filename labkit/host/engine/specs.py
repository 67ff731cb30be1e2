"""Docker's words become the core's: Definition → ContainerSpec, exec body → ProcessSpec.

Everything here is decided before the core is called (style.md 17): who the process runs as, its
environment, its capabilities and seccomp filter, its mounts in order, its namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.base.ids import short_id
from labkit.host.engine import hostfiles
from labkit.host.engine.container import Container, Definition
from labkit.host.engine.hostconfig import HostConfig
from labkit.host.engine.limits import limits_of
from labkit.host.engine.logdrivers import log_file, log_limits
from labkit.host.engine.mounts import core_mounts, prepare_sources
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.users import Identity, resolve_user
from labkit.host.isolation.capabilities import capability_sets
from labkit.host.isolation.defaults import DEVICES, default_environment, default_mounts
from labkit.host.isolation.seccomp import Profile, compile_profile, load_profile
from labkit.host.isolation.spec import (
    ContainerSpec,
    Device,
    IoSpec,
    Mount,
    NamespaceChoice,
    NamespaceKind,
    ProcessSpec,
    Rlimit,
    RootSpec,
)

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = [
    "ExecRequest",
    "container_spec",
    "default_hostname",
    "environment",
    "exec_process",
    "io_spec",
    "seccomp_policy",
    "warm_up",
]

_WHOLE_ID_RANGE = 4_294_967_295
_NOT_THE_MACHINES = frozenset(
    {"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"}
)


class ExecRequest:
    """What an exec asks for, already parsed."""

    def __init__(
        self,
        *,
        args: tuple[str, ...],
        env: tuple[str, ...] = (),
        user: str = "",
        working_dir: str = "",
        tty: bool = False,
        privileged: bool = False,
        console_size: tuple[int, int] | None = None,
    ) -> None:
        self.args = args
        self.env = env
        self.user = user
        self.working_dir = working_dir
        self.tty = tty
        self.privileged = privileged
        self.console_size = console_size


def warm_up() -> None:
    """Compile what almost every start needs, so that the first one is not slower."""
    capabilities = capability_sets()
    with contextlib.suppress(LabkitError):
        compile_profile(load_profile(None), capabilities.bounding, platform.machine())


def environment(definition: Definition, home: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Docker's defaults, overridden in place by the container's and then `extra` variables.

    A name without `=` removes the variable. HOME comes last and only when nobody set it.
    """
    config = definition.config
    base = default_environment(hostname=config.hostname, tty=config.tty, home=home)
    found: dict[str, str] = {}
    for entry in (*(word for word in base if not word.startswith("HOME=")), *(config.env or ())):
        _set_variable(found, entry)
    for entry in extra:
        _set_variable(found, entry)
    found.setdefault("HOME", home)
    return tuple(f"{name}={value}" for name, value in found.items())


def _set_variable(found: dict[str, str], entry: str) -> None:
    name, separator, value = entry.partition("=")
    if separator:
        found[name] = value
    else:
        found.pop(name, None)


def _security(definition: Definition) -> tuple[bool, str | None]:
    """no_new_privs, and the source of the seccomp profile."""
    no_new_privs, profile = False, None
    for option in definition.host.security_opt or ():
        word, _, value = option.replace(":", "=", 1).partition("=")
        if option.startswith("seccomp"):
            value = option[len("seccomp") + 1 :]
            profile = value
        elif word == "no-new-privileges":
            no_new_privs = value in ("", "true")
    if definition.host.privileged and profile is None:
        profile = "unconfined"
    return no_new_privs, profile


def seccomp_policy(definition: Definition, *, privileged: bool | None = None) -> Profile | None:
    """The profile its processes are filtered by; None for no filter at all."""
    _, source = _security(definition)
    if privileged is None:
        privileged = definition.host.privileged
    return load_profile("unconfined" if privileged and source is None else source)


def _process(
    definition: Definition, files: RootFiles, request: ExecRequest, *, privileged: bool
) -> ProcessSpec:
    host, config = definition.host, definition.config
    who = resolve_user(files, request.user, host.group_add or ())
    capabilities = capability_sets(
        host.cap_add or (), host.cap_drop or (), privileged=privileged, uid=who.uid
    )
    no_new_privs, _ = _security(definition)
    profile = seccomp_policy(definition, privileged=privileged)
    return ProcessSpec(
        args=request.args,
        env=environment(definition, who.home, request.env),
        cwd=request.working_dir or config.working_dir or "/",
        uid=who.uid,
        gid=who.gid,
        groups=_supplementary(who),
        capabilities=capabilities,
        rlimits=tuple(Rlimit(limit.name, limit.soft, limit.hard) for limit in host.ulimits or ()),
        no_new_privs=no_new_privs,
        seccomp=compile_profile(profile, capabilities.bounding, platform.machine()),
        oom_score_adj=host.oom_score_adj or None,
        tty=request.tty,
        console_size=request.console_size,
    )


def _supplementary(who: Identity) -> tuple[int, ...]:
    """The supplementary groups, the primary one among them (CVE-2022-36109: a group that a file
    denies something to must be held by whoever is in it). Not where the user namespace knows one
    id only: the kernel refuses setgroups(2) there."""
    with contextlib.suppress(OSError), open("/proc/self/setgroups") as file:
        if file.read().startswith("deny"):
            return who.groups
    return tuple(dict.fromkeys((who.gid, *who.groups)))


async def exec_process(container: Container, root: RootSpec, request: ExecRequest) -> ProcessSpec:
    """The process of an exec; a user not given is the container's."""
    definition = container.definition
    if not request.user:
        request.user = definition.config.user
    return await asyncio.to_thread(
        _process,
        definition,
        RootFiles(root),
        request,
        privileged=request.privileged or definition.host.privileged,
    )


def io_spec(context: Context, definition: Definition) -> IoSpec:
    """Where the container's output goes."""
    log = definition.host.log_config
    size, files = log_limits(log)
    return IoSpec(
        log_path=log_file(context.folder(definition.id), definition.id, log),
        log_max_bytes=size,
        log_max_files=files,
        open_stdin=definition.config.open_stdin,
        stdin_once=definition.config.stdin_once,
    )


async def container_spec(
    context: Context,
    definition: Definition,
    root: RootSpec,
    namespaces: Mapping[NamespaceKind, NamespaceChoice | int],
    shim_folder: Path,
) -> ContainerSpec:
    """The complete spec for one start, and a fresh folder for its shim.

    Files are read and made in one trip to a thread.
    """
    config = definition.config
    files = RootFiles(root)
    request = ExecRequest(
        args=(definition.path, *definition.args),
        user=config.user,
        tty=config.tty,
        console_size=_console(definition.host.console_size),
    )
    await prepare_sources(context, definition.mounts)

    def build() -> ContainerSpec:
        shutil.rmtree(shim_folder, ignore_errors=True)
        shim_folder.mkdir(mode=0o700)
        process = _process(definition, files, request, privileged=definition.host.privileged)
        if config.working_dir and not _is_mounted(definition, config.working_dir):
            files.ensure_directory(config.working_dir, uid=process.uid, gid=process.gid)
        return _assembled(context, definition, root, process, namespaces)

    return await asyncio.to_thread(build)


def _console(size: Sequence[int]) -> tuple[int, int] | None:
    return (size[0], size[1]) if len(size) == 2 and all(size) else None


def _is_mounted(definition: Definition, path: str) -> bool:
    return any(
        path == mount.target or path.startswith(mount.target + "/") for mount in definition.mounts
    )


def _assembled(
    context: Context,
    definition: Definition,
    root: RootSpec,
    process: ProcessSpec,
    namespaces: Mapping[NamespaceKind, NamespaceChoice | int],
) -> ContainerSpec:
    host, config = definition.host, definition.config
    own_uts = namespaces["uts"] is NamespaceChoice.NEW
    return ContainerSpec(
        id=definition.id,
        process=process,
        root=_with_readonly(root, host.readonly_rootfs),
        mounts=_all_mounts(context, definition, namespaces),
        devices=DEVICES + _devices(host),
        masked_paths=host.masked_paths or (),
        readonly_paths=host.readonly_paths or (),
        hostname=config.hostname if own_uts else "",
        domainname=config.domainname if own_uts else "",
        namespaces=namespaces,
        sysctls={**_default_sysctls(namespaces), **(host.sysctls or {})},
        limits=limits_of(host),
        init=bool(host.init),
        privileged=host.privileged,
    )


def _with_readonly(root: RootSpec, readonly: bool) -> RootSpec:
    return RootSpec(root.lowers, root.upper, root.work, root.path, readonly or root.readonly)


def _all_mounts(
    context: Context,
    definition: Definition,
    namespaces: Mapping[NamespaceKind, NamespaceChoice | int],
) -> tuple[Mount, ...]:
    own = core_mounts(context, definition.mounts)
    taken = {mount.target for mount in own}
    base = default_mounts(
        privileged=definition.host.privileged,
        shm_bytes=definition.host.shm_size,
        cgroup=context.ports.probe.cgroup != "none",
        private_ipc=namespaces["ipc"] is not NamespaceChoice.HOST,
    )
    files = hostfiles.file_mounts(context.folder(definition.id), taken)
    return (*(mount for mount in base if mount.target not in taken), *files, *own)


def _devices(host: HostConfig) -> tuple[Device, ...]:
    found = []
    for device in host.devices or ():
        path = device.path_in_container or device.path_on_host
        if not os.path.exists(device.path_on_host):
            raise InvalidParameter(
                f'error gathering device information while adding custom device "'
                f'{device.path_on_host}": no such file or directory'
            )
        found.append(Device(path, device.path_on_host, device.permissions or "rwm"))
    if host.privileged:
        named = {device.path for device in (*found, *DEVICES)}
        found += [Device(path, path) for path in _machine_devices() if path not in named]
    return tuple(found)


def _machine_devices(top: str = "/dev") -> list[str]:
    """Every device node of the machine, except terminals and what the container gets of its own."""
    found: list[str] = []
    for entry in sorted(os.scandir(top), key=lambda each: each.name):
        if entry.name in _NOT_THE_MACHINES:
            continue
        with contextlib.suppress(OSError):  # it may be unplugged meanwhile
            if entry.is_dir(follow_symlinks=False):
                found += _machine_devices(entry.path)
            elif not entry.is_symlink():
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    found.append(entry.path)
    return found


def _default_sysctls(
    namespaces: Mapping[NamespaceKind, NamespaceChoice | int],
) -> dict[str, str]:
    """Docker lets every user of a container bind low ports and send pings."""
    if namespaces["net"] is not NamespaceChoice.NEW:
        return {}
    found = {"net.ipv4.ip_unprivileged_port_start": "0"}
    with contextlib.suppress(OSError, ValueError), open("/proc/self/gid_map") as file:
        if int(file.readline().split()[2]) == _WHOLE_ID_RANGE:
            found["net.ipv4.ping_group_range"] = "0 2147483647"
    return found


def default_hostname(identifier: str, host: HostConfig) -> str:
    """What a container is called when nobody named its host."""
    return os.uname().nodename if host.uts_mode == "host" else short_id(identifier)

"""A bundle's config.json as a container spec of ours (config.md, config-linux.md).

Nothing is tried here: what the specification calls an error is one, what this machine cannot do is
said by whoever does it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.isolation.capabilities import CAPABILITY_NUMBERS
from labkit.host.isolation.defaults import DEVICES
from labkit.host.isolation.oci.limits import limits_from
from labkit.host.isolation.oci.mounts import mounts_from
from labkit.host.isolation.spec import (
    CapabilitySets,
    ContainerSpec,
    Device,
    IdMapping,
    NamespaceChoice,
    NamespaceKind,
    ProcessSpec,
    Rlimit,
    RootSpec,
)

__all__ = ["OCI_VERSION", "Bundle", "container_from", "process_from", "read_config"]

OCI_VERSION = "1.0.2"
_INFINITY = (1 << 64) - 1
_KINDS: Mapping[str, NamespaceKind] = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "mount": "mnt",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
}


@dataclass(frozen=True)
class Bundle:
    """A folder with a config.json. `rootfs` is absolute, `text` the file as it was read."""

    folder: str
    config: Mapping[str, Any]
    rootfs: str
    text: bytes

    @property
    def linux(self) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self.config.get("linux") or {})

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.config.get("annotations") or {})

    @property
    def wants_terminal(self) -> bool:
        return bool((self.config.get("process") or {}).get("terminal"))


def read_config(folder: str) -> Bundle:
    """Read and check a bundle. Raises InvalidParameter in runc's words."""
    folder = os.path.abspath(folder)
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            text = file.read()
        config = json.loads(text)
    except FileNotFoundError:
        raise InvalidParameter("JSON specification file config.json not found") from None
    except OSError as error:
        raise InvalidParameter(f"open {error.filename}: {_reason(error)}") from error
    except ValueError as error:
        raise InvalidParameter(f"config.json is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidParameter("config.json is not a JSON object")
    version = str(config.get("ociVersion") or "")
    if not version.startswith("1."):
        raise InvalidParameter(
            f"unsupported ociVersion {version!r}" if version else "config.json has no ociVersion"
        )
    root = config.get("root") or {}
    if not root.get("path"):
        raise InvalidParameter("root must be specified")
    rootfs = os.path.join(folder, root["path"])
    if not os.path.isdir(rootfs):
        raise InvalidParameter(f"rootfs ({rootfs}) does not exist")
    return Bundle(folder, config, os.path.realpath(rootfs), text)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@dataclass
class _Opened:
    """Descriptors the spec refers to; the caller's to close."""

    handles: list[int] = field(default_factory=list)

    def open(self, path: str, what: str) -> int:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidParameter(f"cannot join {what} {path}: {_reason(error)}") from error
        self.handles.append(handle)
        return handle


def container_from(bundle: Bundle, name: str) -> tuple[ContainerSpec, list[int]]:
    """The spec, and the descriptors of namespaces in it, which the caller closes."""
    config, linux = bundle.config, bundle.linux
    _refuse_what_is_missing(linux)
    if not config.get("process"):
        raise InvalidParameter("process property must not be empty")
    root = config["root"]
    opened = _Opened()
    try:
        spec = ContainerSpec(
            id=name,
            process=process_from(config["process"], linux),
            root=RootSpec(path=Path(bundle.rootfs), readonly=bool(root.get("readonly"))),
            mounts=mounts_from(config.get("mounts") or (), bundle.folder),
            devices=_devices(linux),
            masked_paths=tuple(linux.get("maskedPaths") or ()),
            readonly_paths=tuple(linux.get("readonlyPaths") or ()),
            hostname=str(config.get("hostname") or ""),
            domainname=str(config.get("domainname") or ""),
            namespaces=_namespaces(linux, opened),
            uid_map=_mappings(linux, "uidMappings"),
            gid_map=_mappings(linux, "gidMappings"),
            sysctls={str(k): str(v) for k, v in (linux.get("sysctl") or {}).items()},
            limits=limits_from(linux.get("resources")),
        )
        _check(spec)
    except BaseException:
        for handle in opened.handles:
            os.close(handle)
        raise
    return spec, opened.handles


def _check(spec: ContainerSpec) -> None:
    new = {kind for kind, choice in spec.namespaces.items() if choice is not NamespaceChoice.HOST}
    if spec.hostname and "uts" not in new:
        raise InvalidParameter("unable to set hostname without a private UTS namespace")
    if "user" in new and spec.namespaces["user"] is NamespaceChoice.NEW and not spec.uid_map:
        raise InvalidParameter("user namespaces enabled, but no uid mappings found")


def _refuse_what_is_missing(linux: Mapping[str, Any]) -> None:
    for key, words in (
        ("intelRdt", "Intel RDT"),
        ("personality", "another personality"),
        ("mountLabel", "SELinux labels"),
        ("timeOffsets", "time namespaces"),
    ):
        if linux.get(key):
            raise Unsupported(f"linux.{key}: {words} cannot be had here")


def _namespaces(
    linux: Mapping[str, Any], opened: _Opened
) -> dict[NamespaceKind, NamespaceChoice | int]:
    found: dict[NamespaceKind, NamespaceChoice | int] = {}
    for entry in linux.get("namespaces") or ():
        kind = _KINDS.get(str(entry.get("type")))
        if kind is None:
            raise Unsupported(f"namespaces of type {entry.get('type')!r} cannot be had here")
        if kind in found:
            raise InvalidParameter(f"malformed spec file: duplicated ns {entry}")
        path = entry.get("path")
        if path and kind == "mnt":
            raise Unsupported("a container cannot live in somebody's mount namespace here")
        found[kind] = opened.open(path, "namespace") if path else NamespaceChoice.NEW
    if "mnt" not in found:
        raise Unsupported(
            "a container without a mount namespace of its own cannot be had here",
            hint='add {"type": "mount"} to linux.namespaces',
        )
    return found


def _mappings(linux: Mapping[str, Any], key: str) -> tuple[IdMapping, ...]:
    return tuple(
        IdMapping(int(each["containerID"]), int(each["hostID"]), int(each["size"]))
        for each in linux.get(key) or ()
    )


# The process -----------------------------------------------------------------------------------


def process_from(data: Mapping[str, Any], linux: Mapping[str, Any]) -> ProcessSpec:
    """config.md, process; also what `exec --process` reads. Raises InvalidParameter."""
    args = data.get("args") or ()
    if not args:
        raise InvalidParameter("args must not be empty")
    cwd = str(data.get("cwd") or "")
    if not cwd:
        raise InvalidParameter("Cwd property must not be empty")
    if not os.path.isabs(cwd):
        raise InvalidParameter("Cwd must be an absolute path")
    user = data.get("user") or {}
    _refuse_labels(data)
    size = data.get("consoleSize") or {}
    env = [str(each) for each in data.get("env") or ()]
    uid = int(user.get("uid") or 0)
    if not any(each.startswith("HOME=") for each in env):
        env.append(f"HOME={'/root' if uid == 0 else '/'}")
    capabilities = _capabilities(data.get("capabilities"))
    return ProcessSpec(
        args=tuple(str(each) for each in args),
        env=tuple(env),
        cwd=cwd,
        uid=uid,
        gid=int(user.get("gid") or 0),
        groups=tuple(int(gid) for gid in user.get("additionalGids") or ()),
        capabilities=capabilities,
        rlimits=_rlimits(data.get("rlimits") or ()),
        no_new_privs=bool(data.get("noNewPrivileges")),
        seccomp=_filter(linux.get("seccomp"), capabilities),
        umask=int(user["umask"]) if user.get("umask") is not None else 0o022,
        oom_score_adj=data.get("oomScoreAdj"),
        tty=bool(data.get("terminal")),
        console_size=(int(size.get("height") or 0), int(size.get("width") or 0)) if size else None,
    )


def _refuse_labels(data: Mapping[str, Any]) -> None:
    if data.get("selinuxLabel"):
        raise Unsupported("selinux label is specified in config, but selinux is disabled")
    if data.get("apparmorProfile") not in (None, "", "unconfined"):
        raise Unsupported("apparmor: config provided but apparmor not supported")


def _capabilities(data: Mapping[str, Any] | None) -> CapabilitySets:
    """The five sets. Without a word about them the process has none; names that the kernel does
    not know are left out, as the specification asks."""

    def names(key: str) -> frozenset[str]:
        return frozenset(str(n) for n in (data or {}).get(key) or () if n in CAPABILITY_NUMBERS)

    return CapabilitySets(
        bounding=names("bounding"),
        permitted=names("permitted"),
        effective=names("effective"),
        inheritable=names("inheritable"),
        ambient=names("ambient"),
    )


def _rlimits(entries: Sequence[Mapping[str, Any]]) -> tuple[Rlimit, ...]:
    found: dict[str, Rlimit] = {}
    for entry in entries:
        kind = str(entry.get("type"))
        if not kind.startswith("RLIMIT_"):
            raise InvalidParameter(f"invalid rlimit type: {kind}")
        if kind in found:
            raise InvalidParameter(f"rlimit {kind} is specified more than once")
        soft, hard = (
            -1 if int(entry.get(key) or 0) >= _INFINITY else int(entry.get(key) or 0)
            for key in ("soft", "hard")
        )
        found[kind] = Rlimit(kind.removeprefix("RLIMIT_").lower(), soft, hard)
    return tuple(found.values())


def _filter(data: Mapping[str, Any] | None, capabilities: CapabilitySets) -> bytes | None:
    if not data:
        return None
    from labkit.host.isolation.oci.filters import compiled

    return compiled(data, capabilities.permitted)


def _devices(linux: Mapping[str, Any]) -> tuple[Device, ...]:
    """The specification's default devices and those of the list, which come first."""
    found: dict[str, Device] = {}
    for entry in linux.get("devices") or ():
        path = os.path.normpath(str(entry.get("path") or ""))
        if not os.path.isabs(path):
            raise InvalidParameter(f"invalid device path {path!r}")
        found[path] = Device(path, _source_of(entry, path))
    for device in DEVICES:
        found.setdefault(device.path, device)
    return tuple(found.values())


def _source_of(entry: Mapping[str, Any], path: str) -> str:
    """A node of the machine with this type and number; the core makes ours like it."""
    kind = str(entry.get("type") or "")
    kinds = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR}
    if kind not in kinds:
        raise Unsupported(f"device {path}: type {kind!r} cannot be had here")
    number = os.makedev(int(entry.get("major") or 0), int(entry.get("minor") or 0))
    folder = "block" if kind == "b" else "char"
    named = f"/dev/{folder}/{os.major(number)}:{os.minor(number)}"
    beside = (entry.path for entry in os.scandir("/dev"))
    for candidate in (path, named, *beside):
        try:
            there = os.stat(candidate)
        except OSError:
            continue
        if stat.S_IFMT(there.st_mode) == kinds[kind] and there.st_rdev == number:
            return candidate
    raise Unsupported(
        f"device {path}: the machine has no node {kind} {os.major(number)}:{os.minor(number)}",
        hint=f"make one at {path} with mknod(1)",
    )

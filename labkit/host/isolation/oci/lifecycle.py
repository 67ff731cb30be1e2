"""create, start, delete: a container from its bundle to its end (runtime.md, lifecycle)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, LabkitError, SystemFailure, Unsupported
from labkit.host.isolation.oci.hooks import check_hooks, hooks_of, run_hooks
from labkit.host.isolation.oci.records import (
    CREATED,
    CREATING,
    STOPPED,
    Record,
    new_record,
    start_time,
)

if TYPE_CHECKING:
    from labkit.host.isolation.oci.bundle import Bundle
    from labkit.host.isolation.spec import ContainerSpec

__all__ = ["CreateOptions", "create", "delete", "signal_process", "start"]


@dataclass(frozen=True)
class CreateOptions:
    """What the command line adds to a bundle."""

    console_socket: str = ""
    pid_file: str = ""
    keep: int = 0
    warn: Callable[[str], None] = lambda _: None


def create(root: str, name: str, folder: str, options: CreateOptions) -> tuple[Record, int]:
    """Make a container whose process waits for `start`; its record, and its terminal's master if
    no console socket took it (else -1).

    Nothing is left of it when this raises.
    """
    from labkit.host.isolation.oci.bundle import OCI_VERSION, container_from, read_config

    _check_own_root()
    bundle = read_config(folder)
    check_hooks(bundle.config)
    if options.console_socket and not bundle.wants_terminal:
        raise Conflict("cannot use console socket if runc will not detach or allocate tty")
    data: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "bundle": bundle.folder,
        "rootfs": bundle.rootfs,
        "annotations": bundle.annotations,
        "owner": os.geteuid(),
    }
    record = new_record(root, name, data)
    try:
        spec, handles = container_from(bundle, name)
        try:
            return record, _create(record, bundle, spec, options)
        finally:
            for handle in handles:
                os.close(handle)
    except BaseException:
        _undo(record, bundle.config)
        raise


def _check_own_root() -> None:
    """Refuse to work from inside a chroot. There `/` is not the root of its mount namespace, and
    whoever enters the container's (exec, a hook) would come out at the machine's root instead.
    """
    from labkit.base.syscalls import in_chroot

    if not in_chroot():
        return
    raise Unsupported(
        "cannot make a container from inside a chroot: its mount namespace would lead out of it",
        hint="run labkit-oci outside of it, or make its root the true one with pivot_root",
    )


def _create(record: Record, bundle: Bundle, spec: ContainerSpec, options: CreateOptions) -> int:
    from labkit.host.isolation.oci.groups import make_group
    from labkit.host.isolation.oci.idmaps import mapped_mounts
    from labkit.host.isolation.oci.launch import Launch, listen_for_start

    with open(f"{record.folder}/config.json", "wb") as copy:
        copy.write(bundle.text)
    linux = bundle.linux
    group, record.data["groups"] = make_group(
        record.name, str(linux.get("cgroupsPath") or ""), linux.get("resources"), spec.limits
    )
    record.save()
    spec = _show_own_group(spec, group)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen_for_start(record.folder))
        launched = Launch(
            folder=record.folder,
            name=record.name,
            process=_with_listeners(spec, options.keep),
            group=group,
            spec=spec,
            listener=listener,
            keep=options.keep,
            idmaps=mapped_mounts(bundle.config, stack),
            on_built=_hook_runner(record, bundle) if _has_create_hooks(bundle.config) else None,
        ).run()
    for sentence in (*group.warnings, *launched.warnings):
        options.warn(sentence)
    record.data["pid"], record.data["pid_start"] = launched.pid, start_time(launched.pid)
    record.save()
    master = launched.master
    if master >= 0 and options.console_socket:
        from labkit.host.isolation.oci.console import send_master

        try:
            send_master(options.console_socket, master)
        finally:
            os.close(master)
        master = -1
    write_pid_file(options.pid_file, launched.pid)
    return master


def _with_listeners(spec: ContainerSpec, keep: int) -> Any:
    """Sockets a service manager hands over are announced to the program (sd_listen_fds(3))."""
    from dataclasses import replace

    count = os.environ.get("LISTEN_FDS", "")
    if not keep or not count.isdecimal():
        return spec.process
    announced = (f"LISTEN_FDS={count}", "LISTEN_PID=1")
    return replace(spec.process, env=(*spec.process.env, *announced))


def _show_own_group(spec: ContainerSpec, group: Any) -> ContainerSpec:
    """On v1 without a cgroup namespace, a container is shown its own groups and nothing else:
    mounting the hierarchy would show everybody's."""
    from dataclasses import replace
    from pathlib import Path

    from labkit.host.isolation.oci.launch import hierarchy_name
    from labkit.host.isolation.spec import Mount

    if not group.v1 or "cgroup" in spec.namespaces:
        return spec
    mounts: list[Mount] = []
    closed: list[str] = []
    for mount in spec.mounts:
        if mount.kind != "cgroup":
            mounts.append(mount)
            continue
        mounts.append(Mount("tmpfs", mount.target, data="mode=755", nosuid=True, nodev=True))
        for folder in dict.fromkeys(group.v1.values()):
            inside = str(Path(mount.target, hierarchy_name(folder)))
            mounts.append(
                Mount(
                    "bind",
                    inside,
                    source=str(folder),
                    readonly=mount.readonly,
                    nosuid=True,
                    nodev=True,
                    noexec=True,
                )
            )
        if mount.readonly:
            closed.append(mount.target)
    return replace(spec, mounts=tuple(mounts), readonly_paths=(*spec.readonly_paths, *closed))


def _has_create_hooks(config: Any) -> bool:
    return any(hooks_of(config, kind) for kind in ("prestart", "createRuntime", "createContainer"))


def _hook_runner(record: Record, bundle: Bundle) -> Callable[[int], None]:
    """What runs between the making of the namespaces and pivot_root."""

    def run(pid: int) -> None:
        record.data["pid"], record.data["pid_start"] = pid, start_time(pid)
        state = record.state(CREATING)
        run_hooks(hooks_of(bundle.config, "prestart"), "prestart", state)
        run_hooks(hooks_of(bundle.config, "createRuntime"), "createRuntime", state)
        inside = hooks_of(bundle.config, "createContainer")
        if inside:
            prefix, handle = _entering(pid, bundle.folder)
            try:
                run_hooks(inside, "createContainer", state, prefix=prefix, pass_fds=(handle,))
            finally:
                os.close(handle)

    return run


_NAMESPACES = (
    ("mnt", 0x20000),
    ("uts", 0x4000000),
    ("ipc", 0x8000000),
    ("net", 0x40000000),
)


def _entering(pid: int, cwd: str) -> tuple[list[str], int]:
    """The command that runs what follows it in the namespaces of `pid`, before its pivot_root, so
    that paths still are the machine's; and the descriptor to pass on."""
    from labkit.host.isolation.native import shim_path

    kinds = 0
    for name, flag in _NAMESPACES:
        if os.stat(f"/proc/{pid}/ns/{name}").st_ino != os.stat(f"/proc/self/ns/{name}").st_ino:
            kinds |= flag
    handle = os.pidfd_open(pid)
    return [str(shim_path()), "anchor", "enter", str(handle), str(kinds), cwd], handle


def write_pid_file(path: str, pid: int) -> None:
    """All of it or nothing, because somebody waits for it."""
    if not path:
        return
    draft = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}.{os.getpid()}"
    with open(draft, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(draft, path)


def _undo(record: Record, config: Any) -> None:
    """Whatever of a failed `create` is there goes away; hooks of the end run nevertheless."""
    pid = record.pid
    if pid:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(LabkitError, OSError):
        run_hooks(hooks_of(config, "poststop"), "poststop", record.state(STOPPED))
    if record.data.get("groups"):
        from labkit.host.isolation.oci.groups import remove_groups

        with contextlib.suppress(LabkitError):
            remove_groups(record.data["groups"])
    record.remove()


def start(record: Record) -> None:
    """Let a created container's process execute its program. Raises Conflict in another state."""
    status = record.status()
    if status == STOPPED:
        raise Conflict("cannot start a container that has stopped")
    if status != CREATED:
        raise Conflict("cannot start an already running container")
    from labkit.host.isolation.oci.launch import release

    config = record.config()
    inside = hooks_of(config, "startContainer")
    if inside:
        from labkit.host.isolation.oci.inside import run_inside

        try:
            run_inside(record, config, inside)
        except BaseException:
            _kill(record)
            raise
    release(record.folder)
    poststart = hooks_of(config, "poststart")
    if poststart:
        try:
            run_hooks(poststart, "poststart", record.state())
        except BaseException:
            _kill(record)
            raise


def _kill(record: Record) -> None:
    with contextlib.suppress(LabkitError, OSError):
        signal_process(record, signal.SIGKILL)


def signal_process(record: Record, number: int) -> None:
    """Send a signal to the container's first process. Raises Conflict when there is none."""
    pid = record.pid
    if not pid:
        raise Conflict("container not running")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    try:
        # The descriptor may be another process's that took the number meanwhile: look again.
        if not record.pid:
            raise Conflict("container not running")
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    except OSError as error:
        raise SystemFailure(f"cannot signal process {pid}: {error.strerror}") from error
    finally:
        os.close(handle)


def delete(record: Record, *, force: bool) -> None:
    """Remove a stopped container; with `force` one in any state. Raises Conflict otherwise."""
    from labkit.host.isolation.oci.groups import remove_groups

    status = record.status()
    if status not in (STOPPED, CREATED) and not force:
        raise Conflict(f"cannot delete container {record.name} that is not stopped: {status}")
    if status != STOPPED:
        _kill(record)
        _await_end(record)
    remove_groups(record.data.get("groups") or {})
    _run_poststop(record)
    record.remove()


def _await_end(record: Record) -> None:
    """A killed process is gone in a moment; a zombie counts as gone."""
    import time

    deadline = time.monotonic() + 10
    while record.pid:
        if time.monotonic() > deadline:
            raise SystemFailure(f"container {record.name} does not end")
        time.sleep(0.002)


def _run_poststop(record: Record) -> None:
    """What has ended is removed even if its hooks fail: each failure is told and passed over."""
    try:
        hooks: Sequence[Any] = hooks_of(record.config(), "poststop")
    except (OSError, ValueError):
        return
    for hook in hooks:
        try:
            run_hooks([hook], "poststop", record.state(STOPPED))
        except LabkitError as error:
            import sys

            sys.stderr.write(f"warning: {error.message}\n")

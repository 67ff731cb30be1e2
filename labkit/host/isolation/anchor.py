"""The lab host's anchor: the process that keeps its namespaces alive, and how to get inside.

Every lab host is a mount, network and uts namespace (and a user namespace for an ordinary user)
held by one tiny C process, native/anchor.c, which outlives the daemon. Containers start inside;
/var/lib/docker and /var/run/docker.sock look there as they do in books, while nothing on the
machine's own file systems is made or changed. When the anchor ends, the host is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING

from labkit.base.errors import SystemFailure, Unavailable, Unsupported
from labkit.base.paths import LabPaths
from labkit.host.isolation import idmap
from labkit.host.isolation.cgroups.processes import kill_all
from labkit.host.isolation.spec import HostNamespaces

if TYPE_CHECKING:
    from labkit.host.isolation.probe import Probe

__all__ = [
    "enter_user_namespace",
    "find_anchor",
    "host_command",
    "host_namespace_flags",
    "process_start_time",
    "restart_anchor",
    "run_on_host",
    "shim_path",
    "start_anchor",
    "stop_anchor",
]

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x4000000, 0x10000000, 0x40000000
_PR_SET_DUMPABLE = 4
_NAME = b"labkit-anchor "
_READY_TIMEOUT_S = 20.0


def shim_path() -> Path:
    """The static program `labkit-shim`; LABKIT_SHIM overrides it. Raises Unsupported if unbuilt."""
    named = os.environ.get("LABKIT_SHIM")
    if named:
        return Path(named)
    path = Path(str(resources.files("labkit.host.isolation"))) / "bin" / "labkit-shim"
    if path.exists():
        return path
    # An editable install keeps what was built in site-packages, away from the sources.
    import sysconfig

    built = Path(sysconfig.get_path("platlib"), "labkit/host/isolation/bin/labkit-shim")
    if built.exists():
        return built
    raise Unsupported(
        "labkit's native core is not built: labkit-shim is missing",
        hint="run `make lab`, or `pip install .` in the source folder",
    )


def process_start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot; with the pid it names one process for ever.

    Raises OSError when there is none (or only a zombie).
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return int(fields[19])


def _record_path(paths: LabPaths, node: str) -> Path:
    return paths.host_data(node).parent / "anchor.json"


def _socket_for(paths: LabPaths, node: str) -> Path:
    return paths.docker_socket if node == "default" else paths.run / "nodes" / node / "docker.sock"


def start_anchor(
    paths: LabPaths,
    node: str = "default",
    probe: Probe | None = None,
    *,
    hostname: str | None = None,
    mounts: Sequence[tuple[Path, str]] = (),
) -> HostNamespaces:
    """Start the host `node` and return its namespaces; the one that runs already, if one does.

    `mounts` are further folders (source on the machine, target on the host) to show there.
    Raises SystemFailure, naming the step the kernel refused.
    """
    found = find_anchor(paths, node)
    if found is not None:
        return found
    rootless = probe.mode == "rootless" if probe is not None else os.geteuid() != 0
    data = paths.host_data(node)
    for folder in (paths.home, paths.run, data.parent, data):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    views = ["bind", str(data), "/var/lib/docker", "link", str(_socket_for(paths, node))]
    views.append("/var/run/docker.sock")
    for source, target in mounts:
        views += ["bind", str(source), target]
    mine, theirs = socket.socketpair()
    with mine, theirs:
        ready = theirs.fileno()
        kind = "user" if rootless else "machine"
        words = ["anchor", "hold", hostname or _default_hostname(node), str(ready), kind, *views]
        process = subprocess.Popen(
            [f"labkit-anchor {node}", *words],
            executable=shim_path(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            pass_fds=[ready],
            start_new_session=True,
        )
        theirs.close()
        try:
            _await_ready(mine, process.pid, node)
            record = {"pid": process.pid, "start_time": process_start_time(process.pid)}
            _write_record(_record_path(paths, node), record)
            host = _open_namespaces(process.pid, with_user=rootless)
        except BaseException:
            process.kill()
            process.wait()
            raise
    # The anchor outlives us; once it ends, whoever waits for children may reap it.
    process.returncode = 0
    return host


def restart_anchor(paths: LabPaths, node: str, host: HostNamespaces) -> None:
    """Put a new process in the place of a killed anchor, in the namespaces that `host` still holds.

    Containers, networks and mounts are not touched; `host` names the new process from then on.
    Raises SystemFailure, naming the step the kernel refused.
    """
    mine, theirs = socket.socketpair()
    with mine, theirs:
        handles = [theirs.fileno(), host.mnt, host.net]
        words = ["anchor", "rejoin", _default_hostname(node), *map(str, handles)]
        process = subprocess.Popen(
            [f"labkit-anchor {node}", *words],
            executable=shim_path(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            pass_fds=handles,
            start_new_session=True,
        )
        theirs.close()
        try:
            _await_ready(mine, process.pid, node)
            record = {"pid": process.pid, "start_time": process_start_time(process.pid)}
            _write_record(_record_path(paths, node), record)
        except BaseException:
            process.kill()
            process.wait()
            raise
    process.returncode = 0
    # Everybody who was given these namespaces asks this object who holds them.
    object.__setattr__(host, "anchor_pid", process.pid)


def _default_hostname(node: str) -> str:
    return "labkit" if node == "default" else node


def _await_ready(channel: socket.socket, pid: int, node: str) -> None:
    channel.settimeout(_READY_TIMEOUT_S)
    try:
        word = channel.recv(1)
        if word == b"u":
            idmap.write_maps(pid, idmap.root_mapping("uid"), idmap.root_mapping("gid"))
            channel.sendall(b"m")
            word = channel.recv(1)
        if word == b"r":
            return
        text = channel.recv(4096) if word == b"e" else b""
    except TimeoutError:
        raise SystemFailure(f"lab host {node} did not start in {_READY_TIMEOUT_S:.0f} s") from None
    number, _, words = text.partition(b"\0")
    reason = os.strerror(int(number)) if number.isdigit() else "its process ended"
    raise SystemFailure(
        f"cannot start lab host {node}: {words.decode(errors='replace') or 'anchor'}: {reason}",
        hint="`labkit doctor` says what this machine allows",
    )


def _write_record(path: Path, record: Mapping[str, int]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)


def _open_namespaces(pid: int, *, with_user: bool) -> HostNamespaces:
    handles: list[int] = []
    try:
        for kind in ("mnt", "net", *(("user",) if with_user else ())):
            handles.append(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401
    except OSError as error:
        for handle in handles:
            os.close(handle)
        raise SystemFailure(f"cannot open the lab host's namespaces: {error.strerror}") from error
    user = handles[2] if with_user else None
    return HostNamespaces(mnt=handles[0], net=handles[1], user=user, anchor_pid=pid)


def _running_pid(paths: LabPaths, node: str) -> int | None:
    """The anchor's pid if it runs; a reused pid is told by its start time."""
    try:
        record = json.loads(_record_path(paths, node).read_text())
        pid, started = int(record["pid"]), int(record["start_time"])
        if process_start_time(pid) != started:
            return None
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return pid if file.read().startswith(_NAME) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_anchor(paths: LabPaths, node: str = "default") -> HostNamespaces | None:
    """The running host `node`, for example after a restart of the daemon; None if there is none."""
    pid = _running_pid(paths, node)
    if pid is None:
        return None
    own = os.stat("/proc/self/ns/user").st_ino
    try:
        other = os.stat(f"/proc/{pid}/ns/user").st_ino
        return _open_namespaces(pid, with_user=other != own)
    except (OSError, SystemFailure):
        return None


def stop_anchor(paths: LabPaths, node: str = "default", *, timeout_s: float = 5.0) -> None:
    """End the host `node` and every process still inside; its namespaces die with them.

    Its data stays. Nothing happens if it does not run. Raises SystemFailure when it will not end.
    """
    from labkit.host.isolation.outbound import stop_outbound

    stop_outbound(paths, node)
    pid = _running_pid(paths, node)
    if pid is not None:
        handle = None
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
        kill_all(_processes_inside(pid), lambda: _processes_inside(pid), signal.SIGKILL)
        if handle is not None:
            try:
                if _running_pid(paths, node) == pid:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                if not select.select([handle], [], [], timeout_s)[0]:
                    raise SystemFailure(f"lab host {node} (process {pid}) does not end")
            finally:
                os.close(handle)
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)  # if it was our child
    with contextlib.suppress(OSError):
        _record_path(paths, node).unlink()


def _processes_inside(anchor: int) -> list[int]:
    """Processes that share the anchor's mount namespace (commands of `%%host`, shims)."""
    try:
        wanted = os.stat(f"/proc/{anchor}/ns/mnt").st_ino
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) not in (anchor, os.getpid()):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/mnt").st_ino == wanted:
                    found.append(int(name))
    return found


def enter_user_namespace(host: HostNamespaces) -> None:
    """Make this process root of the lab (rootless). Call early: it must have one thread only.

    Raises SystemFailure when the kernel refuses. Nothing happens on a rootful host.
    """
    if host.user is None:
        return
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise SystemFailure(
            f"cannot enter the lab's user namespace: this process has {threads} threads",
            hint="enter before any thread is started",
        )
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(host.user, CLONE_NEWUSER) < 0:
        code = ctypes.get_errno()
        raise SystemFailure(f"cannot enter the lab's user namespace: {os.strerror(code)}")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # New ids make a process undumpable, and its own /proc files somebody else's: undo that.
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def host_namespace_flags(host: HostNamespaces) -> int:
    """What setns(2) must join to be on the host; the user namespace only if this process is not
    in it already, since joining one's own is refused."""
    kinds = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS
    with contextlib.suppress(OSError):
        own = os.stat("/proc/self/ns/user").st_ino
        if os.stat(f"/proc/{host.anchor_pid}/ns/user").st_ino != own:
            kinds |= CLONE_NEWUSER
    return kinds


def host_command(
    host: HostNamespaces, argv: Sequence[str], *, cwd: str = "/"
) -> tuple[list[str], tuple[int, ...]]:
    """The command that runs `argv` on the lab host, and the descriptors to pass on to it.

    The descriptors are the caller's to close once the command has been spawned. Raises
    Unavailable when the host has ended.
    """
    try:
        handle = os.pidfd_open(host.anchor_pid)
    except OSError as error:
        raise Unavailable(
            "the lab host does not run: its process was killed",
            hint="`labkit down`, then `labkit up`: containers can be started again",
        ) from error
    kinds = str(host_namespace_flags(host))
    command = [str(shim_path()), "anchor", "enter", str(handle), kinds, cwd, *argv]
    return command, (handle,)


def run_on_host(
    host: HostNamespaces,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str = "/",
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command on the lab host (`%%host`), in a session of its own.

    Exit status 127 and 126 are a command that is missing or cannot be run, as in a shell.
    """
    command, handles = host_command(host, argv, cwd=cwd)
    try:
        return subprocess.Popen(
            command,
            env=None if env is None else dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=handles,
            start_new_session=True,
        )
    finally:
        for handle in handles:
            os.close(handle)


def wait_gone(pid: int, *, timeout_s: float) -> bool:
    """Wait until a process that is not our child has ended."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            process_start_time(pid)
        except OSError:
            return True
        time.sleep(0.005)
    return False

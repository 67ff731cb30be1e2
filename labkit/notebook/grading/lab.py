"""One submission's private lab, seen from the grader: make it, use it, look at it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError, SystemFailure, Unavailable
from labkit.notebook.grading.answers import parse_answers
from labkit.notebook.grading.cgroups import GroupSet, SubmissionGroup
from labkit.notebook.grading.exercise import Exercise, Limits
from labkit.notebook.grading.launcher import Child, Zygote
from labkit.notebook.grading.plan import LAB_HOME, LAB_RUN, STUDENT_HOME, Plan
from labkit.notebook.grading.session import ShellSession
from labkit.notebook.grading.wire import Api, connect_unix
from labkit.notebook.grading.workfolder import WorkFolder
from labkit.notebook.grading.world import World

__all__ = ["ID_BASE", "Lab", "LabFactory", "refuse_without_namespaces"]

ID_BASE = 1_700_000_000
"""First id of the range that sandboxes map when root grades. It owns nothing on the machine."""

SHARED_IMAGES = "/var/lib/labkit-images"
_DAEMON_START_S = 20.0
_LAB_DISK_BYTES = 512 << 20
_DPKG = "/var/lib/dpkg"
"""What is installed: stand-ins are built of it. Only the lab that prepares images sees it."""
_ETC = (
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "ssl/certs",
)


@dataclass
class Lab:
    """A running sandbox. `session` runs cells; `world` looks from outside; `close` ends it all."""

    session: ShellSession
    limits: Limits
    has_daemon: bool
    _child: Child
    _socket: socket.socket
    _group: SubmissionGroup | None
    _mountpoint: Path
    _log: Path
    _pinned: list[int] = field(default_factory=list)

    def wait_ready(self, timeout_s: float = _DAEMON_START_S) -> None:
        """Wait for the daemon's sockets and keep hold of them.

        Raises Unavailable with the end of the lab's log when they do not appear. A lab without
        a daemon is ready at once.
        """
        if not self.has_daemon:
            return
        end = time.monotonic() + timeout_s
        while True:
            reply, descriptors = self._ask("pin")
            if reply["ready"]:
                self._pinned = descriptors
                return
            if self.session.cancelled():
                raise Unavailable("interrupted before the lab was ready")
            if reply["daemon"] is not None or time.monotonic() > end:
                reason = self.log_tail() or "no reason given"
                raise Unavailable(f"the lab of this submission did not start: {reason}")
            time.sleep(0.01)

    def world(self, *, seed: int = 0) -> World:
        """The lab as checks see it, together with what the student recorded."""
        docker, lab = ("/proc/self/fd/-1",) * 2  # names nothing: a check that asks is told so
        if self._pinned:
            docker, lab = (f"/proc/self/fd/{descriptor}" for descriptor in self._pinned)
        elif self.has_daemon:
            raise Unavailable("the lab of this submission is not running")
        return World(
            Api(partial(connect_unix, docker)),
            Api(partial(connect_unix, lab)),
            answers=self.answers(),
            seed=seed,
        )

    def pull(self, reference: str, *, deadline_s: float) -> str:
        """Fetch an image into this lab; the reason when that failed, else nothing."""
        name, _, tag = reference.rpartition(":")
        api = Api(
            partial(connect_unix, f"/proc/self/fd/{self._pinned[0]}"),
            timeout_s=deadline_s,
            deadline_s=deadline_s,
        )
        try:
            raw = api.read("POST", "/images/create", query={"fromImage": name, "tag": tag})
        except LabkitError as error:
            return error.message
        for line in raw.decode("utf-8", "replace").splitlines():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("error"):
                return str(message["error"])
        return ""

    def shut_down(self, timeout_s: float = 15.0) -> None:
        """Let the daemon end in its own time, so that what it keeps on disk is whole."""
        api = Api(partial(connect_unix, f"/proc/self/fd/{self._pinned[1]}"))
        api.post("/v1/shutdown", {"stop_containers": True})
        end = time.monotonic() + timeout_s
        while self._ask("state")[0]["daemon"] is None:
            if time.monotonic() > end:
                raise SystemFailure("the lab's daemon did not end when asked to")
            time.sleep(0.02)

    def answers(self) -> dict[str, Any]:
        reply, _ = self._ask("answers")
        return parse_answers(str(reply["text"]).encode())

    def state(self) -> dict[str, Any]:
        """`daemon`, `shell`: exit codes or None; `disk_free`: bytes; `oom`, `pids`: limit hits."""
        try:
            state, _ = self._ask("state")
        except Unavailable:
            state = {"daemon": -9, "shell": -9, "disk_free": 1 << 30}
        return {**state, **(self._group.events() if self._group else {"oom": 0, "pids": 0})}

    def log_tail(self, size: int = 2000) -> str:
        """The end of what the lab's own processes wrote."""
        with contextlib.suppress(OSError):
            return self._log.read_bytes()[-size:].decode("utf-8", "replace").strip()
        return ""

    def close(self) -> list[str]:
        """End everything inside, and remove what was made outside; what could not be removed."""
        for descriptor in self._pinned:
            os.close(descriptor)
        self._pinned = []
        self._socket.close()
        self._child.kill()
        self.session.close()
        left = self._group.remove() if self._group else []
        with contextlib.suppress(OSError):
            self._log.unlink()
        with contextlib.suppress(OSError):
            self._mountpoint.rmdir()
        return left

    def _ask(self, op: str) -> tuple[dict[str, Any], list[int]]:
        try:
            self._socket.send(json.dumps({"op": op}).encode())
            data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 4)
        except OSError as error:
            raise Unavailable(f"the lab of this submission is gone: {self.log_tail()}") from error
        if not data:
            raise Unavailable(f"the lab of this submission is gone: {self.log_tail()}")
        return json.loads(data), descriptors


class LabFactory:
    """Makes labs that share one zygote, one folder of images and one set of control groups.

    `images` is a folder where an image store is kept between runs; it belongs to the sandboxes'
    ids and is read-only to every submission.
    """

    def __init__(self, zygote: Zygote, *, images: Path) -> None:
        self._zygote = zygote
        self._images = images
        self._groups = GroupSet.find()
        self._work = WorkFolder()
        self._count = 0
        self.id_base = ID_BASE if os.geteuid() == 0 and _may_map_ranges() else None
        images.mkdir(parents=True, exist_ok=True, mode=0o711)
        if self.id_base is not None:
            os.chown(images, self.id_base, self.id_base)

    @property
    def controllers(self) -> frozenset[str]:
        """The limits that hold for submissions on this machine."""
        return self._groups.controllers

    def open(
        self,
        exercise: Exercise,
        *,
        limits: Limits | None = None,
        prepare_images: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Lab:
        """Start a lab. With `prepare_images` it may write the image store (only ours may)."""
        limits = limits or exercise.limits
        self._count += 1
        number = self._count
        group = self._groups.make(number, limits, self.id_base) if self._groups.tops else None
        mountpoint = self._work.path / f"{number}"
        mountpoint.mkdir()
        log = self._work.path / f"{number}.log"
        plan = self._plan(exercise, limits, mountpoint, group, prepare_images=prepare_images)

        with open(log, "wb", buffering=0) as sink:
            child, control, session = self._zygote.sandbox(
                plan, log=sink.fileno(), cancelled=cancelled
            )
        control.settimeout(_DAEMON_START_S)
        return Lab(session, limits, exercise.lab, child, control, group, mountpoint, log)

    def close(self) -> None:
        self._groups.close()
        self._work.close()

    def _plan(
        self,
        exercise: Exercise,
        limits: Limits,
        mountpoint: Path,
        group: SubmissionGroup | None,
        *,
        prepare_images: bool,
    ) -> Plan:
        binds, links = _system_binds()
        if not prepare_images:
            binds.append([str(self._images), SHARED_IMAGES, True])
        elif os.path.isdir(_DPKG):
            binds.append([_DPKG, _DPKG, True])
        cwd = f"{STUDENT_HOME}/{exercise.name}"
        lab_env, shell_env = _environments(exercise, shared=not prepare_images)
        shell_limits = {"core": 0, "fsize": limits.disk_bytes}
        if group is None:
            # The next best thing without control groups. Address space is not memory.
            shell_limits |= {"nproc": limits.pids, "as": limits.memory_bytes * 4}
        return Plan(
            mountpoint=str(mountpoint),
            binds=binds,
            copies=[[str(path), f"{cwd}/{path.name}"] for path in exercise.files],
            links=links,
            files=_files(),
            lab_env=lab_env,
            shell_env=shell_env,
            cwd=cwd,
            disk_bytes=limits.disk_bytes,
            lab_bytes=_LAB_DISK_BYTES,
            output_bytes=limits.output_bytes,
            id_base=self.id_base,
            join_lab=group.join_lab if group else [],
            join_shell=group.join_shell if group else [],
            cgroups=group.mounts if group else [],
            shell_limits=shell_limits,
            daemon=exercise.lab,
            writable_images=str(self._images) if prepare_images else "",
        )


def _system_binds() -> tuple[list[list[Any]], list[list[str]]]:
    """The machine's programs and Python, read-only, and nothing else of it."""
    binds: list[list[Any]] = [["/usr", "/usr", True]]
    links: list[list[str]] = []
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            links.append([os.readlink(name), name])
        elif os.path.isdir(name):
            binds.append([name, name, True])
    binds += [
        [f"/etc/{name}", f"/etc/{name}", True] for name in _ETC if os.path.exists(f"/etc/{name}")
    ]
    import labkit

    package = Path(labkit.__file__).resolve().parent
    prefixes = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), package}
    prefixes.update(map(Path, _package_folders()))
    for path in sorted(prefixes):
        inside = any(path != other and path.is_relative_to(other) for other in prefixes)
        if not path.is_relative_to("/usr") and not inside:
            binds.append([str(path), str(path), True])
    return binds, links


def _package_folders() -> list[str]:
    """Folders of installed packages outside the prefixes, such as a user's own site-packages.

    Other entries of sys.path stay out: a project folder may hold exercises with solutions.
    """
    inside = (sys.prefix + os.sep, sys.base_prefix + os.sep)
    return [
        os.path.realpath(entry)
        for entry in sys.path
        if os.path.basename(entry) in ("site-packages", "dist-packages")
        and os.path.isdir(entry)
        and not entry.startswith(inside)
    ]


def _environments(exercise: Exercise, *, shared: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What the daemon and the shell see. Nothing of the grader's own environment."""
    import labkit

    both = {
        "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "LABKIT_HOME": LAB_HOME,
        "LABKIT_RUN": LAB_RUN,
        "PYTHONPATH": os.pathsep.join(
            [str(Path(labkit.__file__).resolve().parent.parent), *_package_folders()]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TZ": os.environ.get("TZ", ""),
    }
    lab = {**both, "HOME": "/tmp"}  # noqa: S108 - the sandbox's own
    if shared:
        lab["LABKIT_SHARED_IMAGES"] = SHARED_IMAGES
    shell = {
        **both,
        "HOME": STUDENT_HOME,
        "USER": "student",
        "LABKIT_EXERCISE": exercise.name,
        "LABKIT_ANSWERS": f"{STUDENT_HOME}/.labkit/answers.json",
        "LABKIT_GRADING": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
    }
    return lab, shell


def _files() -> list[list[str]]:
    users = (f"root:x:0:0:root:{STUDENT_HOME}:/bin/sh", "nobody:x:65534:65534:nobody:/:/bin/false")
    return [
        ["/etc/passwd", "".join(f"{line}\n" for line in users)],
        ["/etc/group", "root:x:0:\nnogroup:x:65534:\n"],
        ["/etc/hosts", "127.0.0.1\tlocalhost lab\n"],
        ["/etc/hostname", "lab\n"],
        ["/etc/resolv.conf", ""],
        [f"{STUDENT_HOME}/.labkit/README", "Answers recorded by the notebook are kept here.\n"],
    ]


def _may_map_ranges() -> bool:
    """Whether this process is root of the whole machine rather than of a user namespace."""
    try:
        fields = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return len(fields) == 3 and int(fields[2]) > ID_BASE + 65536


def refuse_without_namespaces() -> None:
    """Raise SystemFailure where submissions could not be kept apart."""
    limit = Path("/proc/sys/user/max_user_namespaces")
    try:
        allowed = int(limit.read_text())
    except (OSError, ValueError):
        allowed = 0
    if allowed == 0:
        raise SystemFailure(
            "cannot grade here: this machine allows no user namespaces, so submissions could "
            "not be kept apart",
            hint="labkit doctor says more",
        )

"""The inside of one submission's sandbox, from the fork to the first cell.

    zygote
      keeper            builds the root, enters the namespaces, waits
        lab             pid 1 of the lab: proc, cgroups, lo; answers the grader
          labkitd       the lab's own daemon, root of this lab only
          reaper        pid 1 of a second pid namespace, with the lab's state hidden
            shell       the student's cells: no capabilities, no way up

Started by root, the keeper arranges the files first and then enters a user namespace whose ids
are a range that owns nothing on the machine. Started by anybody else it enters a user
namespace with its one id first, and may then arrange the files.
Everything ends when the keeper is killed, or when the grader closes its socket.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import signal
import socket
import stat
import sys
from typing import TYPE_CHECKING, Any

from labkit.base import syscalls as sc
from labkit.notebook.grading.plan import LAB_HOME, LAB_RUN, STUDENT_HOME, Plan
from labkit.notebook.grading.sandbox_root import build_root, locked_flags

if TYPE_CHECKING:
    from labkit.notebook.grading.shell import LabShell

__all__ = ["run_sandbox"]

_READ_LIMIT = 1 << 20


def run_sandbox(plan: Plan, descriptors: list[int], shell: LabShell) -> None:
    """In a fork of the zygote: become the keeper. Never returns."""
    keeper, control, out, err, log = descriptors
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    joins = _join(plan)
    _enter(plan)
    lab = os.fork()
    if lab == 0:
        try:
            sc.die_with_parent()
            _Lab(plan, keeper, (control, out, err), joins, shell).run()
        except BaseException as error:  # noqa: BLE001 - the last word of a forked child
            _say(f"lab: {type(error).__name__}: {error}")
        finally:
            os._exit(71)
    os.closerange(3, 4096)
    _, status = os.waitpid(lab, 0)
    os._exit(max(os.waitstatus_to_exitcode(status), 0))


def _say(text: str) -> None:
    os.write(2, (text + "\n").encode())


# -- the keeper ------------------------------------------------------------------------------
def _join(plan: Plan) -> list[int]:
    """Enter the lab's cgroups; open the shell's for later, while the names can be reached.

    The kernel judges a migration by who opened the file, so the shell may use these.
    """
    for path in plan.join_lab:
        _write(path, "0")
    return [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in plan.join_shell]


def _enter(plan: Plan) -> None:
    later = sc.CLONE_NEWPID | sc.CLONE_NEWNET | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS
    if plan.cgroups:
        later |= sc.CLONE_NEWCGROUP
    if plan.id_base is None:
        uid, gid = os.geteuid(), os.getegid()
        sc.unshare(sc.CLONE_NEWUSER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
        sc.unshare(sc.CLONE_NEWNS)
        build_root(plan)
        sc.unshare(later)
    else:
        sc.unshare(sc.CLONE_NEWNS)
        build_root(plan)
        release = _map_range_from_outside(plan.id_base)
        sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS | later)
        release()
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    # A change of ids clears it; it is what ends the sandbox with the zygote.
    sc.die_with_parent()


def _map_range_from_outside(base: int) -> Any:
    """Fork a helper that stays outside and writes our id maps once we have asked for them."""
    target = os.getpid()
    ask_read, ask_write = os.pipe()
    done_read, done_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        code = 1
        try:
            os.close(ask_write)
            if os.read(ask_read, 1):
                _write(f"/proc/{target}/uid_map", f"0 {base} 65536")
                _write(f"/proc/{target}/gid_map", f"0 {base} 65536")
                os.write(done_write, b"1")
                code = 0
        except OSError as error:
            _say(f"id map: {error}")
        finally:
            os._exit(code)
    os.close(done_write)

    def release() -> None:
        os.write(ask_write, b"1")
        answered = os.read(done_read, 1)
        os.waitpid(helper, 0)
        for descriptor in (ask_read, ask_write, done_read):
            os.close(descriptor)
        if not answered:
            raise OSError("the ids of the sandbox could not be mapped")

    return release


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


# -- the lab ---------------------------------------------------------------------------------
class _Lab:
    """Pid 1 of the sandbox: starts the daemon and the shell, then answers the grader."""

    def __init__(
        self,
        plan: Plan,
        keeper: int,
        shell_descriptors: tuple[int, int, int],
        joins: list[int],
        shell: LabShell,
    ) -> None:
        self._plan = plan
        self._grader = socket.socket(fileno=keeper)
        self._shell_descriptors = shell_descriptors
        self._joins = joins
        self._shell = shell
        self._daemon = 0
        self._reaper = 0
        self._ended: dict[int, int] = {}

    def run(self) -> None:
        self._mount_kernel_views()
        socket.sethostname("lab")
        sc.loopback_up()
        os.makedirs(LAB_RUN, mode=0o700, exist_ok=True)
        os.makedirs(f"{LAB_RUN}/bin", mode=0o700, exist_ok=True)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        if self._plan.daemon:
            self._daemon = self._fork(self._become_daemon)
        self._reaper = self._fork(self._become_reaper)
        for descriptor in (*self._shell_descriptors, *self._joins):
            os.close(descriptor)
        self._grader.settimeout(0.5)
        while True:
            self._reap()
            try:
                data = self._grader.recv(1 << 16)
            except TimeoutError:
                continue
            if not data:
                os._exit(0)
            self._answer(json.loads(data))

    def _mount_kernel_views(self) -> None:
        flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
        sc.mount("proc", "/proc", "proc", flags)
        sc.mount("sysfs", "/sys", "sysfs", flags)
        sc.mount("devpts", "/dev/pts", "devpts", sc.MS_NOSUID, "newinstance,ptmxmode=0666,mode=620")
        if self._plan.cgroups and self._plan.cgroups[0][0] == "cgroup2":
            sc.mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags)
        elif self._plan.cgroups:
            sc.mount("labkit", "/sys/fs/cgroup", "tmpfs", flags, "size=64k,mode=755")
            for kind, options, name in self._plan.cgroups:
                os.mkdir(f"/sys/fs/cgroup/{name}")
                sc.mount("cgroup", f"/sys/fs/cgroup/{name}", kind, flags, options)

    def _fork(self, become: Any) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                sc.die_with_parent()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                become()
            except SystemExit as leaving:
                os._exit(leaving.code if isinstance(leaving.code, int) else 1)
            except BaseException as error:  # noqa: BLE001 - the last word of a forked child
                _say(f"{become.__name__}: {type(error).__name__}: {error}")
            finally:
                os._exit(72)
        return pid

    def _become_daemon(self) -> None:
        """The lab's own daemon: what `python -m labkit.daemon` would be, without the imports."""
        self._grader.close()
        os.closerange(3, 4096)
        os.setsid()
        os.environ.clear()
        os.environ.update(self._plan.lab_env)
        os.chdir("/")
        sys.argv = ["labkitd"]
        runpy.run_module("labkit.daemon", run_name="__main__", alter_sys=True)

    def _become_reaper(self) -> None:
        self._grader.close()
        for descriptor in self._joins:
            os.write(descriptor, b"0")
            os.close(descriptor)
        sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWPID | sc.CLONE_NEWIPC)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            os._exit(max(os.waitstatus_to_exitcode(status), 0))
        sc.die_with_parent()
        sc.mount("none", "/", flags=sc.MS_REC | sc.MS_PRIVATE)
        sc.mount("proc", "/proc", "proc", sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC)
        sc.mount("labkit", LAB_HOME, "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "size=1m,mode=700")
        sc.mount(LAB_RUN, LAB_RUN, flags=sc.MS_BIND)
        kept = locked_flags(LAB_RUN)
        sc.mount("none", LAB_RUN, flags=sc.MS_REMOUNT | sc.MS_BIND | sc.MS_RDONLY | kept)
        # The magics put a `docker` for sh here, and nowhere else in this folder may be written.
        sc.mount(
            "labkit", f"{LAB_RUN}/bin", "tmpfs", sc.MS_NOSUID | sc.MS_NODEV, "size=1m,mode=700"
        )
        for name, value in self._plan.shell_limits.items():
            _lower_limit(name, value)
        sc.forbid_new_privileges()
        sc.drop_all_capabilities()
        sc.set_dumpable(False)
        self._run_shell()

    def _run_shell(self) -> None:
        """As pid 1 of the inner namespace: fork the shell and pass on how it ended."""
        from labkit.notebook.grading.shell import serve

        control, out, err = self._shell_descriptors
        shell = os.fork()
        if shell == 0:
            sc.die_with_parent()
            sc.set_dumpable(True)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            os.environ.clear()
            os.environ.update(self._plan.shell_env)
            os.chdir(self._plan.cwd)
            serve(
                self._shell,
                socket.socket(fileno=control),
                output_bytes=self._plan.output_bytes,
                tripwires=True,
            )
        os.closerange(3, 4096)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == shell:
                code = os.waitstatus_to_exitcode(status)
                os._exit(128 - code if code < 0 else code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in (self._daemon, self._reaper):
                self._ended[pid] = os.waitstatus_to_exitcode(status)

    def _answer(self, request: dict[str, Any]) -> None:
        handler = {"pin": self._pin, "answers": self._answers, "state": self._state}
        reply, descriptors = handler[request["op"]]()
        try:
            socket.send_fds(self._grader, [json.dumps(reply).encode()], descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _pin(self) -> tuple[dict[str, Any], list[int]]:
        """The sockets themselves, not their names: what they are now is what is asked later."""
        found = []
        for name in ("docker.sock", "labkit.sock"):
            try:
                found.append(os.open(f"{LAB_RUN}/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))
            except OSError:
                break
        sockets = all(stat.S_ISSOCK(os.fstat(descriptor).st_mode) for descriptor in found)
        if len(found) < 2 or not sockets:
            for descriptor in found:
                os.close(descriptor)
            return {"ready": False, "daemon": self._ended.get(self._daemon)}, []
        return {"ready": True, "daemon": None}, found

    def _answers(self) -> tuple[dict[str, Any], list[int]]:
        """What the student recorded, read without following links."""
        path = f"{STUDENT_HOME}/.labkit/answers.json"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return {"text": ""}, []
        with os.fdopen(descriptor, "rb") as file:
            usable = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = file.read(_READ_LIMIT // 8) if usable else b""
        return {"text": data.decode("utf-8", "replace")}, []

    def _state(self) -> tuple[dict[str, Any], list[int]]:
        home = os.statvfs(STUDENT_HOME)
        temporary = os.statvfs("/tmp")  # noqa: S108 - the sandbox's own
        return {
            "daemon": self._ended.get(self._daemon),
            "shell": self._ended.get(self._reaper),
            "disk_free": min(home.f_bavail * home.f_bsize, temporary.f_bavail * temporary.f_bsize),
        }, []


def _lower_limit(name: str, value: int) -> None:
    which = getattr(resource, f"RLIMIT_{name.upper()}")
    _, hard = resource.getrlimit(which)
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (wanted, wanted))

"""A container built by hand, one kernel primitive at a time.

A `Box` is one small process on the lab host that carries out one primitive per call. It exists
because the notebook's own process cannot play this part: it has threads, so unshare(2) refuses it
a user namespace, and pivot_root(2) would pull the floor from under it. The daemon owns the
process; views and checks see it like any container.

    box = Box("mine")
    box.unshare("uts")
    box.sethostname("box")
    box.run("hostname")
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from labkit.base.errors import LabkitError, NotFound, SystemFailure
from labkit.base.quantities import parse_bytes

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["Box", "BoxError", "Output"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BoxError(SystemFailure):
    """The kernel refused a primitive; `errno` says how, the message says why and what to try."""

    def __init__(self, message: str, *, errno: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this: a refusal by the kernel is a result, not a crash of the lesson."""
        lines = [f"the kernel refused: {self.message}"]
        if self.hint:
            lines.append(f"try next: {self.hint}")
        return lines


class Output(str):
    """What a command in a box printed (stdout then stderr), with its exit code.

    It is a text, so it can be searched, split and compared; like a shell's `$(…)` it has lost the
    newline at its end, which `stdout` and `stderr` keep.
    """

    __slots__ = ("exit_code", "stderr", "stdout")

    exit_code: int
    stdout: str
    stderr: str

    def __new__(cls, stdout: str, stderr: str, exit_code: int) -> Self:
        text = super().__new__(cls, (stdout + stderr).rstrip("\n"))
        text.stdout, text.stderr, text.exit_code = stdout, stderr, exit_code
        return text

    def __repr__(self) -> str:
        note = f"[exit code {self.exit_code}]" if self.exit_code else ""
        body = str(self)
        return f"{body}\n{note}" if body and note else body or note or "[no output]"


class Box:
    """One hand-built container. Use it as a context manager, or `close()` it when done."""

    def __init__(self, name: str = "box", *, client: LabClient | None = None) -> None:
        """Start the box's process: an ordinary process of the lab host, isolated in nothing yet.

        A box of the same name is closed first, so that a cell can be run again.
        """
        self._client = client if client is not None else _connect()
        self.name = name
        labels = {}
        if chapter := os.environ.get("LABKIT_CHAPTER"):
            labels["labkit.chapter"] = chapter
        for other in self._client.json("GET", "/v1/boxes"):
            if other["name"] == name:
                self._client.json("DELETE", f"/v1/boxes/{other['id']}")
        made = self._client.json("POST", "/v1/boxes", body={"name": name, "labels": labels})
        self.id: str = made["id"]

    # -- the primitives ------------------------------------------------------------------------

    def unshare(self, *kinds: str) -> None:
        """Leave the namespaces of these kinds for new ones (unshare(2)).

        Kinds: mnt, pid, ipc, uts, net, cgroup, user. A new pid namespace is entered by the next
        child only, which is why the box forks here: its child is PID 1 and carries on as the box.
        """
        self._call("unshare", kinds=list(kinds))

    def sethostname(self, name: str) -> None:
        """Set the host name (sethostname(2)): of the machine, unless `uts` is unshared."""
        self._call("sethostname", name=name)

    def chroot(self, path: str) -> None:
        """Let path names start at `path` (chroot(2)). It hides files, and nothing else."""
        self._call("chroot", path=path)

    def chdir(self, path: str) -> None:
        """Change the working folder (chdir(2))."""
        self._call("chdir", path=path)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and its parents."""
        self._call("mkdir", path=path, mode=mode)

    def write_file(self, path: str, text: str) -> None:
        """Write a small file, as the box sees the path."""
        self._call("write_file", path=path, text=text)

    def mount(
        self,
        source: str,
        target: str,
        fstype: str = "",
        *,
        flags: Sequence[str] = (),
        data: str = "",
    ) -> None:
        """Attach a file system (mount(2)). Flags: bind, rec, ro, nosuid, nodev, noexec, private."""
        self._call(
            "mount", source=source, target=target, fstype=fstype, flags=list(flags), data=data
        )

    def umount(self, target: str, *, detach: bool = False) -> None:
        """Detach a file system (umount2(2)); `detach` waits for nobody (MNT_DETACH)."""
        self._call("umount", target=target, detach=detach)

    def pivot_root(self, new_root: str, put_old: str = "") -> None:
        """Exchange the root file system itself (pivot_root(2)).

        The old one is detached, so that unlike after chroot nothing is left to climb back to;
        with `put_old`, a folder beneath `new_root`, it stays mounted there instead.
        """
        self._call("pivot_root", new_root=new_root, put_old=put_old)

    def lo_up(self) -> None:
        """Switch the loopback interface on; a new network namespace has it off."""
        self._call("lo_up")

    def map_ids(self, *, uid: int = 0, gid: int = 0) -> None:
        """Say who `uid` inside the new user namespace is outside: you (user_namespaces(7))."""
        self._call("map_ids", uid=uid, gid=gid)

    def cgroup(
        self, *, memory: str | None = None, pids: int | None = None, cpus: float | None = None
    ) -> None:
        """Put the box into a cgroup of its own with these limits (cgroups(7)).

        Prints a warning for each limit that this machine cannot enforce.
        """
        limits: dict[str, Any] = {}
        if memory is not None:
            limits["memory_bytes"] = parse_bytes(memory)
        if pids is not None:
            limits["pids"] = pids
        if cpus is not None:
            limits["nano_cpus"] = round(cpus * 1_000_000_000)
        for warning in self._call("cgroup", limits=limits).get("warnings", ()):
            print(f"WARNING: {warning}")

    # -- running something in it ---------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout_s: float = 20.0,
    ) -> Output:
        """Run a command in the box and wait for it. A text is split like a shell line.

        At most `timeout_s` seconds and a megabyte of output; a command that cannot be found ends
        with exit code 127, one killed by signal N with 128 + N, as in a shell.
        """
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        environment = {"PATH": DEFAULT_PATH, "TERM": "dumb", **(env or {})}
        found = self._call("run", argv=argv, env=environment, stdin=stdin, timeout_s=timeout_s)
        return Output(found["stdout"], found["stderr"], found["exit_code"])

    def spawn(self, command: str | Sequence[str]) -> int:
        """Start a command and leave it running in the box; its pid as the machine counts."""
        argv = shlex.split(command) if isinstance(command, str) else list(command)
        pid: int = self._call("spawn", argv=argv, env={"PATH": DEFAULT_PATH})["pid"]
        return pid

    def ps(self) -> Output:
        """The processes that the box's own /proc shows, one line each.

        Processes of this machine that the lab did not start are only counted: their command
        lines are nobody's business, and this output may be handed in.
        """
        # `exec`, not a subshell: the list should show as little of the listing itself as it can.
        script = 'for f in /proc/[0-9]*/stat; do read -r line < "$f" && echo "$line"; done'
        found = self.run(["sh", "-c", f"exec 2>/dev/null; {script}"])
        # A window on the whole machine shows processes by their outermost number.
        known = {entry["pids"][0] for entry in self._lab_processes()}
        whole_machine = not self.isolated()["pid"] or " (labkit-anchor" in found
        lines, others = ["  PID  PPID COMMAND"], 0
        for line in found.stdout.splitlines():
            pid, _, rest = line.partition(" (")
            command, _, fields = rest.rpartition(") ")
            if whole_machine and int(pid) not in known and pid != "1":
                others += 1
                continue
            lines.append(f"{int(pid):>5} {int(fields.split()[1]):>5} {command}")
        if others:
            lines.append(f"… and {others} other processes of this machine")
        if len(lines) == 1:
            lines.append("(nothing: no /proc is mounted here)")
        return Output("\n".join(lines) + "\n", "", 0)

    def _lab_processes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.json("GET", "/v1/views/namespaces")["processes"]
        return found

    # -- looking at it from outside ------------------------------------------------------------

    def inspect(self) -> dict[str, Any]:
        """What the kernel says about the box, seen from the machine: namespaces, root, limits."""
        found: dict[str, Any] = self._client.json("GET", f"/v1/boxes/{self.id}")
        return found

    @property
    def pid(self) -> int:
        """The box's process id as the machine counts; unsharing `pid` makes it another process."""
        return int(self.inspect()["pid"])

    def namespaces(self) -> dict[str, int]:
        """Inode numbers of /proc/PID/ns/*, by kind."""
        found: dict[str, int] = self.inspect()["namespaces"]
        return found

    def isolated(self) -> dict[str, bool]:
        """For each kind of namespace: does the box have its own (True) or the host's (False)?"""
        found = self.inspect()
        host = found["host_namespaces"]
        return {kind: inode != host.get(kind) for kind, inode in found["namespaces"].items()}

    def limits(self) -> dict[str, Any]:
        """The box's cgroup: limits in force and how often each one has fired."""
        found: dict[str, Any] = self.inspect()["cgroup"]
        return found

    def rootfs(self, image: str = "busybox") -> str:
        """A fresh private copy of an image's file tree; the path, as the lab host sees it."""
        path: str = self._call("rootfs", image=image)["path"]
        return path

    def close(self) -> None:
        """End the box and everything in it."""
        try:
            self._client.json("DELETE", f"/v1/boxes/{self.id}")
        except NotFound:
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            own = [kind for kind, isolated in self.isolated().items() if isolated]
        except LabkitError:
            return f"<Box {self.name!r}: closed>"
        return f"<Box {self.name!r} pid {self.pid}: own {', '.join(own) if own else 'nothing yet'}>"

    def _repr_html_(self) -> str:
        from labkit.notebook.course.tiles import tiles

        try:
            return tiles(self.name, self.namespaces(), self.isolated())
        except LabkitError:
            return f"<p>Box {self.name!r} is closed.</p>"

    def _call(self, op: str, **args: Any) -> dict[str, Any]:
        reply = self._client.json("POST", f"/v1/boxes/{self.id}/ops", body={"op": op, "args": args})
        if not reply["ok"]:
            raise BoxError(
                reply["error"], errno=int(reply.get("errno") or 0), hint=reply.get("hint") or None
            )
        result: dict[str, Any] = reply["result"]
        return result


def _connect() -> LabClient:
    from labkit.notebook.client import LabClient, ensure_daemon

    return LabClient(f"unix://{ensure_daemon().lab_socket}")

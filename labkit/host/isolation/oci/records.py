"""What is remembered of a container between two words of the command line (runtime.md, state).

ROOT/ID holds state.json, the configuration as it was at `create`, and, while the process has not
been started, the socket it waits at. Whether it runs is asked of the kernel each time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter, NotFound, SystemFailure

__all__ = [
    "CREATED",
    "CREATING",
    "PAUSED",
    "RUNNING",
    "STOPPED",
    "Record",
    "default_root",
    "open_record",
    "records",
    "start_time",
]

CREATING, CREATED, RUNNING, PAUSED, STOPPED = "creating", "created", "running", "paused", "stopped"
_NAME = re.compile(r"[\w+.-]+\Z", re.ASCII)
_NAME_MAX = 120


def default_root() -> str:
    """/run/labkit-oci, or the like in an ordinary user's runtime folder."""
    if os.geteuid() == 0 and not os.environ.get("XDG_RUNTIME_DIR", "").startswith("/run/user/"):
        return "/run/labkit-oci"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return f"{runtime}/labkit-oci" if runtime else "/run/labkit-oci"


def start_time(pid: int) -> int:
    """When a process began, in ticks since boot; 0 when there is none or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _check_name(name: str) -> None:
    if not _NAME.match(name) or name in (".", "..") or len(name) > _NAME_MAX:
        raise InvalidParameter(f"invalid container ID format: {name}")


class Record:
    """One container. `data` is what state.json holds."""

    def __init__(self, root: str, name: str, data: dict[str, Any]) -> None:
        self.root = root
        self.name = name
        self.data = data

    @property
    def folder(self) -> str:
        return f"{self.root}/{self.name}"

    @property
    def pid(self) -> int:
        """The container's first process, 0 when it has ended or never was."""
        pid, started = int(self.data.get("pid") or 0), int(self.data.get("pid_start") or 0)
        return pid if pid and started and start_time(pid) == started else 0

    @property
    def awaits_start(self) -> bool:
        return os.path.exists(f"{self.folder}/start.sock")

    def status(self) -> str:
        """One of the specification's states, or `paused`."""
        if not self.data.get("pid"):
            # Somebody is making it, or died while making it.
            return CREATING if start_time(int(self.data.get("maker") or 0)) else STOPPED
        if not self.pid:
            return STOPPED
        if self.awaits_start:
            return CREATED
        from labkit.host.isolation.oci.groups import is_frozen

        return PAUSED if is_frozen(self.data.get("groups") or {}) else RUNNING

    def config(self) -> dict[str, Any]:
        """The configuration the container was created with."""
        with open(f"{self.folder}/config.json", "rb") as file:
            found: dict[str, Any] = json.loads(file.read())
            return found

    def save(self) -> None:
        """Write state.json so that a reader finds all of it or what was there before."""
        draft = f"{self.folder}/state.json.{os.getpid()}"
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(self.data, file)
        os.rename(draft, f"{self.folder}/state.json")

    def state(self, status: str | None = None) -> dict[str, Any]:
        """The state as hooks get it on their stdin (runtime.md)."""
        found = status or self.status()
        state: dict[str, Any] = {
            "ociVersion": self.data["ociVersion"],
            "id": self.name,
            "status": found,
            "pid": 0 if found == STOPPED else int(self.data.get("pid") or 0),
            "bundle": self.data["bundle"],
        }
        if self.data.get("annotations"):
            state["annotations"] = self.data["annotations"]
        return state

    def remove(self) -> None:
        """Forget the container."""
        for folder in (f"{self.folder}/exec", self.folder):
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    os.unlink(f"{folder}/{name}")
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    @contextlib.contextmanager
    def locked(self) -> Any:
        """One word at a time for one container."""
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def new_record(root: str, name: str, data: dict[str, Any]) -> Record:
    """Claim a name. Raises Conflict when it is taken."""
    _check_name(name)
    try:
        os.makedirs(root, mode=0o711, exist_ok=True)
        os.mkdir(f"{root}/{name}", 0o700)
    except FileExistsError:
        raise Conflict("container with given ID already exists") from None
    except OSError as error:
        raise SystemFailure(
            f"cannot keep state in {root}: {(error.strerror or '').lower()}",
            hint="name another folder with --root",
        ) from error
    record = Record(root, name, data)
    data["maker"] = os.getpid()
    data["created"] = _now()
    record.save()
    return record


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def open_record(root: str, name: str) -> Record:
    """A container by name. Raises NotFound."""
    _check_name(name)
    for _ in range(50):
        try:
            with open(f"{root}/{name}/state.json", "rb") as file:
                return Record(root, name, json.loads(file.read()))
        except FileNotFoundError:
            if not os.path.isdir(f"{root}/{name}"):
                break
            time.sleep(0.002)  # being made this very moment
        except ValueError as error:
            raise SystemFailure(f"state of container {name} cannot be read: {error}") from error
    raise NotFound("container does not exist")


def records(root: str) -> list[Record]:
    """Every container, by name."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(root)):
            if _NAME.match(name) and os.path.exists(f"{root}/{name}/state.json"):
                with contextlib.suppress(NotFound):
                    found.append(open_record(root, name))
    return found

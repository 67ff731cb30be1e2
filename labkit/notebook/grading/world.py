"""The world as checks see it: a read-only view of one lab, taken from outside the student's kernel.

Everything is asked of the daemon (the Docker API and the lab's own API); nothing is believed
because a notebook printed it. What the student wrote down deliberately, a prediction or an
answer to a question, is read with `answer`.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.base.errors import Conflict, NotFound
from labkit.notebook.grading.checks import Missing, NotGradableHere
from labkit.notebook.grading.wire import Api

__all__ = ["Container", "ExecResult", "World"]

_UNSET: Any = object()


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command inside a container did."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """Both streams, standard output first."""
        return self.stdout + self.stderr


@dataclass(frozen=True, slots=True)
class Container:
    """One container, from its inspect document (kept whole in `details`)."""

    details: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.details["Id"])

    @property
    def name(self) -> str:
        return str(self.details["Name"]).removeprefix("/")

    @property
    def image(self) -> str:
        """The image as the student wrote it, such as `busybox` or `alpine:3.20`."""
        return str(self.details["Config"]["Image"])

    @property
    def state(self) -> str:
        """created, running, paused, restarting, removing, exited or dead."""
        return str(self.details["State"]["Status"])

    @property
    def running(self) -> bool:
        return bool(self.details["State"]["Running"])

    @property
    def exit_code(self) -> int:
        return int(self.details["State"]["ExitCode"])

    @property
    def oom_killed(self) -> bool:
        return bool(self.details["State"].get("OOMKilled", False))

    @property
    def pid(self) -> int:
        """The first process as the lab host numbers it; 0 when it does not run."""
        return int(self.details["State"].get("Pid") or 0)

    @property
    def command(self) -> list[str]:
        """The program and its arguments as they were started."""
        return [str(self.details.get("Path", "")), *map(str, self.details.get("Args") or [])]

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.details["Config"].get("Labels") or {})

    @property
    def env(self) -> dict[str, str]:
        pairs = (str(item).partition("=") for item in self.details["Config"].get("Env") or [])
        return {name: value for name, _, value in pairs}

    @property
    def memory_bytes(self) -> int:
        """The memory limit; 0 is none."""
        return int(self.details["HostConfig"].get("Memory") or 0)

    @property
    def restart_count(self) -> int:
        return int(self.details.get("RestartCount") or 0)

    @property
    def started_at(self) -> str:
        """RFC 3339; Docker's zero time when it never ran."""
        return str(self.details["State"].get("StartedAt", ""))


class World:
    """A read-only view of a lab. `seed` is the notebook's parameter of that name.

    `docker` and `lab` are the two APIs; a lab on a real Docker Engine has no `lab`, and checks
    that need it end as not gradable here.
    """

    def __init__(
        self,
        docker: Api,
        lab: Api | None = None,
        *,
        answers: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self._docker = docker
        self._lab_api = lab
        self._answers = dict(answers or {})
        self.seed = seed

    # -- containers and images ------------------------------------------------------------
    def containers(
        self,
        all: bool = True,  # noqa: A002 - Docker's own word
        **filters: str | Sequence[str],
    ) -> list[Container]:
        """Every container (only running ones with all=False); filters as in `docker ps -f`:
        `label="labkit.chapter=02"`, `status="exited"`, `ancestor="busybox"`, `name="web"`."""
        query = {"all": "1" if all else "0"}
        if filters:
            query["filters"] = json.dumps(
                {
                    key: [value] if isinstance(value, str) else list(value)
                    for key, value in filters.items()
                }
            )
        found = []
        for entry in self._docker.get("/containers/json", query):
            try:
                found.append(Container(self._docker.get(f"/containers/{entry['Id']}/json")))
            except NotFound:
                continue  # removed between the two questions (a container run with --rm)
        return found

    def find(self, name: str) -> Container | None:
        """The container of that name or id, or None."""
        try:
            return Container(self._docker.get(f"/containers/{name}/json"))
        except NotFound:
            return None

    def container(self, name: str) -> Container:
        """The container of that name or id; a failed check when there is none."""
        found = self.find(name)
        if found is None:
            raise Missing(
                f"a container named {name}", found="no container of that name", look="docker ps -a"
            )
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        """The whole inspect document of a container."""
        return dict(self.container(name).details)

    def images(self) -> list[dict[str, Any]]:
        """Docker's image summaries."""
        return list(self._docker.get("/images/json"))

    def image(self, reference: str) -> dict[str, Any]:
        """The inspect document of an image; a failed check when it is not here."""
        try:
            return dict(self._docker.get(f"/images/{reference}/json"))
        except NotFound:
            raise Missing(
                f"the image {reference}", found="no such image", look="docker images"
            ) from None

    def changes(self, name: str) -> list[dict[str, Any]]:
        """What a container changed in its files: Path, and Kind 0 modified, 1 added, 2 deleted."""
        return list(self._docker.get(f"/containers/{self.container(name).id}/changes") or [])

    def logs(self, name: str) -> str:
        """Everything a container wrote, both streams in order."""
        one = self.container(name)
        raw = self._docker.read(
            "GET", f"/containers/{one.id}/logs", query={"stdout": "1", "stderr": "1"}
        )
        if one.details["Config"].get("Tty"):
            return raw.decode("utf-8", "replace")
        return "".join(text for _, text in _frames(raw))

    def top(self, name: str) -> list[list[str]]:
        """The processes of a container, one row each, as `docker top` shows them."""
        return list(self._docker.get(f"/containers/{self.container(name).id}/top")["Processes"])

    def exec(self, name: str, argv: Sequence[str], *, user: str = "") -> ExecResult:
        """Run a command in a running container, to look around. It must change nothing."""
        one = self.container(name)
        if not one.running:
            raise Missing(f"{name} running", found=f"it is {one.state}", look="docker ps -a")
        body = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True, "User": user}
        made = self._docker.post(f"/containers/{one.id}/exec", body)["Id"]
        raw = self._docker.read("POST", f"/exec/{made}/start", body={"Detach": False, "Tty": False})
        streams = {1: "", 2: ""}
        for stream, text in _frames(raw):
            streams[stream] = streams.get(stream, "") + text
        details = self._docker.get(f"/exec/{made}/json")
        return ExecResult(int(details.get("ExitCode") or 0), streams[1], streams[2])

    def events(self, **filters: str | Sequence[str]) -> list[dict[str, Any]]:
        """What happened so far, oldest first (`type="container"`, `event="die"`, …)."""
        query = {"since": "0", "until": f"{time.time():.6f}"}
        if filters:
            query["filters"] = json.dumps(
                {
                    key: [value] if isinstance(value, str) else list(value)
                    for key, value in filters.items()
                }
            )
        return [dict(event) for event in self._docker.lines("/events", query)]

    # -- what only a labkit daemon can tell -------------------------------------------------
    def boxes(self) -> list[dict[str, Any]]:
        """Hand-built containers (chapter 01), each with name, id, namespaces and pids."""
        return [
            dict(self._lab().get(f"/v1/boxes/{box['id']}")) for box in self._lab().get("/v1/boxes")
        ]

    def box(self, name: str) -> dict[str, Any]:
        """The box of that name or id; a failed check when there is none."""
        for one in self.boxes():
            if name in (one.get("name"), one.get("id")):
                return one
        raise Missing(
            f"a box named {name}", found="no box of that name", look="%lab view namespaces"
        )

    def cgroup(self, name: str) -> dict[str, Any]:
        """The control group of a box or a container of that name.

        Keys: memory_limit_bytes, pids_limit (0 or None is none), oom_kills; a container also
        has nano_cpus.
        """
        for one in self.boxes():
            if name in (one.get("name"), one.get("id")):
                return dict(one.get("cgroup") or {})
        made = self.container(name)
        host = made.details["HostConfig"]
        return {
            "memory_limit_bytes": made.memory_bytes,
            "pids_limit": int(host.get("PidsLimit") or 0),
            "nano_cpus": int(host.get("NanoCpus") or 0),
            "oom_kills": int(made.oom_killed),
        }

    def confinement(self, name: str) -> dict[str, Any]:
        """What the kernel says holds a running container's first process: `capabilities` (sets by
        name), `seccomp`, `no_new_privs`, `uid`, `masked`, `readonly`, `cgroup`."""
        made = self.container(name)
        if not made.running:
            raise Missing(f"{name} running", found=f"it is {made.state}", look="docker ps -a")
        return dict(self._lab().get(f"/v1/containers/{made.id}/confinement"))

    def volumes(self, **filters: str) -> list[dict[str, Any]]:
        """Volumes as `docker volume ls --filter` finds them (`dangling="true"`, `name="data"`)."""
        query = {"filters": json.dumps({key: [value] for key, value in filters.items()})}
        return list(self._docker.get("/volumes", query=query).get("Volumes") or [])

    def layers(self, of: str, *folders: str, other: str = "") -> dict[str, Any]:
        """An image or a container taken apart, as the layers view has it: `layers` (lowest first),
        `steps`, `folders` (those asked for), and `other`, the comparison with a second image."""
        found: dict[str, Any] = {}
        for folder in folders or ("/",):
            query = {"of": of, "path": folder, **({"other": other} if other else {})}
            try:
                answer = dict(self._lab().get("/v1/views/layers", query))
            except NotFound as error:
                raise Missing(
                    f"{of} with its layers", found=str(error), look="docker images"
                ) from None
            found = {**answer, "folders": {**found.get("folders", {}), **answer["folders"]}}
        return found

    def in_layers(self, image: str, path: str) -> list[tuple[int, bytes]]:
        """(layer number, content) of a file in each layer of an image that has it, seen or not."""
        from labkit.notebook.grading.saved import files_in_layers

        self.image(image)
        return files_in_layers(self._docker.read("GET", f"/images/{image}/get"), path)

    def layers_holding(self, image: str, needle: bytes) -> list[int]:
        """Numbers of an image's layers in which some file contains these bytes, seen or not."""
        from labkit.notebook.grading.saved import layers_holding

        self.image(image)
        return layers_holding(self._docker.read("GET", f"/images/{image}/get"), needle)

    def namespaces(self) -> dict[str, Any]:
        """The namespaces view: the host's inodes and each process with its own."""
        return dict(self._lab().get("/v1/views/namespaces"))

    def namespaces_of(self, name: str) -> dict[str, int]:
        """Inode by kind of the processes that belong to a container or a box of that name."""
        for process in self.namespaces()["processes"]:
            owner = process.get("owner", {})
            if owner.get("kind") in ("container", "box") and name in (
                owner.get("name"),
                owner.get("id"),
            ):
                return {str(kind): int(inode) for kind, inode in process["namespaces"].items()}
        raise Missing(
            f"a running process that belongs to {name}", found="none", look="%lab view namespaces"
        )

    def host_namespaces(self) -> dict[str, int]:
        """Inode by kind of the lab host."""
        return {str(k): int(v) for k, v in self.namespaces()["host"]["namespaces"].items()}

    def history(self, name: str) -> list[dict[str, Any]]:
        """The states a container went through: [{"state", "at_ns", "action"}]."""
        wanted = self.container(name).id
        for one in self._lab().get("/v1/views/lifecycle")["containers"]:
            if one["id"] == wanted:
                return list(one["history"])
        return []

    def timeline(self, name: str) -> dict[str, Any]:
        """The kernel steps that started a container."""
        return dict(self._lab().get(f"/v1/containers/{self.container(name).id}/timeline"))

    def status(self) -> dict[str, Any]:
        """The daemon's own account of itself: mode, nodes, limits, warnings."""
        return dict(self._lab().get("/v1/status"))

    def raft(self) -> list[dict[str, Any]]:
        """What each manager of the swarm believes: `id`, `name`, `up`, `role`, `term`, `vote`,
        `leader`, `commit`…; a failed check when no swarm is up."""
        try:
            return [dict(manager) for manager in self._lab().get("/v1/raft")]
        except Conflict:
            raise Missing("a swarm", found="no swarm is up", look="%swarm status") from None

    def chaos(self) -> dict[str, Any]:
        """What was done to the cluster (`log`) and which wires are bad now (`wires`)."""
        return dict(self._lab().get("/v1/chaos"))

    # -- what the student wrote down --------------------------------------------------------
    @property
    def answers(self) -> dict[str, Any]:
        """Every answer and prediction recorded in the notebook."""
        return dict(self._answers)

    def answer(self, key: str, default: Any = _UNSET) -> Any:
        """The student's recorded answer; a failed check when there is none and no default."""
        if key in self._answers:
            return self._answers[key]
        if default is _UNSET:
            raise Missing(f"an answer for {key!r}", found="no answer recorded")
        return default

    def not_gradable(self, reason: str) -> NotGradableHere:
        """For checks: `raise world.not_gradable("no memory controller on this machine")`."""
        return NotGradableHere(reason)

    def _lab(self) -> Api:
        if self._lab_api is None:
            raise NotGradableHere("this check needs labkit's own daemon, not another Docker Engine")
        return self._lab_api


def _frames(raw: bytes) -> list[tuple[int, str]]:
    """Docker's multiplexed stream: an 8-byte header (stream, length) before each piece."""
    pieces: list[tuple[int, bytes]] = []
    position = 0
    while position + 8 <= len(raw):
        stream, length = struct.unpack_from(">BxxxL", raw, position)
        pieces.append((stream, raw[position + 8 : position + 8 + length]))
        position += 8 + length
    return [(stream, data.decode("utf-8", "replace")) for stream, data in pieces]

"""One container in memory: its fixed definition, its changing state, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from labkit.host.engine.config import ContainerConfig
from labkit.host.engine.hostconfig import HostConfig, NetworkingConfig
from labkit.host.engine.ports import ShimPort
from labkit.host.engine.records import HISTORY_KEPT
from labkit.host.engine.states import Change, Status
from labkit.host.engine.wire import read, write
from labkit.host.isolation.spec import RootSpec

if TYPE_CHECKING:
    from labkit.host.engine.execs import Exec
    from labkit.host.engine.health import HealthMonitor
    from labkit.host.engine.sessions import PendingAttach
    from labkit.host.network.dns import DnsServer

__all__ = ["Condition", "Container", "Definition", "MountRecord", "State"]

Condition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One mount the user asked for, resolved: what inspect lists and what is mounted."""

    kind: Literal["bind", "volume", "tmpfs"]
    source: str
    target: str
    writable: bool = True
    mode: str = ""
    name: str = ""
    propagation: str = ""
    options: str = ""
    anonymous: bool = False
    recursive: bool = True
    subpath: str = ""
    """A folder of the volume to mount in place of all of it."""
    must_exist: bool = False
    """The source of a bind is not made when it is missing (`--mount`)."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a container is; changed only by rename (the name is beside it) and update."""

    id: str
    created_ns: int
    image_id: str
    image: str
    """The image as the user wrote it."""
    path: str
    args: tuple[str, ...]
    config: ContainerConfig
    host: HostConfig
    networking: NetworkingConfig
    mounts: tuple[MountRecord, ...] = ()
    platform: str = "linux"

    def to_json(self) -> dict[str, Any]:
        """The form kept in the records."""
        return {
            "id": self.id,
            "created_ns": self.created_ns,
            "image_id": self.image_id,
            "image": self.image,
            "path": self.path,
            "args": list(self.args),
            "config": write(self.config),
            "host": write(self.host),
            "networking": write(self.networking),
            "mounts": [asdict(mount) for mount in self.mounts],
            "platform": self.platform,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Definition:
        """The inverse of `to_json`."""
        return cls(
            id=found["id"],
            created_ns=found["created_ns"],
            image_id=found["image_id"],
            image=found["image"],
            path=found["path"],
            args=tuple(found["args"]),
            config=read(ContainerConfig, found["config"]),
            host=read(HostConfig, found["host"]),
            networking=read(NetworkingConfig, found["networking"]),
            mounts=tuple(MountRecord(**mount) for mount in found["mounts"]),
            platform=found["platform"],
        )


@dataclass(frozen=True, slots=True)
class State:
    """What a container is doing. Times are Unix nanoseconds, 0 for never."""

    status: Status = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at_ns: int = 0
    finished_at_ns: int = 0
    restart_count: int = 0
    backoff_ms: int = 0
    """The last wait before a restart; 0 when the next one starts afresh."""
    manually_stopped: bool = False
    health: dict[str, Any] | None = None

    @property
    def is_running(self) -> bool:
        """Docker's `Running`: also while paused or waiting for a restart."""
        return self.status in ("running", "paused", "restarting")

    @property
    def is_live(self) -> bool:
        """A process exists."""
        return self.status in ("running", "paused")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def changed(self, **values: Any) -> State:
        """A copy with `values` in place."""
        return replace(self, **values)


@dataclass(eq=False, slots=True)
class Container:
    """The engine's handle on one container; its `lock` guards every change of state."""

    definition: Definition
    name: str
    state: State = field(default_factory=State)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shim: ShimPort | None = None
    watcher: asyncio.Task[None] | None = None
    restart_timer: asyncio.Task[None] | None = None
    health: HealthMonitor | None = None
    removing: bool = False
    keep: bool = False
    """Set during a restart, when AutoRemove must not act."""
    root: RootSpec | None = None
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no process exists."""
    execs: dict[str, Exec] = field(default_factory=dict)
    resolver: DnsServer | None = None
    """Serves 127.0.0.11 inside, on networks with names."""
    history: deque[Change] = field(default_factory=lambda: deque(maxlen=HISTORY_KEPT))
    pending: list[PendingAttach] = field(default_factory=list)
    waiters: dict[Condition, list[asyncio.Future[dict[str, Any]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.state.is_live:
            self.exited.set()

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def config(self) -> ContainerConfig:
        return self.definition.config

    @property
    def host(self) -> HostConfig:
        return self.definition.host

    def attributes(self, **extra: str) -> dict[str, str]:
        """What an event about this container carries: labels, image, name, and `extra`."""
        return {
            **(self.config.labels or {}),
            "image": self.definition.image,
            "name": self.name,
            **extra,
        }

    def waiter(self, condition: Condition) -> asyncio.Future[dict[str, Any]]:
        """A future that is done when `condition` next becomes true."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        waiting = self.waiters.setdefault(condition, [])
        waiting.append(future)

        def forget(done: asyncio.Future[dict[str, Any]]) -> None:
            # `docker run -d` hangs up at once; a container may run for years.
            if done in waiting:
                waiting.remove(done)

        future.add_done_callback(forget)
        return future

    def settle(self, *conditions: Condition, error: str = "") -> None:
        """Tell everyone waiting for one of `conditions` how the container ended."""
        answer: dict[str, Any] = {"StatusCode": self.state.exit_code}
        if error:
            answer["Error"] = {"Message": error}
        for condition in conditions:
            for future in self.waiters.pop(condition, ()):
                if not future.done():
                    future.set_result(answer)

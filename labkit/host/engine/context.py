"""What every part of one host's engine shares: records, events, the containers, the ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from labkit.base.ids import is_id_prefix, new_id
from labkit.base.paths import LabPaths
from labkit.host.engine.container import Container, State
from labkit.host.engine.events import EventLog
from labkit.host.engine.folderwatch import FolderWatch
from labkit.host.engine.networks import Networks
from labkit.host.engine.ports import Ports
from labkit.host.engine.records import Records, Write
from labkit.host.engine.sampling import Sampler
from labkit.host.engine.settings import read_settings
from labkit.host.engine.states import Action, Change, successor
from labkit.host.engine.volumes import Volumes

if TYPE_CHECKING:
    from labkit.host.engine.execs import Exec

__all__ = ["Context", "Ports"]

Json = dict[str, Any]

_TIMELINES_KEPT = 100


class Context:
    """One host's engine, without its endpoints."""

    def __init__(self, paths: LabPaths, ports: Ports, node: str, records: Records) -> None:
        self.paths = paths
        self.ports = ports
        self.node = node
        self.records = records
        self.data = paths.host_data(node)
        self.settings = read_settings(paths.home / "etc" / "daemon.json")
        self.events = EventLog(records.load_events())
        self.volumes = Volumes(self, records.load_volumes())
        self.networks = Networks(self, records.load_networks(), records.load_endpoints())
        self.outside_resolver: Callable[[bytes], Awaitable[bytes | None]] | None = None
        """Answers for names of the simulated outside; None where there is a real one."""
        self.folders = FolderWatch()
        self.sampler = Sampler(self)
        self.containers: dict[str, Container] = {}
        self.names: dict[str, str] = {}
        self.execs: dict[str, Exec] = {}
        self.timelines: OrderedDict[str, Json] = OrderedDict()
        self.engine_id = records.fact("engine-id", new_id())
        self.opened_at_ns = time.time_ns()
        self.closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, paths: LabPaths, ports: Ports, *, node: str) -> Context:
        """Make the folders and open the records; containers are loaded by recovery."""
        data = paths.host_data(node)
        try:
            for folder in (data, data / "containers", data / "volumes"):
                folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemFailure(
                f"cannot create {data}: {error.strerror}",
                hint="check that the disk is not full and LABKIT_HOME is writable",
            ) from error
        # Beside the data folder, not in it: a container that mounts /var/lib/docker of the lab
        # host must not reach the engine's memory.
        records = await asyncio.to_thread(Records, data.parent / "engine.sqlite")
        return cls(paths, ports, node, records)

    async def close(self) -> None:
        """Stop watching; processes stay."""
        self.closing = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for container in self.containers.values():
            for pending in container.pending:
                pending.abandon()
            shims = [container.shim, *(process.shim for process in container.execs.values())]
            for shim in shims:
                if shim is not None:
                    shim.detach()
            if container.resolver is not None:
                container.resolver.close()
        self.folders.close()
        await self.networks.close()
        await self.records.close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` beside, until done or `close`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or self.closing:
            return
        error = task.exception()
        if error is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{task.get_name()} failed", "exception": error, "task": task}
            )

    # -- finding ---------------------------------------------------------------------------------

    def find(self, reference: str) -> Container:
        """By id, name or unambiguous prefix, in that order."""
        wanted = reference.removeprefix("/")
        if wanted in self.containers:
            return self.containers[wanted]
        if wanted in self.names:
            return self.containers[self.names[wanted]]
        found = (
            [identifier for identifier in self.containers if identifier.startswith(wanted)]
            if is_id_prefix(wanted)
            else []
        )
        if len(found) > 1:
            raise InvalidParameter(
                f"multiple IDs found with provided prefix: {wanted}",
                hint="type more digits of the id, or use the container's name",
            )
        if not found:
            raise NotFound(f"No such container: {reference}", hint="`docker ps -a` lists them all")
        return self.containers[found[0]]

    def claim_name(self, name: str, identifier: str) -> None:
        """Take `name`, or Conflict with Docker's sentence."""
        holder = self.names.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{holder}". You have to remove (or rename) that container to be able to reuse '
                "that name.",
                hint=f"`docker rm {name}` removes it, or choose another --name",
            )
        self.names[name] = identifier

    def folder(self, identifier: str) -> Path:
        """A container's own folder (log, hosts, hostname, resolv.conf, shim)."""
        return self.data / "containers" / identifier

    def shown(self, path: Path | str) -> str:
        """`path` as the lab host sees it: the data folder is its /var/lib/docker."""
        text = str(path)
        data = str(self.data)
        if text == data or text.startswith(data + "/"):
            return "/var/lib/docker" + text[len(data) :]
        return text

    def opened(self, path: str) -> str:
        """`path` of the lab host as this process can open it."""
        host = self.ports.host
        if host is None or not host.anchor_pid:
            return path
        return f"/proc/{host.anchor_pid}/root{path}"

    # -- changing --------------------------------------------------------------------------------

    async def transit(
        self,
        container: Container,
        action: Action,
        state: State,
        *,
        events: tuple[Json, ...] = (),
        is_fact: bool = False,
    ) -> bool:
        """Make one transition of the table durable, then visible. Returns whether it is durable.

        `state` carries the new values; its status is overwritten by the table's. The caller holds
        the container's lock. `is_fact` marks what has happened whether or not it can be written
        down (a process has ended): it becomes visible in any case, and is written down as soon as
        the disk takes it.
        """
        source = container.state.status
        target = successor(source, action)
        assert target is not None, f"no transition {action!r} from {source!r}"
        new = state.changed(status=target)
        change = Change(target, time.time_ns(), action)
        writes = (
            (
                "UPDATE containers SET state = ? WHERE id = ?",
                (json.dumps(new.to_json()), container.id),
            ),
            self.history_row(container.id, change),
            *(EventLog.write_of(event) for event in events),
        )
        is_durable = True
        try:
            await self.records.write(*writes)
        except SystemFailure:
            if not is_fact:
                raise
            is_durable = False
        container.state = new
        container.history.append(change)
        self.events.publish(*events)
        if not is_durable:
            self.spawn(self._write_later(container, new), f"record {container.name}")
        return is_durable

    async def _write_later(self, container: Container, state: State) -> None:
        """Write a fact down once the disk takes it; a newer state makes it pointless."""
        while container.state is state and container.id in self.containers and not self.closing:
            await asyncio.sleep(1)
            with contextlib.suppress(SystemFailure):
                await self.save_state(container, state)
                return

    @staticmethod
    def history_row(identifier: str, change: Change) -> Write:
        return (
            "INSERT INTO history(container, state, at_ns, action) VALUES (?, ?, ?, ?)",
            (identifier, change.state, change.at_ns, change.action),
        )

    async def save_state(self, container: Container, state: State) -> None:
        """Values that change without a transition (counters, flags, health)."""
        container.state = state
        await self.records.write(
            (
                "UPDATE containers SET state = ? WHERE id = ?",
                (json.dumps(state.to_json()), container.id),
            )
        )

    async def emit(
        self, kind: str, action: str, identifier: str, attributes: dict[str, str]
    ) -> None:
        """Record and publish one event that goes with no transition."""
        event = self.events.make(kind, action, identifier, attributes)
        await self.records.write(EventLog.write_of(event))
        self.events.publish(event)

    async def container_event(self, container: Container, action: str, **extra: str) -> None:
        """One event about a container."""
        await self.emit("container", action, container.id, container.attributes(**extra))

    def keep_timeline(self, identifier: str, timeline: Json) -> None:
        """Remember the kernel steps of a start, also after the container is gone."""
        self.timelines[identifier] = timeline
        self.timelines.move_to_end(identifier)
        while len(self.timelines) > _TIMELINES_KEPT + len(self.containers):
            self.timelines.popitem(last=False)

    @staticmethod
    def forget_quietly(path: Path) -> None:
        """Remove a file that may be gone."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

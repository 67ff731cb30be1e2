"""All simulated nodes of a lab, and the file that remembers them (nodes.json)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count as count_from
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound
from labkit.base.paths import LabPaths
from labkit.daemon.nodes.node import Node, NodeRecord
from labkit.daemon.swarm.diskidentity import write_json

if TYPE_CHECKING:
    from labkit.host.isolation.probe import Probe
    from labkit.host.isolation.spec import HostNamespaces
    from labkit.host.network.underlay import Underlay

__all__ = ["HOLLOW_MAX", "REAL_MAX", "Nodes"]

_LOG = logging.getLogger("labkit.nodes")

HOLLOW_MAX = 3000
REAL_MAX = 32
"""Each real node is an engine of its own in the daemon, some megabytes."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9-]{0,31}\Z")
_RESERVED = frozenset({"default", "leader", "all", "underlay"})
_PLATFORM = re.compile(r"(linux|windows|darwin|freebsd)/[a-z0-9]{1,16}(/v[0-9])?\Z")

Json = dict[str, Any]


class Nodes:
    """`home` is the default host's namespaces, on which the underlay lies; None in hollow mode."""

    def __init__(self, paths: LabPaths, probe: Probe, home: HostNamespaces | None) -> None:
        self._paths = paths
        self._probe = probe
        self._home = home
        self._file = paths.home / "nodes.json"
        self._turn = asyncio.Lock()
        self.all: dict[str, Node] = {}
        self.underlay: Underlay | None = None
        if home is not None:
            from labkit.host.network.underlay import Underlay

            self.underlay = Underlay(home.net)

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the nodes of an earlier daemon again, and bring up those that should run."""
        try:
            found = json.loads(await asyncio.to_thread(self._file.read_text))
            records = [NodeRecord(**record) for record in found["nodes"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Conflict(f"cannot read {self._file}: {error}") from None
        for record in records:
            node = self.all[record.name] = self._make(record)
            if record.state == "stopped":
                continue
            try:
                await node.start()
                if record.state == "paused":
                    await node.pause()
            except LabkitError as error:
                _LOG.error("node %s does not come up: %s", record.name, error)

    def _make(self, record: NodeRecord) -> Node:
        return Node(self._paths, record, self._probe, self.underlay)

    async def close(self) -> None:
        """Let go: real nodes run on, the next daemon takes them up."""
        for node in self.all.values():
            await node.let_go()
        if self.underlay is not None:
            self.underlay.close()

    async def take_down(self) -> None:
        """The whole lab goes down: every node stops, and what should run is remembered."""
        await asyncio.gather(*(node.stop() for node in self.all.values() if node.alive))
        if self.underlay is not None:
            await self.underlay.remove()
            self.underlay.close()
        await asyncio.to_thread(shutil.rmtree, self._paths.run / "nodes", ignore_errors=True)

    def _save(self) -> None:
        records = [asdict(node.record) for node in self.all.values()]
        write_json(self._file, {"nodes": records})

    # -- what can be asked for ---------------------------------------------------------------------

    def get(self, name: str) -> Node:
        """A node by name. Raises NotFound, naming some that are there."""
        node = self.all.get(name)
        if node is None:
            some = ", ".join(list(self.all)[:5]) or "there are none: labkit nodes add"
            raise NotFound(f"there is no node {name!r}", hint=f"nodes: {some}")
        return node

    async def add(
        self,
        names: Sequence[str],
        count: int = 0,
        *,
        hollow: bool = False,
        platform: str = "linux/amd64",
    ) -> list[Node]:
        """Make nodes of these names, or `count` of them named node-N. All come up, or none stays.

        In hollow mode, and for a platform that is not Linux, only hollow ones can be made: the
        latter must be asked for as such.
        """
        hollow = self._kind(hollow, platform)
        async with self._turn:
            wanted = list(names) or self._free_names(count or 1)
            self._check(wanted, hollow)
            made: list[Node] = []
            try:
                for name, number in zip(wanted, self._free_numbers(), strict=False):
                    record = NodeRecord(name, number, hollow, platform, "running")
                    node = self.all[name] = self._make(record)
                    made.append(node)
                    await node.start()
            except BaseException:
                for node in made:
                    await node.kill()
                    del self.all[node.name]
                    await asyncio.to_thread(node.remove_files)
                raise
            self._save()
            return made

    def _kind(self, hollow: bool, platform: str) -> bool:
        if _PLATFORM.match(platform) is None:
            raise InvalidParameter(
                f"{platform!r} is not a platform", hint="for example linux/arm64, windows/amd64"
            )
        if not platform.startswith("linux/") and not hollow:
            raise InvalidParameter(
                f"a node of platform {platform} cannot run processes here",
                hint=f"labkit nodes add --hollow --platform {platform}",
            )
        return hollow or self._home is None

    def _check(self, wanted: Sequence[str], hollow: bool) -> None:
        for name in wanted:
            if _NAME.match(name) is None or name in _RESERVED:
                raise InvalidParameter(
                    f"{name!r} cannot be the name of a node",
                    hint="letters, digits and dashes, at most 32",
                )
            if name in self.all:
                raise Conflict(f"there is a node {name!r} already", hint="labkit nodes ls")
        if len(set(wanted)) < len(wanted):
            raise InvalidParameter("a name was given twice")
        same = sum(node.record.hollow == hollow for node in self.all.values()) + len(wanted)
        if same > (HOLLOW_MAX if hollow else REAL_MAX):
            raise InvalidParameter(
                f"a lab has at most {HOLLOW_MAX} hollow nodes and {REAL_MAX} others",
                hint="add --hollow: such a node is an entry without a process",
            )

    def _free_numbers(self) -> Iterator[int]:
        """Numbers, and with them addresses, that no node has."""
        taken = {node.record.number for node in self.all.values()}
        return (number for number in count_from(1) if number not in taken)

    def _free_names(self, count: int) -> list[str]:
        if not 1 <= count <= HOLLOW_MAX:
            raise InvalidParameter(f"cannot add {count} nodes: 1 to {HOLLOW_MAX} at a time")
        found: list[str] = []
        number = 1
        while len(found) < count:
            if f"node-{number}" not in self.all:
                found.append(f"node-{number}")
            number += 1
        return found

    async def remove(self, names: Sequence[str]) -> None:
        """Stop nodes and forget them, with their data."""
        async with self._turn:
            for node in [self.get(name) for name in names]:
                await node.stop()
                await asyncio.to_thread(node.remove_files)
                del self.all[node.name]
            if self.underlay is not None and not any(
                not node.record.hollow for node in self.all.values()
            ):
                await self.underlay.remove()
            self._save()

    async def change(self, name: str, action: str) -> Node:
        """start, stop, kill, pause or unpause a node."""
        async with self._turn:
            node = self.get(name)
            await _ACTIONS[action](node)
            state = {"stop": "stopped", "pause": "paused"}.get(action, "running")
            node.record = replace(node.record, state=state)
            self._save()
            return node

    def to_json(self) -> list[Json]:
        """For GET /v1/nodes; the default host first."""

        from labkit.host.network.underlay import GATEWAY

        real = any(not node.record.hollow for node in self.all.values())
        first = {
            "name": "default",
            "kind": "hollow" if self._home is None else "namespace",
            "mode": "hollow" if self._home is None else self._probe.mode,
            "status": "running",
            "address": str(GATEWAY) if real else "",
            "platform": "linux/amd64",
            "docker_socket": str(self._paths.docker_socket),
            "anchor_pid": self._home.anchor_pid if self._home is not None else 0,
        }
        return [first, *(node.to_json() for node in self.all.values())]


_ACTIONS = {
    "start": Node.start,
    "stop": Node.stop,
    "kill": Node.kill,
    "pause": Node.pause,
    "unpause": Node.unpause,
}

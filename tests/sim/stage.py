"""A stage for stories about Raft: a few servers, every message in the director's hand.

A transcript is a text file. Lines that begin with `#` tell the story, lines that begin with `>` are
commands, and what follows a command is what happened. Commands:

    cluster N [option=value …]      servers 1 … N, all up, with empty disks
    log SERVER TERM …               (before anything else) what its disk holds
    timeout SERVER                  its election timer runs out
    tick SERVER [TIMES]             time passes for one server
    deliver                         everything on its way arrives, and what that causes, until quiet
    deliver TO …                    the same, but only messages to these servers
    next                            only what is on its way now arrives
    lose [TO …]                     what is on its way (to these) is lost
    cut A … | B …     heal          nothing passes between the two sides; all links work again
    propose SERVER WORD …           a client's commands
    read SERVER NAME                a client's linearizable read
    add SERVER                      a new server with an empty disk
    change SERVER voters … [learners …]
    transfer SERVER TARGET
    compact SERVER                  replace what it has applied by a snapshot
    crash SERVER     restart SERVER
    state                           everybody, at a glance
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError
from labkit.cluster.raft import (
    Config,
    Entry,
    EntryKind,
    HardState,
    Message,
    Node,
    Options,
    Snapshot,
    journal,
)
from labkit.cluster.raft.reads import UNCONFIRMED
from labkit.cluster.raft.types import (
    Append,
    AppendReply,
    InstallSnapshot,
    Role,
    SnapshotReply,
    Vote,
    VoteReply,
)
from labkit.world.sim.disk import SimDisk

__all__ = ["Stage", "play"]


class _Steady:
    """Timeouts that a story can rely on: 10 ticks for server 1, 12 for server 2, and so on."""

    def __init__(self, number: int) -> None:
        self.number = number

    def randrange(self, stop: int, /) -> int:
        return 2 * (self.number - 1) % stop


class Stage:
    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.disks: dict[int, SimDisk] = {}
        self.applied: dict[int, list[str]] = {}
        self.up: set[int] = set()
        self.flying: list[tuple[int, Message]] = []
        self.cuts: set[tuple[int, int]] = set()
        self.lines: list[str] = []
        self.options = Options()

    # -- commands --------------------------------------------------

    def run(self, line: str) -> list[str]:
        """Carry out one command; what happened, a line each."""
        self.lines = []
        name, *words = line.split()
        before = {number: self._office(number) for number in self.nodes}
        action: Callable[..., None] = getattr(self, f"do_{name}")
        try:
            action(*words)
        except LabkitError as error:
            self.lines.append(f"refused: {error.args[0]}")
        for number in self.nodes:
            self._carry_out(number)
            after = self._office(number)
            if before.get(number, after) != after and name not in ("log", "crash", "restart"):
                self.lines.append(f"{number} is now {after}")
        return self.lines

    def do_cluster(self, count: str, *options: str) -> None:
        words = dict(option.split("=") for option in options)
        self.options = Options(**{key: int(value) for key, value in words.items()})
        for number in range(1, int(count) + 1):
            self.disks[number] = SimDisk()
        self.config = Config(frozenset(range(1, int(count) + 1)))
        for number in self.disks:
            self._boot(number)

    def do_log(self, number: str, *terms: str) -> None:
        disk = self.disks[int(number)]
        held = [int(term) for term in terms]
        disk.write(HardState(held[-1], 0))
        disk.write(tuple(Entry(i, t, EntryKind.COMMAND, f"c{i}") for i, t in enumerate(held, 1)))
        self._boot(int(number))

    def do_timeout(self, number: str) -> None:
        node = self.nodes[int(number)]
        while node.elapsed < node.election_timeout - 1:
            node.tick()
        node.tick()

    def do_tick(self, number: str, times: str = "1") -> None:
        for _ in range(int(times)):
            self.nodes[int(number)].tick()

    def do_deliver(self, *targets: str) -> None:
        self._carry_all()
        while self._arrive(targets):
            self._carry_all()

    def do_next(self) -> None:
        self._carry_all()
        self._arrive(())

    def do_lose(self, *targets: str) -> None:
        self._carry_all()
        kept = [(to, m) for to, m in self.flying if targets and str(to) not in targets]
        self.lines.append(f"{len(self.flying) - len(kept)} messages lost")
        self.flying = kept

    def do_cut(self, *words: str) -> None:
        middle = words.index("|")
        for one in words[:middle]:
            for other in words[middle + 1 :]:
                self.cuts |= {(int(one), int(other)), (int(other), int(one))}

    def do_heal(self) -> None:
        self.cuts.clear()

    def do_propose(self, number: str, *words: str) -> None:
        self.nodes[int(number)].propose(*words)

    def do_read(self, number: str, name: str) -> None:
        self.nodes[int(number)].read(name)

    def do_change(self, number: str, *words: str) -> None:
        split = words.index("learners") if "learners" in words else len(words)
        voters, learners = map(int, words[1:split]), map(int, words[split + 1 :])
        self.nodes[int(number)].change_members(voters, learners)

    def do_add(self, number: str) -> None:
        self.disks[int(number)] = SimDisk()
        self._boot(int(number))

    def do_transfer(self, number: str, target: str) -> None:
        self.nodes[int(number)].transfer(int(target))

    def do_compact(self, number: str) -> None:
        node, disk = self.nodes[int(number)], self.disks[int(number)]
        term = node.log.term_at(node.applied)
        assert term is not None
        data = " ".join(self.applied[node.id]).encode()
        snapshot = Snapshot(node.applied, term, node.config, data)
        rest = node.log.slice(node.applied + 1, node.log.last_index + 1)
        node.compact(snapshot)
        journal.compact(disk, HardState(node.term, node.vote), snapshot, list(rest))

    def do_crash(self, number: str) -> None:
        self.up.discard(int(number))
        self.lines.append(f"{number} is down")

    def do_restart(self, number: str) -> None:
        self._boot(int(number))
        self.lines.append(f"{number} is up, {self._office(int(number))}")

    def do_state(self) -> None:
        for number, node in sorted(self.nodes.items()):
            log = node.log
            terms = " ".join(str(e.term) for e in log.slice(log.first_index, log.last_index + 1))
            start = f"…{log.snapshot_index} " if log.snapshot_index else ""
            terms = (start + terms).strip()
            said = self._office(number) if number in self.up else "down"
            applied = " ".join(self.applied[number]) or "-"
            self.lines.append(
                f"{number}: {said:<28} log [{terms}] commit {node.commit} applied {applied}"
            )

    # -- behind the stage --------------------------------------------------

    def _office(self, number: int) -> str:
        if number not in self.up:
            return "down"
        node = self.nodes[number]
        word = node.role.name.lower().replace("_", "-")
        whose = f" of {node.leader}" if node.leader and node.role is Role.FOLLOWER else ""
        return f"{word}{whose}, term {node.term}"

    def _boot(self, number: int) -> None:
        found = journal.recover(self.disks[number])
        self.nodes[number] = Node(
            number,
            self.config,
            _Steady(number),
            self.options,
            hard_state=found.hard_state,
            snapshot=found.snapshot,
            entries=found.entries,
        )
        data = found.snapshot.data.decode() if found.snapshot else ""
        self.applied[number] = data.split()
        self.up.add(number)

    def _carry_all(self) -> None:
        for number in self.nodes:
            self._carry_out(number)

    def _carry_out(self, number: int) -> None:
        if number not in self.up:
            return
        effects = self.nodes[number].take()
        journal.write(self.disks[number], effects)
        self.disks[number].sync()
        self.flying += effects.messages
        if effects.snapshot is not None:
            self.applied[number] = effects.snapshot.data.decode().split()
            self.lines.append(f"{number} restores the snapshot of index {effects.snapshot.index}")
        for entry in effects.committed:
            if entry.kind is EntryKind.COMMAND:
                self.applied[number].append(str(entry.data))
                self.lines.append(f"{number} applies {entry.data}")
            elif entry.kind is EntryKind.CONFIG:
                self.lines.append(f"{number} applies the configuration {_members(entry.data)}")
        for read in effects.reads:
            said = "not confirmed" if read.index == UNCONFIRMED else f"confirmed at {read.index}"
            self.lines.append(f"{number}: read {read.context} {said}")

    def _arrive(self, targets: Iterable[str]) -> bool:
        wanted = tuple(targets)
        now = [pair for pair in self.flying if not wanted or str(pair[0]) in wanted]
        self.flying = [pair for pair in self.flying if pair not in now]
        for target, message in now:
            way = f"{message.sender} → {target}  {_said(message)}"
            if target not in self.up or (message.sender, target) in self.cuts:
                self.lines.append(f"{way}  ✗")
                continue
            self.lines.append(way)
            self.nodes[target].receive(message)
            self._carry_out(target)
        return bool(now)


def _members(config: Config) -> str:
    parts = ["voters " + " ".join(map(str, sorted(config.voters)))]
    if config.outgoing:
        parts.append("with the old " + " ".join(map(str, sorted(config.outgoing))))
    if config.learners:
        parts.append("learners " + " ".join(map(str, sorted(config.learners))))
    return ", ".join(parts)


def _entry(entry: Entry) -> str:
    names: dict[EntryKind, Callable[[Any], str]] = {
        EntryKind.COMMAND: str,
        EntryKind.NOOP: lambda data: "(new term)",
        EntryKind.CONFIG: lambda data: f"({_members(data)})",
    }
    return f"{entry.index}/{entry.term} {names[entry.kind](entry.data)}"


def _said(message: Message) -> str:
    if isinstance(message, Vote):
        word = "would you vote for me" if message.pre else "vote for me"
        return (
            f"{word}, term {message.term}; my log ends at {message.last_index}/{message.last_term}"
        )
    if isinstance(message, VoteReply):
        word = "yes" if message.granted else "no"
        return f"{word}, term {message.term}" + (" (a promise only)" if message.pre else "")
    if isinstance(message, Append):
        what = ", ".join(map(_entry, message.entries)) or "heartbeat"
        after = f"{message.prev_index}/{message.prev_term}"
        return f"{what}; after {after}, commit {message.commit}, term {message.term}"
    if isinstance(message, AppendReply):
        if message.ok:
            return f"I hold up to {message.index}"
        return f"no; term {message.term}, we may agree at {message.hint_index}/{message.hint_term}"
    if isinstance(message, InstallSnapshot):
        end = ", the last" if message.done else ""
        return f"snapshot of index {message.index}, bytes from {message.offset}{end}"
    if isinstance(message, SnapshotReply):
        return f"{message.offset} bytes of the snapshot have arrived"
    return " ".join([type(message).__name__, *(f"{k}={v}" for k, v in message._asdict().items())])


def play(path: Path) -> str:
    """Play a transcript again: its story and commands, with what happens now."""
    stage = Stage()
    made: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or (not line and (not made or made[-1] != "")):
            made.append(line)
        elif line.startswith(">"):
            made.append(line)
            made += [f"  {said}" for said in stage.run(line[1:])]
    while made and not made[-1]:
        made.pop()
    return "\n".join(made) + "\n"

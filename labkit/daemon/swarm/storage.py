"""What one manager keeps: its journal, and the identity of its disk."""

from __future__ import annotations

from pathlib import Path

from labkit.cluster.raft import journal
from labkit.cluster.raft.effects import Effects
from labkit.cluster.raft.node import Node
from labkit.cluster.raft.types import Entry, HardState, Snapshot
from labkit.daemon.swarm.diskidentity import DiskIdentity, start_up
from labkit.world.ports import Cipher
from labkit.world.real.disk import SqliteDisk

__all__ = ["Storage"]


class Storage:
    """Opened when the manager starts, closed when it stops; one thread at a time uses it."""

    def __init__(self, folder: Path, cipher: Cipher | None) -> None:
        """Open, and count one more start. Raises SystemFailure."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._disk = SqliteDisk(folder / "raft.sqlite")
        self._journal = journal.CodedDisk(self._disk, cipher)
        self._saved = HardState(0, 0)
        try:
            self.found = journal.recover(self._journal)
            self.identity: DiskIdentity = start_up(folder)
        except BaseException:
            self._disk.close()
            raise
        self._saved = self.found.hard_state or self._saved

    def write(self, effects: Effects) -> None:
        """Hand a batch to the disk; it survives from the next `sync` on."""
        journal.write(self._journal, effects)
        self._saved = effects.hard_state or self._saved

    def sync(self) -> None:
        """Make it survive. Raises SystemFailure."""
        self._journal.sync()

    def compact(self, node: Node, made: Snapshot) -> tuple[HardState, Snapshot, list[Entry]]:
        """What `replace` must write for a snapshot to stand for the log before it."""
        log = node.log
        # Entries that wait for their own sync are in the node but not on the disk yet.
        pending = {entry.index for entry in node.effects.entries}
        following: list[Entry] = [
            entry
            for entry in log.slice(made.index + 1, log.last_index + 1)
            if entry.index not in pending
        ]
        return self._saved, made, following

    def replace(self, state: HardState, snapshot: Snapshot, following: list[Entry]) -> None:
        """Write the journal anew, as short as possible."""
        journal.compact(self._journal, state, snapshot, following)

    def close(self) -> None:
        """Let go of the files; what was not synced is lost, as in a crash."""
        self._disk.close()

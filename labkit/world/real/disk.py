"""A journal on a real disk: SQLite in WAL mode, one transaction per sync.

What is written between two syncs becomes durable with one fsync (group commit). `synchronous=FULL`:
a member of a quorum has promised its vote and its entries to others, so a loss of power counts here
as well as a kill -9.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from labkit.base.errors import SystemFailure

__all__ = ["SqliteDisk"]


class SqliteDisk:
    """The Disk port for records of bytes. One process uses it, and one thread at a time."""

    __slots__ = ("_connection", "_pending", "path", "syncs")

    def __init__(self, path: Path) -> None:
        """Open or make the file, for its owner only. Raises SystemFailure."""
        self.path = path
        self._pending: list[bytes] = []
        self.syncs = 0
        """Transactions so far."""
        try:
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS journal (seq INTEGER PRIMARY KEY, record BLOB NOT NULL)"
            )
        except (OSError, sqlite3.Error) as error:
            raise SystemFailure(
                f"cannot open the journal {path}: {error}", hint="does another process have it?"
            ) from error

    def write(self, record: bytes) -> None:
        """Add a record; it survives from the next sync on."""
        self._pending.append(record)

    def sync(self) -> None:
        """Make everything written so far survive. Raises SystemFailure; nothing was added then."""
        if self._pending:
            self._commit(self._pending, anew=False)
            self._pending = []

    def replace(self, records: Sequence[bytes]) -> None:
        """Put these in the place of the whole journal, in one transaction."""
        self._commit(records, anew=True)
        self._pending = []

    def _commit(self, records: Sequence[bytes], *, anew: bool) -> None:
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            try:
                if anew:
                    execute("DELETE FROM journal")
                self._connection.executemany(
                    "INSERT INTO journal (record) VALUES (?)", [(record,) for record in records]
                )
                execute("COMMIT")
            except BaseException:
                execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise SystemFailure(f"cannot write the journal {self.path}: {error}") from error
        self.syncs += 1

    def records(self) -> Sequence[bytes]:
        """What is there, in order, with what is not synced yet."""
        rows = self._connection.execute("SELECT record FROM journal ORDER BY seq")
        return [*(row[0] for row in rows), *self._pending]

    def close(self) -> None:
        """Let go of the file; what was not synced is dropped, as in a crash."""
        self._pending = []
        self._connection.close()

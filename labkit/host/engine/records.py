"""The durable memory of one host: containers, execs, events and transitions, in SQLite.

One thread owns the connection and commits whatever has queued up as one transaction (group
commit), so the event loop never waits for the disk and fifty clients share one commit. A write's
future is done when its transaction is; callers await it before they answer.

WAL with synchronous=NORMAL: a committed transaction survives a kill -9 at any instruction, because
the page cache outlives the process. After a loss of power the file is consistent and may lack the
last moments; so do the containers, which are gone then anyway. A commit costs 0.05 ms instead of
an fsync (0.5 to 5 ms). Reading happens once, at open; afterwards memory is the truth and this its
copy.

Half-done work shows without rows of its own: a container's folder is made before its row and
outlives it, the shim's folder is made before the process starts, and `removing` is a state. What
recovery finds so, it finishes or undoes (recovery.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.errors import SystemFailure

__all__ = ["EVENTS_KEPT", "HISTORY_KEPT", "Records", "StoredContainer", "Write"]

Write = tuple[str, Sequence[Any]]

EVENTS_KEPT = 10_000
"""Events remembered across restarts; older ones are dropped at open and every so often."""
HISTORY_KEPT = 100
"""Transitions remembered per container."""

RESERVE_BYTES = 512 << 10
"""Kept free on the disk for the records that make room again."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE containers (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, definition TEXT NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE TABLE history (
  id INTEGER PRIMARY KEY, container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
  state TEXT NOT NULL, at_ns INTEGER NOT NULL, action TEXT NOT NULL) STRICT;
CREATE INDEX history_container ON history(container, id);
CREATE TABLE execs (
  id TEXT PRIMARY KEY, container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
  body TEXT NOT NULL) STRICT;
CREATE INDEX execs_container ON execs(container);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE TABLE volumes (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_NETWORK_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS endpoints (
  container TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE, name TEXT NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (container, name)) STRICT;
"""
"""Made also in records that are older than networks."""


@dataclass(frozen=True, slots=True)
class StoredContainer:
    """One row of `containers`, decoded, with its transitions."""

    id: str
    name: str
    definition: dict[str, Any]
    state: dict[str, Any]
    history: tuple[tuple[str, int, str], ...]


@dataclass(slots=True)
class _Job:
    writes: Sequence[Write]
    done: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Records:
    """The database of one host. `write` from one event loop; `close` flushes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = _open(path)
        self._reserve = path.with_suffix(".reserve")
        self._keep_reserve()
        self._thread = threading.Thread(target=self._run, name="labkit-records", daemon=True)
        self._thread.start()
        self._closed = False

    async def write(self, *writes: Write) -> None:
        """Run the statements in one transaction and return when it is on the disk."""
        if self._closed:
            raise SystemFailure("cannot record a change: the engine is shutting down")
        loop = asyncio.get_running_loop()
        job = _Job(writes, loop.create_future(), loop)
        self._queue.put(job)
        # A caller that goes away (a client hung up) must not make the change look undone.
        await asyncio.shield(job.done)

    async def close(self) -> None:
        """Commit what is queued and close the file."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._connection.close()

    # -- the writing thread ----------------------------------------------------------------------

    def _run(self) -> None:
        ending = False
        while not ending:
            jobs: list[_Job] = []
            job = self._queue.get()
            while True:
                if job is None:
                    ending = True
                    break
                jobs.append(job)
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        """One transaction for all; when it fails, each job on its own, so only the guilty fail."""
        try:
            self._store([write for job in jobs for write in job.writes])
        except sqlite3.Error as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._commit([job])
                return
            _finish(jobs[0], error)
            return
        for job in jobs:
            _finish(job, None)

    def _store(self, writes: Sequence[Write]) -> None:
        """One transaction; on a full disk once more after giving up the reserve.

        Without it a full disk could not even be emptied: removing a container is a record, too.
        """
        try:
            self._transaction(writes)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._reserve.exists():
                raise
            self._reserve.unlink(missing_ok=True)
            self._transaction(writes)
        else:
            if not self._reserve.exists():
                self._keep_reserve()

    def _keep_reserve(self) -> None:
        try:
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            self._reserve.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _transaction(self, writes: Iterable[Write]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in writes:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    # -- reading, at open only -------------------------------------------------------------------

    def load_containers(self) -> list[StoredContainer]:
        """Every container with its history, in order of creation."""
        history: dict[str, list[tuple[str, int, str]]] = {}
        for container, state, at_ns, action in self._connection.execute(
            "SELECT container, state, at_ns, action FROM history ORDER BY id"
        ):
            history.setdefault(container, []).append((state, at_ns, action))
        return [
            StoredContainer(
                identifier,
                name,
                json.loads(definition),
                json.loads(state),
                tuple(history.get(identifier, ())[-HISTORY_KEPT:]),
            )
            for identifier, name, definition, state in self._connection.execute(
                "SELECT id, name, definition, state FROM containers ORDER BY rowid"
            )
        ]

    def load_execs(self) -> list[dict[str, Any]]:
        """Every exec that was running when last seen."""
        return [json.loads(body) for (body,) in self._connection.execute("SELECT body FROM execs")]

    def load_events(self) -> list[dict[str, Any]]:
        """The newest EVENTS_KEPT events, oldest first; drops the others."""
        with self._connection:
            self._connection.execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (EVENTS_KEPT,)
            )
        return [
            json.loads(body)
            for (body,) in self._connection.execute("SELECT body FROM events ORDER BY id")
        ]

    def load_volumes(self) -> list[dict[str, Any]]:
        return [
            json.loads(body) for (body,) in self._connection.execute("SELECT body FROM volumes")
        ]

    def load_networks(self) -> list[dict[str, Any]]:
        """Every network, in order of creation."""
        rows = self._connection.execute("SELECT body FROM networks ORDER BY rowid")
        return [json.loads(body) for (body,) in rows]

    def load_endpoints(self) -> list[tuple[str, dict[str, Any]]]:
        """Every container's places on networks, with the container's id, in order of connecting."""
        rows = self._connection.execute("SELECT container, body FROM endpoints ORDER BY rowid")
        return [(container, json.loads(body)) for container, body in rows]

    def fact(self, name: str, make: str) -> str:
        """A value fixed at first use (the engine's id); `make` becomes it when there is none."""
        with self._connection:
            self._connection.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (name, make))
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0])


def _open(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version={_VERSION};COMMIT;")
        if found in (0, _VERSION):
            connection.executescript(_NETWORK_SCHEMA)
    except sqlite3.Error as error:
        raise SystemFailure(
            f"cannot open the records in {path}: {error}",
            hint="check that the disk is not full and LABKIT_HOME is writable",
        ) from error
    if found not in (0, _VERSION):
        connection.close()
        raise SystemFailure(
            f"the records in {path} were made by another version (format {found})",
            hint="run the version that made them, or `labkit reset` to start afresh",
        )
    path.chmod(0o600)
    return connection


def _finish(job: _Job, error: sqlite3.Error | None) -> None:
    def settle() -> None:
        if job.done.done():
            return
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(
                SystemFailure(
                    f"cannot record the change: {error}",
                    hint="check that the disk is not full and LABKIT_HOME is writable",
                )
            )

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        # The loop has closed; nobody waits any more, and the transaction stands.
        return

"""The journal of a cluster member on a real disk: in order, sealed if asked, there after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.cluster.raft import Config, Entry, EntryKind, HardState, Snapshot
from labkit.cluster.raft.journal import CodedDisk, compact, recover
from labkit.world.real.disk import SqliteDisk

ROOT = Path(__file__).resolve().parents[3]
CONFIG = Config(frozenset((1, 2)), frozenset((1,)), frozenset((3,)))
ENTRIES = [
    Entry(1, 1, EntryKind.NOOP, None),
    Entry(2, 1, EntryKind.COMMAND, ["put", "k", "wört", 0]),
    Entry(3, 2, EntryKind.CONFIG, CONFIG),
]


def test_records_come_back_in_order(tmp_path: Path) -> None:
    disk = CodedDisk(SqliteDisk(tmp_path / "j"))
    disk.write(HardState(2, 1))
    disk.write(tuple(ENTRIES[:2]))
    disk.write((ENTRIES[2],))
    disk.sync()
    found = recover(disk)
    assert (found.hard_state, found.entries) == (HardState(2, 1), ENTRIES)
    compact(disk, HardState(2, 1), Snapshot(2, 1, CONFIG, b"\0state"), ENTRIES[2:])
    found = recover(disk)
    assert found.snapshot == Snapshot(2, 1, CONFIG, b"\0state")
    assert found.entries == ENTRIES[2:]


def test_what_was_not_synced_is_gone_after_a_crash_and_the_rest_is_not(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "j")
    disk.write(b"kept")
    disk.sync()
    disk.write(b"lost")
    assert list(disk.records()) == [b"kept", b"lost"]
    disk.close()
    again = SqliteDisk(tmp_path / "j")
    assert list(again.records()) == [b"kept"]
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0
    again.close()


def test_many_writes_are_one_transaction(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "j")
    for number in range(100):
        disk.write(b"%d" % number)
    disk.sync()
    disk.sync()
    assert disk.syncs == 1
    disk.close()


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    disk = SqliteDisk(tmp_path / "j")
    disk.write(b"mine")
    disk.sync()
    script = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], timeout=0.1)\n"
        "try: c.execute('INSERT INTO journal (record) VALUES (1)')\n"
        "except sqlite3.OperationalError as e: print(e)\n"
        "finally: c.close()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "j")], capture_output=True, text=True
    )
    assert "locked" in told.stdout
    disk.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="nowhere"):
        SqliteDisk(tmp_path / "nowhere" / "j")


def test_a_sealed_journal_needs_its_key(tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="the package cryptography is not installed")
    from labkit.world.real.cipher import AesGcm

    key, plain = AesGcm.new_key(), SqliteDisk(tmp_path / "j")
    sealed = CodedDisk(plain, AesGcm(key))
    sealed.write(tuple(ENTRIES))
    sealed.sync()
    assert b"put" not in plain.records()[0]
    assert recover(sealed).entries == ENTRIES
    for wrong in (CodedDisk(plain), CodedDisk(plain, AesGcm(AesGcm.new_key()))):
        with pytest.raises(InvalidParameter, match=r"key|journal"):
            recover(wrong)
    unlocked = CodedDisk(plain)
    unlocked.replace(sealed.records())
    assert recover(unlocked).entries == ENTRIES
    with pytest.raises(InvalidParameter, match="32 bytes"):
        AesGcm(b"short")
    plain.close()


MEMBER = """
import sys
from pathlib import Path
from labkit.cluster.raft import Config, Node, Role
from labkit.cluster.raft import journal
from labkit.cluster.store import Put, Replica
from labkit.world.real.disk import SqliteDisk
from labkit.world.sim.rng import seeded

disk = journal.CodedDisk(SqliteDisk(Path(sys.argv[1])))
found = journal.recover(disk)
node = Node(1, Config(frozenset((1,))), seeded(1), hard_state=found.hard_state,
            snapshot=found.snapshot, entries=found.entries)
member = Replica(node, snapshot_every=50, keep=5)

def step():
    effects = member.take()
    journal.write(disk, effects)
    disk.sync()
    replies = member.finish(effects)
    made = member.snapshot()
    if made:
        rest = node.log.slice(made.index + 1, node.log.last_index + 1)
        journal.compact(disk, journal.HardState(node.term, node.vote), made, list(rest))
    return replies

while node.role is not Role.LEADER:
    member.tick()
    step()
while step():
    pass
print("revision", member.machine.revision, flush=True)
for kv in member.machine._live("k", "l", member.machine.revision):
    print("has", kv.key, kv.value, flush=True)
print("ready", flush=True)
if sys.argv[2] == "write":
    number = 0
    while True:
        batch = range(number, number + 7)
        for n in batch:
            member.submit(n, Put(f"k{n % 20}", str(n)))
        number += 7
        done = []
        while len(done) < 7:
            done += step()
        print("acknowledged", batch[-1], flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    journal, script = str(tmp_path / "j"), [sys.executable, "-c", MEMBER]
    for lines in (1, 6, 23):
        Path(journal).unlink(missing_ok=True)
        writer = subprocess.Popen(
            [*script, journal, "write"], env=environment, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        acknowledged = -1
        seen = 0
        for line in writer.stdout:
            if line.startswith("acknowledged"):
                acknowledged, seen = int(line.split()[1]), seen + 1
                if seen == lines:
                    writer.send_signal(signal.SIGKILL)
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        told = subprocess.run(
            [*script, journal, "read"], env=environment, capture_output=True, text=True, check=True
        )
        held = {int(line.split()[2]) for line in told.stdout.splitlines() if line.startswith("has")}
        newest = {max(range(k, acknowledged + 1, 20), default=None) for k in range(20)}
        for number in newest - {None}:
            assert any(value >= number and value % 20 == number % 20 for value in held), number

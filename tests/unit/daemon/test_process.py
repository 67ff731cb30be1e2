from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.base.paths import LabPaths
from labkit.daemon import process, sockets


def test_one_daemon_per_lab_and_the_second_learns_who_runs(lab_paths: LabPaths) -> None:
    lock = process.take_lock(lab_paths)
    with (
        sockets.listen_unix(lab_paths.docker_socket),
        pytest.raises(process.AlreadyRunning, match=f"pid {os.getpid()}") as caught,
    ):
        process.take_lock(lab_paths)
    assert caught.value.exit_code == 0
    os.close(lock)
    os.close(process.take_lock(lab_paths))


def test_a_daemon_that_is_ending_is_waited_for(lab_paths: LabPaths) -> None:
    lock = process.take_lock(lab_paths)
    threading.Timer(0.05, os.close, (lock,)).start()
    os.close(process.take_lock(lab_paths))


def test_the_pid_file_names_a_process_and_its_birth(lab_paths: LabPaths) -> None:
    process.write_pid(lab_paths)
    record = json.loads(lab_paths.pid_file.read_text())
    assert record["pid"] == os.getpid()
    assert record["start_ticks"] == process.process_start_ticks(os.getpid())
    process.forget(lab_paths)
    assert not lab_paths.pid_file.exists()


def test_a_process_that_is_gone_has_no_birth() -> None:
    with pytest.raises(ProcessLookupError):
        process.process_start_ticks(2**22 + 1)


def test_a_socket_is_ours_alone_from_its_first_moment(short_tmp: Path) -> None:
    path = short_tmp / "d.sock"
    with sockets.listen_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sockets.is_answered(path)
        assert [entry.name for entry in short_tmp.iterdir()] == ["d.sock"]


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(short_tmp: Path) -> None:
    path = short_tmp / "d.sock"
    sockets.listen_unix(path).close()
    assert path.exists()
    with sockets.listen_unix(path):
        inode = path.stat().st_ino
        with pytest.raises(SystemFailure, match="another program answers there"):
            sockets.listen_unix(path)
        assert path.stat().st_ino == inode


@pytest.mark.root
def test_a_group_may_be_let_in(short_tmp: Path) -> None:
    path = short_tmp / "d.sock"
    with sockets.listen_unix(path, gid=sockets.group_id("1")):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == 1


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="there is no group"):
        sockets.group_id("no-such-group-here")


def test_a_folder_that_is_gone_is_said_so(short_tmp: Path) -> None:
    with pytest.raises(SystemFailure, match="cannot listen on"):
        sockets.listen_unix(short_tmp / "nowhere" / "d.sock")


def test_a_full_backlog_counts_as_answered(short_tmp: Path) -> None:
    path = short_tmp / "d.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(str(path))
        busy.listen(0)
        first.connect(str(path))
        assert sockets.is_answered(path)

"""The lab host: what it shows inside, and that the machine outside stays as it was."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labkit.base.errors import SystemFailure, Unavailable
from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import (
    find_anchor,
    process_start_time,
    run_on_host,
    start_anchor,
    stop_anchor,
)
from labkit.host.isolation.probe import Probe
from labkit.host.isolation.spec import HostNamespaces

pytestmark = pytest.mark.root


def on_host(host: HostNamespaces, script: str) -> str:
    process = run_on_host(
        host, ["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    out, _ = process.communicate(timeout=20)
    return out.decode().strip()


def test_docker_s_folders_are_where_books_say(paths: LabPaths, host: HostNamespaces) -> None:
    (paths.host_data() / "hello").write_text("from the lab")
    assert on_host(host, "cat /var/lib/docker/hello") == "from the lab"
    on_host(host, "echo back > /var/lib/docker/answer")
    assert (paths.host_data() / "answer").read_text() == "back\n"
    paths.docker_socket.touch()
    assert on_host(host, "readlink -f /var/run/docker.sock") == str(paths.docker_socket)
    paths.docker_socket.unlink()
    paths.docker_socket.touch()
    assert on_host(host, "test -e /var/run/docker.sock && echo again") == "again"


def test_the_machine_s_own_folders_are_neither_hidden_nor_changed(host: HostNamespaces) -> None:
    before = sorted(os.listdir("/var/lib"))
    inside = on_host(host, "ls -A /var/lib").splitlines()
    assert set(before) <= set(inside)
    if "docker" not in before:
        on_host(host, "touch /var/lib/only-in-the-lab")
        assert not Path("/var/lib/docker").exists()
    assert sorted(os.listdir("/var/lib")) == before


def test_the_host_has_a_network_and_a_name_of_its_own(host: HostNamespaces) -> None:
    assert on_host(host, "cat /proc/sys/kernel/hostname") == "labkit"
    assert on_host(host, "ls /sys/class/net") == "lo"
    names = on_host(host, "cut -d: -f1 /proc/net/dev | tail -n +3").split()
    assert names == ["lo"]
    assert os.stat(f"/proc/{host.anchor_pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino


def test_a_mount_made_on_the_host_is_not_seen_by_the_machine(host: HostNamespaces) -> None:
    on_host(host, "mount -t tmpfs lab-test-mount /mnt")
    assert "lab-test-mount" not in Path("/proc/self/mountinfo").read_text()
    assert "lab-test-mount" in on_host(host, "cat /proc/self/mountinfo")


def test_a_missing_command_is_127_and_one_that_cannot_run_126(host: HostNamespaces) -> None:
    missing = run_on_host(host, ["no-such-command"], stderr=subprocess.PIPE)
    _, err = missing.communicate(timeout=20)
    assert (missing.returncode, err) == (127, b"no-such-command: command not found\n")
    refused = run_on_host(host, ["/etc/passwd"], stderr=subprocess.DEVNULL)
    assert refused.wait(timeout=20) == 126


def test_the_anchor_is_found_again_and_is_not_started_twice(
    paths: LabPaths, host: HostNamespaces, machine: Probe
) -> None:
    found = find_anchor(paths)
    assert found is not None
    again = start_anchor(paths, "default", machine)
    assert host.anchor_pid == found.anchor_pid == again.anchor_pid
    for namespaces in (found, again):
        os.close(namespaces.mnt)
        os.close(namespaces.net)
    with open(f"/proc/{host.anchor_pid}/cmdline", "rb") as file:
        assert file.read().rstrip(b"\0") == b"labkit-anchor default"


def test_a_reused_pid_is_not_taken_for_the_anchor(paths: LabPaths, machine: Probe) -> None:
    record = paths.host_data().parent / "anchor.json"
    record.parent.mkdir(parents=True)
    started = process_start_time(os.getpid())
    record.write_text(f'{{"pid": {os.getpid()}, "start_time": {started}}}')
    assert find_anchor(paths) is None
    record.write_text(f'{{"pid": {os.getpid()}, "start_time": {started - 1}}}')
    assert find_anchor(paths) is None
    stop_anchor(paths)  # and it kills nobody
    assert not record.exists()


def test_stopping_ends_what_still_runs_inside(paths: LabPaths, machine: Probe) -> None:
    host = start_anchor(paths, "default", machine)
    inside = ["sh", "-c", "echo inside; exec sleep 300"]
    process = run_on_host(host, inside, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"inside\n"  # before that it is not in the host yet
    stop_anchor(paths)
    process.communicate(timeout=10)
    assert process.returncode == -9
    with pytest.raises(Unavailable):
        run_on_host(host, ["true"])
    os.close(host.mnt)
    os.close(host.net)


def test_a_folder_that_is_not_there_is_named(paths: LabPaths, machine: Probe) -> None:
    with pytest.raises(SystemFailure, match="/no/such/folder"):
        start_anchor(paths, "default", machine, mounts=[(Path("/no/such/folder"), "/srv/x")])

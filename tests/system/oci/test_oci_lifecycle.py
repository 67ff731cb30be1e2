"""labkit-oci goes through the states of the OCI runtime specification (runtime.md)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from oci_kit import Runtime

pytestmark = [pytest.mark.root, pytest.mark.mounted_root]

STATE_KEYS = {"ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"}


def test_run_gives_the_exit_code_of_the_process_and_its_output(oci: Runtime) -> None:
    done = oci.shell("echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_killed_process_gives_128_and_the_signal(oci: Runtime) -> None:
    # PID 1 of a namespace cannot kill itself: its child ends, and it passes the code on.
    assert oci.shell("sh -c 'kill -9 $$'; exit $?").returncode == 137


def test_create_blocks_the_process_and_start_lets_it_run(oci: Runtime) -> None:
    marker = oci.bundle / "rootfs/tmp/ran"
    oci.change(lambda config: config["root"].update(readonly=False))
    oci.command("sh", "-c", "echo yes > /tmp/ran; sleep 1000")
    oci.create("one", "--pid-file", str(oci.folder / "pid"))
    state = oci.state()
    assert set(state) == STATE_KEYS
    assert state["status"] == "created"
    assert int((oci.folder / "pid").read_text()) == state["pid"]
    assert os.path.exists(f"/proc/{state['pid']}")
    assert not marker.exists()
    oci("start", "one")
    assert oci.wait_status("running")["pid"] == state["pid"]
    again = oci("start", "one", check=False)
    assert again.returncode == 1
    assert again.stderr.strip() == "cannot start an already running container"


def test_a_running_container_is_killed_and_then_deleted(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    refused = oci("delete", "one", check=False)
    assert refused.stderr.strip() == "cannot delete container one that is not stopped: running"
    oci("kill", "one", "SIGKILL")
    assert oci.wait_status("stopped")["pid"] == 0
    assert oci("kill", "one", check=False).stderr.strip() == "container not running"
    oci("delete", "one")
    assert oci("state", "one", check=False).stderr.strip() == "container does not exist"


@pytest.mark.parametrize("name", ["TERM", "sigterm", "SIGTERM", "15"])
def test_a_signal_has_a_name_or_a_number(oci: Runtime, name: str) -> None:
    oci.command("sh", "-c", "trap 'exit 33' TERM; while :; do sleep 0.05; done")
    oci.create()
    oci("start", "one")
    oci("kill", "one", name)
    oci.wait_status("stopped")


def test_kill_all_reaches_every_process(oci: Runtime) -> None:
    oci.change(lambda config: config["linux"]["namespaces"].remove({"type": "pid"}))
    oci.command("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    oci.create()
    oci("start", "one")
    while len(oci("ps", "--format", "json", "one").stdout.split(",")) < 3:
        pass
    oci("kill", "--all", "one", "KILL")
    oci.wait_status("stopped")


def test_delete_takes_a_created_container_and_force_a_missing_one(oci: Runtime) -> None:
    oci.create()
    oci("delete", "one")
    assert oci("delete", "one", check=False).returncode == 1
    assert oci("delete", "--force", "one").returncode == 0


def test_a_name_is_taken_once_and_has_no_slash(oci: Runtime) -> None:
    oci.create()
    taken = oci("create", "--bundle", str(oci.bundle), "one", check=False)
    assert "container with given ID already exists" in taken.stderr
    bad = oci("create", "--bundle", str(oci.bundle), "a/b", check=False)
    assert "invalid container ID format: a/b" in bad.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/bin/nosuch"], 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
        (["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_create_fails_when_the_program_cannot_be_run(
    oci: Runtime, args: list[str], words: str
) -> None:
    oci.command(*args)
    done = oci("create", "--bundle", str(oci.bundle), "one", check=False)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"unable to start container process: {words}")


def test_errors_go_to_the_log_as_json(oci: Runtime) -> None:
    log = oci.folder / "log"
    oci("--log", str(log), "--log-format", "json", "state", "none", check=False)
    assert '"level": "error", "msg": "container does not exist"' in log.read_text()


def test_pause_freezes_and_resume_thaws(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    oci("pause", "one")
    assert oci.state()["status"] == "paused"
    refused = oci("exec", "one", "true", check=False)
    assert refused.returncode == 255
    assert "cannot exec in a paused container" in refused.stderr
    oci("resume", "one")
    assert oci.state()["status"] == "running"
    assert oci("resume", "one", check=False).stderr.strip() == "container not paused"


def test_exec_joins_the_container_and_gives_the_exit_code(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    done = oci(
        "exec", "-e", "A=b", "--cwd", "/tmp", "one", "sh", "-c", "echo $A $PWD; exit 4", check=False
    )
    assert (done.returncode, done.stdout) == (4, "b /tmp\n")
    inside = oci(
        "exec",
        "one",
        "sh",
        "-c",
        "for n in mnt pid net uts ipc; do stat -Lc %i /proc/self/ns/$n; done",
    )
    pid = oci.state()["pid"]
    assert inside.stdout.split() == [
        str(os.stat(f"/proc/{pid}/ns/{kind}").st_ino)
        for kind in ("mnt", "pid", "net", "uts", "ipc")
    ]
    missing = oci("exec", "one", "nosuch", check=False)
    assert missing.returncode == 255
    assert 'exec: "nosuch": executable file not found in $PATH' in missing.stderr


def test_exec_refuses_a_user_that_is_not_a_number(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    assert oci("exec", "--user", "65534:65534", "one", "id").stdout == "uid=65534 gid=65534\n"
    refused = oci("exec", "--user", "1e3", "one", "id", check=False)
    assert "numbers only" in refused.stderr


def test_a_detached_exec_reads_its_process_from_a_file(oci: Runtime) -> None:
    oci.command("sleep", "1000")
    oci.create()
    oci("start", "one")
    process = oci.folder / "process.json"
    process.write_text(
        '{"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 5}}'
    )
    pid_file = oci.folder / "exec.pid"
    oci("exec", "--detach", "--process", str(process), "--pid-file", str(pid_file), "one")
    pid = int(pid_file.read_text())
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Uid:\t5\t5\t5\t5" in status
    assert pid in [
        int(p) for p in oci("ps", "--format", "json", "one").stdout.strip("[]\n").split(",")
    ]
    os.kill(pid, signal.SIGKILL)


def test_run_passes_signals_on(oci: Runtime) -> None:
    import subprocess

    oci.command("sh", "-c", "trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    oci.change(lambda config: config["linux"].update(cgroupsPath=f"/labkit-oci/{oci.folder.name}"))
    words = oci.words("run", "--bundle", str(oci.bundle), "one")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 33
    assert oci("list", "-q").stdout == ""

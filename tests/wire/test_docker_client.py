"""The real docker client against our socket: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from .conftest import Lab

HEX_64 = re.compile(r"[0-9a-f]{64}\n\Z")


def test_version_names_client_and_server(lab: Lab) -> None:
    text = lab.ok("version")
    assert "Server" in text
    assert lab.ok("version", "--format", "{{.Server.APIVersion}}") == "1.50\n"
    assert lab.ok("version", "--format", "{{.Server.Os}}") == "linux\n"


def test_info_is_complete_enough_for_the_client(lab: Lab) -> None:
    assert "Server Version:" in lab.ok("info")
    assert lab.ok("info", "--format", "{{.Driver}} {{.OSType}} {{.Swarm.LocalNodeState}}") == (
        "overlay2 linux inactive\n"
    )


def test_images_lists_what_was_pulled(lab: Lab) -> None:
    assert "busybox" in lab.ok("images")
    assert lab.ok("images", "--format", "{{.Repository}}:{{.Tag}}") == "busybox:latest\n"
    assert lab.ok("image", "inspect", "-f", "{{.Os}}", "busybox") == "linux\n"


@pytest.mark.parametrize(
    ("words", "stdout", "code"),
    [
        (("busybox", "echo", "hello"), "hello\n", 0),
        (("busybox", "true"), "", 0),
        (("busybox", "false"), "", 1),
        (("busybox", "sh", "-c", "exit 37"), "", 37),
        (("busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), "", 137),
        (("-e", "COLOUR=blue", "busybox", "sh", "-c", "echo $COLOUR"), "blue\n", 0),
        (("-w", "/tmp", "busybox", "pwd"), "/tmp\n", 0),
        (("-u", "1000:1000", "busybox", "id", "-u"), "1000\n", 0),
        (("--hostname", "box", "busybox", "hostname"), "box\n", 0),
        (("--network", "none", "busybox", "ls", "/sys/class/net"), "lo\n", 0),
        (("--entrypoint", "echo", "busybox", "x"), "x\n", 0),
    ],
)
def test_run_in_the_foreground(
    clean_lab: Lab, words: tuple[str, ...], stdout: str, code: int
) -> None:
    done = clean_lab.docker("run", "--rm", *words)
    assert (done.stdout, done.returncode) == (stdout, code), done.stderr + clean_lab.log()
    assert clean_lab.ok("ps", "-aq") == ""


def test_stdout_and_stderr_arrive_apart(clean_lab: Lab) -> None:
    done = clean_lab.docker(
        "run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2"
    )
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_much_output_arrives_whole(clean_lab: Lab) -> None:
    done = clean_lab.docker("run", "--rm", "busybox", "seq", "1", "200000")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001))


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("busybox", "no-such-command"), 127, "executable file not found in $PATH"),
        (("busybox", "/etc/passwd"), 126, "permission denied"),
        (("--memory", "1k", "busybox", "true"), 125, "Minimum memory limit allowed is 6MB"),
        (("--name", "bad name", "busybox", "true"), 125, "Invalid container name (bad name)"),
        (("no-such-image-here", "true"), 125, "pull access denied for no-such-image-here"),
    ],
)
def test_run_that_cannot_be(
    clean_lab: Lab, words: tuple[str, ...], code: int, sentence: str
) -> None:
    done = clean_lab.docker("run", "--rm", *words)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr


def test_a_missing_image_is_pulled_by_run(clean_lab: Lab) -> None:
    clean_lab.ok("rmi", "-f", "busybox")
    done = clean_lab.docker("run", "--rm", "busybox", "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n"), done.stderr
    assert "Unable to find image 'busybox:latest' locally" in done.stderr
    assert "Status: Downloaded newer image for busybox:latest" in done.stderr


def test_stdin_reaches_the_container_and_its_end_too(clean_lab: Lab) -> None:
    assert clean_lab.ok("run", "--rm", "-i", "busybox", "cat", given="one\ntwo\n") == "one\ntwo\n"
    assert clean_lab.ok("run", "--rm", "-i", "busybox", "wc", "-l", given="a\n" * 50000) == (
        "50000\n"
    )


def test_detached_life_and_logs(clean_lab: Lab) -> None:
    identifier = clean_lab.ok(
        "run", "-d", "--name", "web", "busybox", "sh", "-c", "echo a; echo b; sleep 1d"
    )
    assert HEX_64.match(identifier)
    assert clean_lab.ok("ps", "--format", "{{.Names}} {{.Image}} {{.State}}") == (
        "web busybox running\n"
    )
    _until(lambda: clean_lab.ok("logs", "web") == "a\nb\n")
    assert clean_lab.ok("logs", "--tail", "1", "web") == "b\n"
    assert re.match(r"\d{4}-\d\d-\d\dT\S+Z a\n", clean_lab.ok("logs", "-t", "web"))
    assert clean_lab.ok("inspect", "-f", "{{.State.Status}} {{.Name}}", identifier[:12]) == (
        "running /web\n"
    )
    assert clean_lab.ok("stop", "-t", "0", "web") == "web\n"
    assert clean_lab.ok("inspect", "-f", "{{.State.ExitCode}}", "web") == "137\n"
    assert clean_lab.ok("start", "web") == "web\n"
    assert clean_lab.ok("rm", "-f", "web") == "web\n"
    assert clean_lab.docker("inspect", "web").returncode == 1


def test_logs_follow_until_the_container_ends(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "loop", "busybox", "sh", "-c",
        "for i in 1 2 3; do echo $i; sleep 0.1; done",
    )  # fmt: skip
    assert clean_lab.ok("logs", "-f", "loop") == "1\n2\n3\n"


def test_stop_gives_the_process_its_grace(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "kind", "busybox", "sh", "-c",
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    )  # fmt: skip
    _until(lambda: "ready" in clean_lab.ok("logs", "kind"))
    clean_lab.ok("stop", "kind")
    assert clean_lab.ok("inspect", "-f", "{{.State.ExitCode}}", "kind") == "0\n"
    assert clean_lab.ok("logs", "kind").endswith("bye\n")


def test_kill_chooses_the_signal(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "killed", "busybox", "sh", "-c",
        "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done",
    )  # fmt: skip
    _until(lambda: "ready" in clean_lab.ok("logs", "killed"))
    clean_lab.ok("kill", "-s", "USR1", "killed")
    assert clean_lab.ok("wait", "killed") == "5\n"
    assert "is not running" in clean_lab.docker("kill", "killed").stderr


def test_exec_runs_beside_the_first_process(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "web", "busybox", "sleep", "1d")
    assert clean_lab.ok("exec", "web", "echo", "hi") == "hi\n"
    assert clean_lab.ok("exec", "-i", "web", "cat", given="abc") == "abc"
    assert clean_lab.ok("exec", "-e", "A=1", "-w", "/etc", "web", "sh", "-c", "echo $A $PWD") == (
        "1 /etc\n"
    )
    assert clean_lab.docker("exec", "web", "sh", "-c", "exit 9").returncode == 9
    missing = clean_lab.docker("exec", "web", "nope")
    assert missing.returncode == 127
    assert "executable file not found" in missing.stderr + missing.stdout
    clean_lab.ok("stop", "-t", "0", "web")
    stopped = clean_lab.docker("exec", "web", "true")
    assert stopped.returncode == 1
    assert "is not running" in stopped.stderr


def test_pause_top_rename_diff_and_restart(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "one", "busybox", "sleep", "1d")
    assert "sleep 1d" in clean_lab.ok("top", "one")
    if clean_lab.ok("info", "--format", "{{.CgroupDriver}}").strip() != "none":
        clean_lab.ok("pause", "one")
        assert "(Paused)" in clean_lab.ok("ps")
        clean_lab.ok("unpause", "one")
    clean_lab.ok("rename", "one", "two")
    clean_lab.ok("exec", "two", "touch", "/new")
    assert clean_lab.ok("diff", "two") == "A /new\n"
    clean_lab.ok("restart", "-t", "0", "two")
    assert clean_lab.ok("exec", "two", "ls", "/new") == "/new\n"


def test_a_name_in_use_is_a_conflict(clean_lab: Lab) -> None:
    clean_lab.ok("create", "--name", "web", "busybox")
    done = clean_lab.docker("run", "--name", "web", "busybox")
    assert done.returncode == 125
    assert 'Conflict. The container name "/web" is already in use by container' in done.stderr


def test_create_and_start_with_attached_output(clean_lab: Lab) -> None:
    clean_lab.ok("create", "--name", "made", "busybox", "echo", "later")
    assert "Created" in clean_lab.ok("ps", "-a")
    assert clean_lab.ok("start", "-a", "made") == "later\n"
    assert "Exited (0)" in clean_lab.ok("ps", "-a")


def test_wait_prints_each_exit_code(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "first", "busybox", "sh", "-c", "sleep 0.2; exit 3")
    clean_lab.ok("run", "-d", "--name", "second", "busybox", "true")
    assert clean_lab.ok("wait", "first", "second") == "3\n0\n"


def test_events_tell_a_containers_story(clean_lab: Lab) -> None:
    since = str(time.time())
    clean_lab.ok("run", "--rm", "--name", "story", "busybox", "true")
    text = clean_lab.ok(
        "events", "--since", since, "--until", str(time.time() + 0.1),
        "--filter", "container=story", "--format", "{{.Action}}",
    )  # fmt: skip
    story = text.split()
    for earlier, later in (("create", "start"), ("start", "die"), ("die", "destroy")):
        assert story.index(earlier) < story.index(later), story


def test_prune_removes_what_has_ended(clean_lab: Lab) -> None:
    clean_lab.ok("run", "--name", "old", "busybox", "true")
    clean_lab.ok("run", "-d", "--name", "new", "busybox", "sleep", "1d")
    assert "Deleted Containers:" in clean_lab.ok("container", "prune", "-f")
    assert clean_lab.ok("ps", "-a", "--format", "{{.Names}}") == "new\n"


def test_inspect_finds_objects_of_every_kind_and_says_when_there_is_none(lab: Lab) -> None:
    assert lab.ok("inspect", "-f", "{{.Driver}}", "none") == "null\n"
    done = lab.docker("inspect", "nothing-of-that-name")
    assert done.returncode == 1
    assert "No such object: nothing-of-that-name" in done.stderr


def test_the_list_of_networks_is_true(lab: Lab) -> None:
    names = lab.ok("network", "ls", "--format", "{{.Name}} {{.Driver}}").splitlines()
    assert {"host host", "none null"} <= set(names)
    done = lab.docker("network", "rm", "none")
    assert done.returncode == 1
    assert "none is a pre-defined network and cannot be removed" in done.stderr


def test_volumes_outlive_their_containers(clean_lab: Lab) -> None:
    lab = clean_lab
    assert lab.ok("volume", "create", "--label", "a=b", "data") == "data\n"
    lab.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file")
    lab.ok("run", "-d", "--name", "user", "-v", "data:/d:ro", "busybox", "sleep", "1d")
    assert lab.ok("exec", "user", "cat", "/d/file") == "kept\n"
    assert lab.ok("volume", "ls", "-q", "--filter", "label=a=b") == "data\n"
    assert lab.ok("volume", "inspect", "-f", "{{.Mountpoint}}", "data") == (
        "/var/lib/docker/volumes/data/_data\n"
    )
    busy = lab.docker("volume", "rm", "data")
    assert busy.returncode == 1
    assert "remove data: volume is in use - [" in busy.stderr
    lab.ok("rm", "-f", "user")
    assert "data" not in lab.ok("volume", "prune", "-f")
    assert "data" in lab.ok("volume", "prune", "-a", "-f")
    assert lab.docker("volume", "inspect", "data").returncode == 1


def test_images_and_containers_leave_and_enter_as_archives(clean_lab: Lab, tmp_path: Path) -> None:
    lab = clean_lab
    archive = str(tmp_path / "image.tar")
    lab.ok("tag", "busybox", "copy:one")
    lab.ok("save", "-o", archive, "copy:one")
    lab.ok("rmi", "copy:one")
    assert "Loaded image: copy:one" in lab.ok("load", "-i", archive)
    assert lab.ok("run", "--rm", "--network", "none", "copy:one", "echo", "again") == "again\n"
    lab.ok("rmi", "copy:one")
    missing = lab.docker("save", "-o", archive, "no-such-image")
    assert missing.returncode == 1
    assert "No such image" in missing.stderr
    lab.ok("run", "--name", "made", "busybox", "sh", "-c", "echo mine > /mine")
    lab.ok("export", "-o", str(tmp_path / "tree.tar"), "made")
    with tarfile.open(tmp_path / "tree.tar") as tree:
        found = tree.extractfile("mine")
        assert found is not None
        assert found.read() == b"mine\n"


def test_stats_of_a_running_container(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "busy", "busybox", "sleep", "1d")
    text = clean_lab.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "busy")
    counted = clean_lab.ok("info", "--format", "{{.PidsLimit}}").strip() == "true"
    assert text.split() == ["busy", "1" if counted else "0"]
    assert clean_lab.ok("stats", "--no-stream", "--format", "{{json .}}", "busy").startswith("{")


def test_an_interactive_shell_on_a_terminal(clean_lab: Lab) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["docker", "run", "--rm", "-it", "busybox", "sh"],
        env={**clean_lab.env, "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    try:
        _read_until(leader, b"# ")
        os.write(leader, b"tty; echo $((6*7))\n")
        text = _read_until(leader, b"42\r\n")
        assert b"/dev/pts/" in text or b"/dev/console" in text
        os.write(leader, b"exit 4\n")
        _read_until(leader, b"exit 4")
        assert process.wait(20) == 4
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_the_detach_keys_leave_the_container_running(clean_lab: Lab) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["docker", "run", "--name", "term", "-it", "busybox", "sh"],
        env={**clean_lab.env, "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    try:
        _read_until(leader, b"# ")
        os.write(leader, b"\x10\x11")
        assert process.wait(20) == 0
        assert clean_lab.ok("inspect", "-f", "{{.State.Running}}", "term") == "true\n"
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_inspect_has_the_shape_that_templates_expect(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "seen", "-e", "A=b", "busybox", "sleep", "1d")
    [found] = json.loads(clean_lab.ok("inspect", "seen"))
    assert "A=b" in found["Config"]["Env"]
    assert found["State"]["Pid"] > 1
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "no"
    for key in ("Id", "Created", "Path", "Args", "Image", "Name", "GraphDriver", "Mounts"):
        assert key in found


def _until(holds: object, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def _read_until(descriptor: int, ending: bytes, timeout_s: float = 20) -> bytes:
    data = b""
    deadline = time.monotonic() + timeout_s
    while ending not in data:
        left = deadline - time.monotonic()
        ready = left > 0 and select.select([descriptor], [], [], left)[0]
        assert ready, f"no {ending!r} in {data!r}"
        data += os.read(descriptor, 4096)
    return data


def test_what_cannot_be_held_to_is_refused_by_name(clean_lab: Lab) -> None:
    refused = clean_lab.docker("run", "--uts", "host", "--hostname", "x", "busybox", "true")
    assert refused.returncode == 125
    assert "conflicting options: hostname and the UTS mode" in refused.stderr
    refused = clean_lab.docker("run", "--security-opt", "apparmor=strict", "busybox", "true")
    assert refused.returncode == 125
    assert 'cannot apply AppArmor profile "strict"' in refused.stderr


@pytest.mark.root
def test_a_privileged_container_has_the_machines_devices(clean_lab: Lab) -> None:
    listed = ("busybox", "sh", "-c", "find /dev -xdev \\( -type b -o -type c \\) | sort")
    plain = set(clean_lab.ok("run", "--rm", *listed).split())
    everything = set(clean_lab.ok("run", "--rm", "--privileged", *listed).split())
    assert plain < everything
    assert "/dev/kmsg" in everything

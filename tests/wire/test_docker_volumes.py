"""Volumes with the real client: what survives, what is shared, what is refused and how."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.wire.conftest import ROOT, Lab


def sh(lab: Lab, *words: str, script: str) -> str:
    """The output of a script in a fresh container."""
    return lab.ok("run", "--rm", *words, "busybox", "sh", "-c", script)


def refusal(lab: Lab, *words: str) -> str:
    done = lab.docker(*words)
    assert done.returncode != 0, done.stdout
    return done.stderr


@pytest.fixture
def volumes(clean_lab: Lab) -> Lab:
    """The lab without volumes of earlier tests."""
    identifiers = clean_lab.ok("ps", "-aq").split()
    if identifiers:
        clean_lab.ok("rm", "-fv", *identifiers)
    clean_lab.ok("volume", "prune", "-af")
    return clean_lab


def test_data_outlives_the_container_and_is_found_on_the_lab_host(volumes: Lab) -> None:
    sh(volumes, "-v", "kept:/data", script="echo precious > /data/row")
    assert sh(volumes, "-v", "kept:/data", script="cat /data/row") == "precious\n"
    found = json.loads(volumes.ok("volume", "inspect", "kept"))[0]
    assert found["Mountpoint"] == "/var/lib/docker/volumes/kept/_data"
    assert (found["Driver"], found["Scope"], found["Options"]) == ("local", "local", None)
    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", "host", "cat", f"{found['Mountpoint']}/row"],
        env=volumes.env, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "precious\n"


def test_a_fresh_volume_takes_what_the_image_has_there_and_later_ones_nothing(
    volumes: Lab,
) -> None:
    volumes.ok("create", "--name", "c1", "-v", "etc:/etc", "busybox", "true")
    assert sh(volumes, "-v", "etc:/x", script="cat /x/passwd").startswith("root:")
    sh(volumes, "-v", "etc:/x", script="rm -rf /x/*")
    volumes.ok("start", "-a", "c1")
    assert sh(volumes, "-v", "etc:/x", script="ls /x | wc -l").strip() == "0"
    assert sh(volumes, "-v", "none:/etc:nocopy", script="ls /etc/passwd || true") == ""
    assert sh(volumes, "--mount", "source=none2,target=/etc,volume-nocopy",
              script="ls /etc/passwd || true") == ""  # fmt: skip


def test_a_volume_in_use_is_kept_also_by_a_stopped_container(volumes: Lab) -> None:
    identifier = volumes.ok("create", "-v", "used:/d", "busybox", "true").strip()
    message = refusal(volumes, "volume", "rm", "used")
    assert f"remove used: volume is in use - [{identifier}]" in message
    volumes.ok("volume", "prune", "-af")
    assert volumes.ok("volume", "ls", "-q") == "used\n"
    volumes.ok("rm", identifier)
    assert volumes.ok("volume", "rm", "used") == "used\n"
    assert "get used: no such volume" in refusal(volumes, "volume", "rm", "used")


def test_anonymous_volumes_go_with_rm_v_and_with_rm_only(volumes: Lab) -> None:
    volumes.ok("run", "--rm", "-v", "/data", "busybox", "true")
    assert volumes.ok("volume", "ls", "-q") == ""
    volumes.ok("run", "--name", "c1", "-v", "/data", "-v", "named:/more", "busybox", "true")
    assert len(volumes.ok("volume", "ls", "-q").split()) == 2
    volumes.ok("rm", "-v", "c1")
    assert volumes.ok("volume", "ls", "-q") == "named\n"


def test_prune_takes_anonymous_ones_all_ones_or_labelled_ones(volumes: Lab) -> None:
    volumes.ok("volume", "create", "--label", "keep=1", "aa")
    volumes.ok("volume", "create", "bb")
    anonymous = volumes.ok("volume", "create").strip()
    assert len(anonymous) == 64
    assert anonymous in volumes.ok("volume", "prune", "-f")
    assert volumes.ok("volume", "ls", "-q").split() == ["aa", "bb"]
    volumes.ok("volume", "prune", "-af", "--filter", "label!=keep")
    assert volumes.ok("volume", "ls", "-q").split() == ["aa"]
    volumes.ok("volume", "prune", "-af", "--filter", "label=keep=1")
    assert volumes.ok("volume", "ls", "-q") == ""


def test_two_containers_share_and_one_of_them_only_reads(volumes: Lab) -> None:
    volumes.ok("run", "-d", "--name", "writer", "-v", "both:/d", "busybox", "sh", "-c",
               "echo one > /d/f; sleep 1d")  # fmt: skip
    assert sh(volumes, "-v", "both:/d:ro", script="until cat /d/f; do :; done 2>/dev/null; "
              "touch /d/x 2>&1 || true").splitlines()[1:] == [
        "touch: /d/x: Read-only file system"]  # fmt: skip
    assert "Read-only" in sh(volumes, "--volumes-from", "writer:ro", script="touch /d/x 2>&1||:")
    assert sh(volumes, "--volumes-from", "writer", script="touch /d/x; ls /d") == "f\nx\n"
    found = json.loads(volumes.ok("inspect", "-f", "{{json .Mounts}}", "writer"))
    assert found == [{
        "Type": "volume", "Name": "both", "Source": "/var/lib/docker/volumes/both/_data",
        "Destination": "/d", "Driver": "local", "Mode": "z", "RW": True, "Propagation": "",
    }]  # fmt: skip


def test_binds_make_their_folder_and_mounts_do_not(volumes: Lab, tmp_path: Path) -> None:
    sh(volumes, "-v", f"{tmp_path}/made/deep:/d", script="echo x > /d/f")
    assert (tmp_path / "made" / "deep" / "f").read_text() == "x\n"
    message = refusal(volumes, "run", "--rm", "--mount",
                      f"type=bind,source={tmp_path}/none,target=/d", "busybox", "true")  # fmt: skip
    assert (
        f'invalid mount config for type "bind": bind source path does not exist: {tmp_path}/none'
        in message
    )
    (tmp_path / "file").write_text("one file\n")
    assert sh(volumes, "-v", f"{tmp_path}/file:/etc/motd:ro", script="cat /etc/motd") == (
        "one file\n"
    )
    script = "grep ' /d ' /proc/self/mountinfo"
    shared = sh(volumes, "-v", f"{tmp_path}:/d:rshared", script=script)
    assert "shared:" in shared
    private = sh(volumes, "--mount", f"type=bind,src={tmp_path},dst=/d,bind-propagation=rprivate",
                 script=script)  # fmt: skip
    assert "shared:" not in private


def test_a_tmpfs_has_its_size_mode_and_options(volumes: Lab) -> None:
    script = "stat -c %a /t; grep ' /t ' /proc/mounts"
    mode, mount = sh(volumes, "--tmpfs", "/t:size=64k,mode=700,exec", script=script).splitlines()
    assert mode == "700"
    assert "size=64k" in mount
    assert "noexec" not in mount
    words = ("--mount", "type=tmpfs,destination=/t,tmpfs-size=128k,tmpfs-mode=1770")
    mode, mount = sh(volumes, *words, script=script).splitlines()
    assert (mode, "size=128k" in mount, "noexec" in mount) == ("1770", True, True)
    assert 'invalid tmpfs option ["frob"]' in refusal(
        volumes, "run", "--rm", "--tmpfs", "/t:frob", "busybox", "true"
    )


def test_a_tmpfs_volume_is_shared_while_somebody_uses_it_and_empty_after(volumes: Lab) -> None:
    volumes.ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m",
               "quick")  # fmt: skip
    volumes.ok("run", "-d", "--name", "c1", "-v", "quick:/q", "busybox", "sh", "-c",
               "echo x > /q/f; sleep 1d")  # fmt: skip
    assert "size=1024k" in sh(volumes, "-v", "quick:/q", script="until [ -f /q/f ]; do :; done; "
                              "grep ' /q ' /proc/mounts")  # fmt: skip
    volumes.ok("rm", "-f", "c1")
    assert sh(volumes, "-v", "quick:/q", script="ls /q") == ""
    assert json.loads(volumes.ok("volume", "inspect", "quick"))[0]["Options"] == {
        "type": "tmpfs", "device": "tmpfs", "o": "size=1m",
    }  # fmt: skip


def test_a_bind_volume_is_a_folder_of_the_lab_host(volumes: Lab, tmp_path: Path) -> None:
    volumes.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}",
               "place")  # fmt: skip
    sh(volumes, "-v", "place:/p", script="echo here > /p/f")
    assert (tmp_path / "f").read_text() == "here\n"
    volumes.ok("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/where",
               "gone")  # fmt: skip
    message = refusal(volumes, "run", "--rm", "-v", "gone:/p", "busybox", "true")
    assert "failed to mount local volume: mount /no/where:" in message
    assert "no such file or directory" in message.lower()


def test_options_nobody_can_mount_are_refused_with_the_reason(volumes: Lab) -> None:
    def create(*options: str) -> str:
        words = [word for option in options for word in ("-o", option)]
        return refusal(volumes, "volume", "create", *words, "v1")

    assert 'create v1: invalid option: "frob"' in create("frob=1")
    assert 'create v1: missing required option: "device"' in create("type=tmpfs")
    assert "needs a file server" in create("type=nfs", "o=addr=10.0.0.1", "device=:/srv")
    assert "block device" in create("type=ext4", "device=/dev/sda1")
    assert 'plugin "rexray" not found' in refusal(volumes, "volume", "create", "-d", "rexray", "v1")
    assert volumes.ok("volume", "ls", "-q") == ""


def test_one_folder_of_a_volume_is_mounted_alone(volumes: Lab) -> None:
    sh(volumes, "-v", "big:/b", script="mkdir -p /b/in/side; echo x > /b/in/side/f; ln -s / /b/up")
    words = ("--mount", "type=volume,source=big,target=/s,volume-subpath=in/side")
    assert sh(volumes, *words, script="ls /s") == "f\n"
    for subpath in ("none", "up/etc", "in/none"):
        message = refusal(volumes, "run", "--rm", "--mount",
                          f"type=volume,source=big,target=/s,volume-subpath={subpath}",
                          "busybox", "true")  # fmt: skip
        assert "cannot access path" in message
    words = ("--mount", "type=volume,source=big,target=/s,volume-subpath=../..")
    message = refusal(volumes, "run", "--rm", *words, "busybox", "true")
    assert "subpath must be a relative path within the volume" in message


def test_mounts_of_a_volume_are_told_as_events(volumes: Lab) -> None:
    identifier = volumes.ok("create", "-v", "told:/d", "busybox", "true").strip()
    volumes.ok("start", "-a", identifier)
    volumes.ok("rm", identifier)
    volumes.ok("volume", "rm", "told")
    wanted = quote(json.dumps({"volume": ["told"]}))
    _, text = volumes.request("GET", f"/events?since=1&until={time.time():.9f}&filters={wanted}")
    events = [json.loads(line) for line in text.splitlines()]
    assert [event["Action"] for event in events] == ["create", "mount", "unmount", "destroy"]
    assert events[1]["Actor"]["Attributes"] == {
        "container": identifier, "destination": "/d", "driver": "local", "propagation": "",
        "read/write": "true",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../x", "a", "a/b", ".hidden", "a b", "x" * 300, "-v"])
def test_a_hostile_volume_name_is_refused(volumes: Lab, name: str) -> None:
    status, answer = volumes.request("POST", "/volumes/create", {"Name": name})
    assert status in (400, 500), answer
    assert answer["message"].startswith(f"create {name}")
    assert volumes.ok("volume", "ls", "-q") == ""

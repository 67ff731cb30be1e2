"""labkit's own API: what views are drawn from, boxes, and commands on the lab host."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab


@pytest.fixture
def box(lab: Lab) -> Iterator[str]:
    status, made = lab.request(
        "POST", "/v1/boxes", {"name": "hand", "labels": {"a": "b"}}, lab=True
    )
    assert status == 201, made
    yield made["id"]
    assert lab.request("DELETE", f"/v1/boxes/{made['id']}", lab=True)[0] in (204, 404)


def _op(lab: Lab, box: str, op: str, **args: Any) -> dict[str, Any]:
    status, answer = lab.request("POST", f"/v1/boxes/{box}/ops", {"op": op, "args": args}, lab=True)
    assert status == 200, answer
    return dict(answer)


def test_status_tells_who_serves_and_what_holds(lab: Lab) -> None:
    _, status = lab.request("GET", "/v1/status", lab=True)
    assert lab.process is not None
    assert status["pid"] == lab.process.pid
    assert status["docker_socket"] == str(lab.paths.docker_socket)
    assert {limit["name"] for limit in status["limits"]} >= {"memory", "pids", "cpu"}
    assert status["images"]["source"] in ("stand-in", "registry")


def test_doctor_says_what_each_thing_means(lab: Lab) -> None:
    _, lines = lab.request("GET", "/v1/doctor", lab=True)
    assert {"mode", "disk", "images"} <= {line["name"] for line in lines}
    for line in lines:
        assert line["ok"] or (line["meaning"] and line["fix"]), line


def test_the_namespaces_view_knows_every_process_of_the_lab(clean_lab: Lab, box: str) -> None:
    lab = clean_lab
    identifier = lab.ok("run", "-d", "--name", "seen", "busybox", "sleep", "1d").strip()
    _, view = lab.request("GET", "/v1/views/namespaces", lab=True)
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for process in view["processes"]:
        by_kind.setdefault(process["owner"]["kind"], []).append(process)
    assert set(by_kind) >= {"labkit", "anchor", "shim", "container", "box", "host"}
    [sleeper] = by_kind["container"]
    assert sleeper["owner"]["id"] == identifier
    assert sleeper["owner"]["name"] == "seen"
    assert sleeper["pids"] == [sleeper["pid"], 1]
    host = view["host"]["namespaces"]
    for kind in ("mnt", "pid", "net", "uts", "ipc"):
        assert sleeper["namespaces"][kind] != host[kind]
    assert by_kind["box"][0]["owner"]["id"] == box
    assert by_kind["box"][0]["namespaces"] == host
    assert view["others"] >= 0
    pids = {process["pid"] for process in view["processes"]}
    assert os.getpid() not in pids  # this test is nobody's business


def test_the_lifecycle_view_follows_the_table(clean_lab: Lab) -> None:
    clean_lab.ok("run", "--name", "story", "busybox", "true")
    _, view = clean_lab.request("GET", "/v1/views/lifecycle", lab=True)
    allowed = {(step["from"], step["to"], step["action"]) for step in view["transitions"]}
    [story] = [c for c in view["containers"] if c["name"].lstrip("/") == "story"]
    previous = None
    for entry in story["history"]:
        assert (previous, entry["state"], entry["action"]) in allowed
        previous = entry["state"]
    assert previous == "exited"


def test_a_timeline_outlives_its_container(clean_lab: Lab) -> None:
    identifier = clean_lab.ok("create", "busybox", "true").strip()
    clean_lab.ok("start", "-a", identifier)
    clean_lab.ok("rm", identifier)
    status, told = clean_lab.request("GET", f"/v1/containers/{identifier}/timeline", lab=True)
    assert status == 200
    calls = " ".join(step["call"] for step in told["steps"])
    for word in ("clone3", "pivot_root", "seccomp", "execve"):
        assert word in calls
    assert told["clock"] == "monotonic"


def test_a_container_can_be_built_by_hand(lab: Lab, box: str) -> None:
    tree = _op(lab, box, "rootfs", image="busybox")["result"]["path"]
    assert tree.startswith("/var/lib/docker/boxes/")
    assert _op(lab, box, "unshare", kinds=["uts", "mnt", "pid", "net"])["ok"]
    assert _op(lab, box, "sethostname", name="handmade")["ok"]
    assert _op(lab, box, "mount", source=tree, target=tree, flags=["bind"])["ok"]
    assert _op(lab, box, "mount", source="proc", target=f"{tree}/proc", fstype="proc")["ok"]
    assert _op(lab, box, "pivot_root", new_root=tree, put_old=f"{tree}/.old")["ok"]
    assert _op(lab, box, "lo_up")["ok"]
    assert _op(lab, box, "run", argv=["hostname"])["result"]["stdout"] == "handmade\n"
    listed = _op(lab, box, "run", argv=["ls", "/proc"])["result"]["stdout"].split()
    assert "1" in listed
    assert str(os.getpid()) not in listed
    _, seen = lab.request("GET", f"/v1/boxes/{box}", lab=True)
    assert (seen["hostname"], seen["root"], seen["pivoted"]) == ("handmade", "/", True)
    assert seen["interfaces"] == ["lo"]
    assert seen["lo_up"]
    assert seen["namespaces"]["uts"] != seen["host_namespaces"]["uts"]


def test_a_refusal_of_the_kernel_is_an_answer_with_a_hint(lab: Lab, box: str) -> None:
    refused = _op(lab, box, "mount", source="x", target="/nowhere", fstype="tmpfs")
    assert not refused["ok"]
    assert refused["errno"] == 2
    assert refused["hint"]
    lost = _op(lab, box, "run", argv=["no-such-command"])
    assert (lost["ok"], lost["result"]["exit_code"]) == (True, 127)
    assert "no-such-command" in lost["result"]["stderr"]


def test_a_memory_limit_stops_a_hog_and_is_counted(lab: Lab, box: str) -> None:
    _, status = lab.request("GET", "/v1/status", lab=True)
    if not next(limit for limit in status["limits"] if limit["name"] == "memory")["holds"]:
        pytest.skip("memory limits do not hold on this machine")
    assert _op(lab, box, "cgroup", limits={"memory_bytes": 32 << 20, "pids": 20})["ok"]
    hog = _op(lab, box, "run", argv=["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x)"])
    assert hog["result"]["exit_code"] != 0
    _, seen = lab.request("GET", f"/v1/boxes/{box}", lab=True)
    assert seen["cgroup"]["memory_limit_bytes"] == 32 << 20
    assert seen["cgroup"]["memory_failcnt"] + seen["cgroup"]["oom_kills"] > 0


def test_a_name_in_use_and_a_box_that_is_gone(lab: Lab, box: str) -> None:
    status, answer = lab.request("POST", "/v1/boxes", {"name": "hand"}, lab=True)
    assert status == 409
    assert answer["hint"]
    assert lab.request("DELETE", f"/v1/boxes/{box[:12]}", lab=True)[0] == 204
    status, answer = lab.request("POST", f"/v1/boxes/{box}/ops", {"op": "info"}, lab=True)
    assert status == 404
    assert "No such box" in answer["message"]


def test_boxes_do_not_outlive_their_daemon(lab: Lab) -> None:
    _, made = lab.request("POST", "/v1/boxes", {"name": "left"}, lab=True)
    _op(lab, made["id"], "rootfs", image="busybox")
    folder = lab.paths.host_data() / "boxes" / made["id"]
    assert folder.is_dir()
    lab.kill()
    lab.start()
    assert lab.request("GET", "/v1/boxes", lab=True) == (200, [])
    assert not folder.exists()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{made['pid']}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{made['pid']}")


def _host_exec(lab: Lab, body: dict[str, Any], given: bytes = b"") -> dict[int, bytes]:
    data = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(lab.paths.lab_socket))
        client.sendall(
            b"POST /v1/host/exec HTTP/1.1\r\nHost: l\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        stream = client.makefile("rb")
        assert b" 101 " in stream.readline()
        while stream.readline() != b"\r\n":
            pass
        with contextlib.suppress(OSError):  # a command that has ended already hung up
            client.sendall(given)
            client.shutdown(socket.SHUT_WR)
        found: dict[int, bytes] = {}
        while head := stream.read(8):
            kind, size = struct.unpack(">BxxxL", head)
            found[kind] = found.get(kind, b"") + stream.read(size)
        return found


def test_a_command_on_the_lab_host(lab: Lab) -> None:
    done = _host_exec(lab, {"argv": ["sh", "-c", "cat; ls /var/lib/docker; echo e >&2; exit 5"], "stdin": True}, b"in\n")  # fmt: skip  # noqa: E501
    assert done[1].startswith(b"in\n")
    assert b"overlay2" in done[1]
    assert done[2] == b"e\n"
    assert json.loads(done[3]) == {"exit_code": 5}
    assert json.loads(_host_exec(lab, {"argv": ["no-such-command"]})[3]) == {"exit_code": 127}


def test_a_command_on_the_lab_host_ends_with_its_client(lab: Lab) -> None:
    data = json.dumps({"argv": ["sh", "-c", "echo $$; exec sleep 1000"]}).encode()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(lab.paths.lab_socket))
        client.sendall(
            b"POST /v1/host/exec HTTP/1.1\r\nHost: l\r\nUpgrade: tcp\r\nContent-Type: "
            b"application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        )
        text = b""
        while not text.endswith(b"\n") or b"\r\n\r\n" not in text or text.endswith(b"\r\n"):
            text += client.recv(1000)
        pid = int(text.rpartition(b"\r\n\r\n")[2][8:])
        assert os.path.exists(f"/proc/{pid}")
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{pid}")


def test_the_lab_socket_is_never_in_a_container(clean_lab: Lab) -> None:
    text = clean_lab.ok("run", "--rm", "busybox", "sh", "-c", "ls /run /var/run 2>&1 || true")
    assert "labkit.sock" not in text


def test_shutdown_wants_sensible_words(lab: Lab) -> None:
    for body in ({"stop_containers": "yes"}, {"remove_data": True}):
        assert lab.request("POST", "/v1/shutdown", body, lab=True)[0] == 400
    assert lab.request("GET", "/_ping", lab=True)[0] == 200


def test_the_data_can_be_removed_with_the_lab(lab: Lab) -> None:
    """In a lab of its own, because it ends here."""
    from .conftest import private_lab

    with private_lab() as other:
        other.ok("pull", "-q", "busybox")
        other.ok("run", "-d", "busybox", "sh", "-c", "mkdir -m 0 /shut; sleep 1d")
        status, answer = other.request(
            "POST", "/v1/shutdown", {"stop_containers": True, "remove_data": True}, lab=True
        )
        assert (status, answer) == (200, {"stopped": 1})
        assert other.process is not None
        assert other.process.wait(30) == 0
        assert not (other.paths.home / "hosts").exists()


def test_a_detached_daemon_reports_before_it_leaves(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "labkit.daemon", "--detach"],
        env=lab.env, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "already running" in done.stderr

"""Simulated nodes as the real client finds them: hosts of their own, on real packets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Lab, private_lab

PATIENCE_S = 60.0


def until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)
    return found


def ask(lab: Lab, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
    found, answer = lab.request(method, path, body, lab=True)
    assert found == status, (method, path, found, answer, lab.log())
    return answer


def node_docker(lab: Lab, node: str, *words: str) -> str:
    socket = lab.paths.run / "nodes" / node / "docker.sock"
    return lab.ok("-H", f"unix://{socket}", *words)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Lab]:
    """A lab with a swarm of three managers and one worker, at lesson speed."""
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    with private_lab() as lab:
        body = {"managers": 3, "workers": 1, "clock": "fast"}
        ask(lab, "POST", "/v1/swarm", body)
        yield lab
        ask(lab, "DELETE", "/v1/swarm")
        assert [node["name"] for node in ask(lab, "GET", "/v1/nodes")] == ["default"]
        assert not list((lab.paths.home / "hosts").glob("manager-*"))


def leader(lab: Lab) -> str:
    return str(until(lambda: ask(lab, "GET", "/v1/swarm")["leader"], "a leader"))


def write(lab: Lab, value: str) -> bool:
    status, _ = lab.request("POST", "/v1/raft/propose", {"value": value}, lab=True)
    return status == 200


def test_each_node_is_a_host_with_its_own_engine_and_name(cluster: Lab) -> None:
    names = [node["name"] for node in ask(cluster, "GET", "/v1/nodes")][1:]
    assert names == ["manager-1", "manager-2", "manager-3", "worker-1"]
    told = [node_docker(cluster, name, "info", "--format", "{{.Name}} {{.ID}}") for name in names]
    assert [line.split()[0] for line in told] == names
    assert len({line.split()[1] for line in told}) == 4
    nodes = ask(cluster, "GET", "/v1/nodes")
    namespaces = {os.stat(f"/proc/{node['anchor_pid']}/ns/net").st_ino for node in nodes}
    assert len(namespaces) == 5


def test_a_container_on_a_node_is_seen_there_and_nowhere_else(cluster: Lab) -> None:
    node_docker(cluster, "worker-1", "run", "-d", "--name", "here", "busybox", "sleep", "1d")
    names = ["ps", "-a", "--format", "{{.Names}}"]
    assert node_docker(cluster, "worker-1", *names) == "here\n"
    assert node_docker(cluster, "manager-1", *names) == ""
    assert cluster.ok(*names) == ""
    hostname = node_docker(cluster, "worker-1", "exec", "here", "hostname").strip()
    assert node_docker(cluster, "worker-1", "ps", "-q").strip() == hostname


def _on_node(lab: Lab, node: str, *argv: str) -> str:
    found = next(n for n in ask(lab, "GET", "/v1/nodes") if n["name"] == node)
    done = subprocess.run(
        ["nsenter", "-t", str(found["anchor_pid"]), "-n", *argv],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.root
def test_managers_talk_over_port_2377_of_their_own_hosts(cluster: Lab) -> None:
    text = _on_node(cluster, "manager-2", "cat", "/proc/net/tcp")
    local = {line.split()[1] for line in text.splitlines()[1:]}
    states = {(line.split()[2].split(":")[1], line.split()[3]) for line in text.splitlines()[1:]}
    # 192.168.99.102:2377, as the kernel writes it.
    assert "6663A8C0:0949" in local
    assert ("0949", "01") in states, "nobody is connected"


@pytest.mark.root
def test_a_partition_is_a_rule_of_the_receiving_hosts_and_a_heal_removes_it(cluster: Lab) -> None:
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    ask(cluster, "POST", "/v1/chaos", {"action": "partition", "nodes": ["manager-3"]})
    try:
        rules = _on_node(cluster, "manager-1", "nft", "list", "ruleset")
        assert "ip saddr 192.168.99.103 counter" in rules
        rules = _on_node(cluster, "manager-3", "nft", "list", "table", "inet", "labkit-chaos")
        assert rules.count(" drop") == 3
    finally:
        ask(cluster, "POST", "/v1/chaos", {"action": "heal"})
    body = {"action": "lose", "nodes": ["manager-1", "manager-2"], "amount": "30%"}
    ask(cluster, "POST", "/v1/chaos", body)
    rules = _on_node(cluster, "manager-1", "nft", "list", "table", "inet", "labkit-chaos")
    assert "numgen random mod 1000 < 300" in rules
    ask(cluster, "POST", "/v1/chaos", {"action": "heal"})
    assert "labkit-chaos" not in _on_node(cluster, "manager-1", "nft", "list", "ruleset")


def test_messages_are_delayed_and_packets_too_or_refused_by_name(cluster: Lab) -> None:
    body = {"action": "slow", "nodes": ["manager-1", "manager-2"], "amount": "20ms"}
    done = ask(cluster, "POST", "/v1/chaos", body)
    # Without a note the kernel has delaying queues, and uses them (test_underlay.py).
    assert all("cannot delay packets to 192.168.99.10" in note for note in done["notes"])
    assert len(ask(cluster, "GET", "/v1/chaos")["wires"]) == 2
    ask(cluster, "POST", "/v1/chaos", {"action": "heal"})


def test_a_killed_leader_is_replaced_and_comes_back_as_a_follower(cluster: Lab) -> None:
    old = leader(cluster)
    done = ask(cluster, "POST", "/v1/chaos", {"action": "kill", "nodes": ["leader"]})
    assert done["nodes"] == [old]
    assert not (cluster.paths.run / "nodes" / old / "docker.sock").exists()
    until(lambda: leader(cluster) != old, "another leader")
    until(lambda: write(cluster, "without it"), "a write")
    ask(cluster, "POST", "/v1/chaos", {"action": "restart", "nodes": [old]})
    node_docker(cluster, old, "ps")

    def caught_up() -> bool:
        rows = {row["name"]: row for row in ask(cluster, "GET", "/v1/raft")}
        return bool(rows[old]["commit"] == max(row["commit"] for row in rows.values()))

    until(caught_up, "the old leader catches up")


def test_a_paused_node_does_not_answer_until_it_goes_on(cluster: Lab) -> None:
    ask(cluster, "POST", "/v1/nodes/worker-1/pause")
    answered = threading.Event()

    def call() -> None:
        node_docker(cluster, "worker-1", "ps")
        answered.set()

    caller = threading.Thread(target=call)
    caller.start()
    assert not answered.wait(0.5)
    ask(cluster, "POST", "/v1/nodes/worker-1/unpause")
    assert answered.wait(PATIENCE_S)
    caller.join()


def test_acknowledged_writes_and_containers_survive_kill_9_of_the_daemon(cluster: Lab) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def client(name: int) -> None:
        number = 0
        while not stop.is_set():
            value = f"{name}-{number}"
            body = {"key": f"/kept/{value}", "value": value}
            try:
                status, _ = cluster.request("POST", "/v1/raft/propose", body, lab=True)
            except (OSError, ValueError):
                return
            except Exception:  # noqa: BLE001 - http.client's words for a daemon that died
                return
            if status == 200:
                acknowledged.append(value)
            number += 1

    leader(cluster)
    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in clients:
        thread.start()
    until(lambda: len(acknowledged) >= 40, "forty writes")
    cluster.kill()
    stop.set()
    for thread in clients:
        thread.join()
    cluster.start()
    leader(cluster)
    assert write(cluster, "after")
    journals = [cluster.paths.home / "swarm" / f"manager-{n}" / "raft.sqlite" for n in (1, 2, 3)]
    for value in acknowledged:
        holders = sum(_holds(path, f"/kept/{value}") for path in journals)
        assert holders >= 2, f"{value} was acknowledged and is on {holders} disks"
    assert node_docker(cluster, "worker-1", "ps", "--format", "{{.Names}}") == "here\n"


def _holds(path: Path, key: str) -> bool:
    import sqlite3

    # The managers hold the file exclusively: read a copy of it, with its write-ahead log.
    folder = path.parent / "looked-at"
    if not folder.exists():
        folder.mkdir()
        for name in ("raft.sqlite", "raft.sqlite-wal"):
            if (path.parent / name).exists():
                shutil.copy(path.parent / name, folder / name)
    with sqlite3.connect(folder / "raft.sqlite") as connection:
        text = json.dumps(key)[1:-1].encode()
        rows = connection.execute("SELECT count(*) FROM journal WHERE instr(record, ?)", (text,))
        return bool(rows.fetchone()[0])


def test_the_live_trace_is_read_in_pieces_and_waits_for_news(cluster: Lab) -> None:
    first = ask(cluster, "GET", "/v1/raft/trace?limit=10")
    assert first["live"] is True
    assert set(first["meta"]["names"].values()) == {"manager-1", "manager-2", "manager-3"}
    after = first["next"]
    seen = 0
    while seen < 200:
        piece = ask(cluster, "GET", f"/v1/raft/trace?after={after}&wait_s=5")
        assert piece["events"], "a leader speaks twenty times a second"
        assert piece["events"][0]["step"] == after + 1
        seen += len(piece["events"])
        after = piece["next"]


def test_env_points_at_a_node(cluster: Lab) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "labkit.cli", "env", "--node", "worker-1"],
        env=cluster.env, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert f"DOCKER_HOST=unix://{cluster.paths.run}/nodes/worker-1/docker.sock" in done.stdout


def test_a_real_node_is_added_stopped_started_and_removed(cluster: Lab) -> None:
    (made,) = ask(cluster, "POST", "/v1/nodes", {"names": ["extra"]}, status=201)
    socket = Path(made["docker_socket"])
    node_docker(cluster, "extra", "ps")
    ask(cluster, "POST", "/v1/nodes/extra/stop")
    assert not socket.exists()
    assert not Path(f"/proc/{made['anchor_pid']}").exists()
    ask(cluster, "POST", "/v1/nodes/extra/start")
    node_docker(cluster, "extra", "ps")
    ask(cluster, "DELETE", "/v1/nodes", {"names": ["extra"]})
    assert not socket.parent.exists()
    assert not (cluster.paths.home / "hosts" / "extra").exists()

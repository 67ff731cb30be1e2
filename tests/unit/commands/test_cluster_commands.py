"""nodes, swarm, chaos, raft and clock: what is typed, what is asked of the lab, what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.base.errors import InvalidParameter
from labkit.notebook.commands.cluster import GROUPS, run
from labkit.notebook.commands.surface import BufferSurface

STATUS = {
    "id": "abc",
    "clock": "docker",
    "tick_s": 1.0,
    "election_ticks": 10,
    "heartbeat_ticks": 1,
    "managers": 3,
    "up": 1,
    "quorum": 2,
    "may_fail": 1,
    "leader": "",
    "revision": None,
    "nodes": [
        {
            "name": "manager-1",
            "role": "manager",
            "status": "running",
            "manager": "Reachable",
            "address": "192.168.99.101",
            "kind": "hollow",
            "failure": "a full disk",
            "refusals": [],
        }
    ],
}
NODE = {
    "name": "node-1",
    "kind": "hollow",
    "status": "running",
    "address": "192.168.99.101",
    "platform": "windows/amd64",
    "docker_socket": "",
}
MANAGER = {
    "id": 1,
    "name": "manager-1",
    "up": True,
    "paused": False,
    "role": "pre_candidate",
    "term": 3,
    "vote": 0,
    "leader": 0,
    "commit": 4,
    "applied": 4,
    "first": 1,
    "last": 5,
    "last_term": 3,
}


class Lab:
    """Answers from a table, and remembers what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, Any]] = []

    def json(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        return self.answers.get(method, {})


def ran(group: str, line: str, **answers: Any) -> tuple[Lab, BufferSurface]:
    lab, surface = Lab(**answers), BufferSurface()
    assert run(group, line.split(), lab, surface) == 0  # type: ignore[arg-type]
    return lab, surface


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("add", {"names": [], "count": 0}),
        ("add 3", {"names": [], "count": 3}),
        ("add a b", {"names": ["a", "b"], "count": 0}),
        ("add --hollow 1000", {"names": [], "count": 1000, "hollow": True}),
        (
            "add w --hollow --platform windows/amd64",
            {"names": ["w"], "count": 0, "hollow": True, "platform": "windows/amd64"},
        ),
    ],
)
def test_nodes_are_added_by_name_or_by_number(line: str, body: dict[str, Any]) -> None:
    lab, surface = ran("nodes", line, POST=[NODE])
    full = {"hollow": False, "platform": "linux/amd64", **body}
    assert lab.asked == [("POST", "/v1/nodes", full)]
    assert surface.stdout == "node-1\n"


def test_nodes_are_listed_with_what_they_are() -> None:
    _, surface = ran("nodes", "", GET=[NODE])
    assert surface.stdout.splitlines() == [
        "NAME     KIND     STATUS    ADDRESS          PLATFORM        DOCKER SOCKET",
        "node-1   hollow   running   192.168.99.101   windows/amd64   -",
    ]
    _, surface = ran("nodes", "ls", GET=[NODE] * 50)
    assert surface.stdout.endswith("… and 10 more (nodes ls --all)\n")


def test_several_nodes_are_changed_one_after_the_other() -> None:
    lab, surface = ran("nodes", "stop a b")
    assert [path for _, path, _ in lab.asked] == ["/v1/nodes/a/stop", "/v1/nodes/b/stop"]
    assert surface.stdout == "a\nb\n"
    lab, _ = ran("nodes", "rm a b")
    assert lab.asked == [("DELETE", "/v1/nodes", {"names": ["a", "b"]})]


def test_swarm_up_says_which_clock_is_running_and_what_is_wrong() -> None:
    lab, surface = ran("swarm", "up --managers 3 --workers 2 --clock fast", POST=STATUS)
    body = {"managers": 3, "workers": 2, "clock": "fast", "hollow": False}
    assert lab.asked == [("POST", "/v1/swarm", body)]
    text = surface.stdout
    assert "docker: a tick is 1 s" in text
    assert "10 to 20 s" in text
    assert "too few managers are up" in text
    assert "manager-1: a full disk" in text


def test_the_raft_table_shows_what_each_manager_believes() -> None:
    down = {**MANAGER, "id": 2, "name": "manager-2", "up": False}
    lost = {"id": 3, "name": "manager-3", "up": False}
    _, surface = ran("raft", "", GET=[MANAGER, down, lost])
    lines = surface.stdout.splitlines()
    assert lines[1].split() == [
        "manager-1", "pre-candidate", "3", "-", "-", "4", "4", "1..5", "3",
    ]  # fmt: skip
    assert lines[2].split()[1] == "down"
    assert "did not come up" in lines[3]


def test_the_clock_is_shown_or_changed() -> None:
    lab, surface = ran("clock", "fast", POST={**STATUS, "clock": "fast", "tick_s": 0.05})
    assert lab.asked == [("POST", "/v1/swarm/clock", {"clock": "fast"})]
    assert surface.stdout.startswith("fast: a tick is 0.05 s")
    with pytest.raises(InvalidParameter):
        ran("clock", "slow")


@pytest.mark.parametrize(
    ("line", "action", "nodes", "amount"),
    [
        ("partition a b", "partition", ["a", "b"], ""),
        ("partition a,b c,d", "partition", ["a,b", "c,d"], ""),
        ("heal", "heal", [], ""),
        ("kill leader", "kill", ["leader"], ""),
        ("slow a b 200ms", "slow", ["a", "b"], "200ms"),
        ("lose a b 30%", "lose", ["a", "b"], "30%"),
        ("clock-skew a 10%", "clock-skew", ["a"], "10%"),
        ("monkey --every 5s", "monkey", [], "5s"),
        ("monkey stop", "monkey", ["stop"], ""),
    ],
)
def test_chaos_as_it_is_typed(line: str, action: str, nodes: list[str], amount: str) -> None:
    done = {"action": action, "nodes": nodes, "amount": amount, "notes": ["be told"]}
    lab, surface = ran("chaos", line, POST=done)
    assert lab.asked == [
        ("POST", "/v1/chaos", {"action": action, "nodes": nodes, "amount": amount})
    ]
    assert surface.stdout == " ".join([action, *nodes, amount]).strip() + "\n"
    assert surface.stderr == "note: be told\n"


def test_the_record_shows_who_did_what_and_what_is_broken() -> None:
    entry = {
        "at": 0,
        "by": "monkey",
        "action": "kill",
        "nodes": ["a"],
        "amount": "",
        "error": "it was down",
        "notes": [],
    }
    wires = [
        {"from": "a", "to": "b", "cut": True, "loss": 0, "delay_ms": 0},
        {"from": "b", "to": "a", "cut": False, "loss": 0.3, "delay_ms": 200},
    ]
    _, surface = ran("chaos", "ls", GET={"log": [entry], "wires": wires, "monkey": "every 5 s"})
    assert "monkey   kill     a       -        it was down" in surface.stdout
    assert "a → b: cut" in surface.stdout
    assert "b → a: loses 30%, 200 ms slower" in surface.stdout
    assert "the monkey is about: every 5 s" in surface.stdout


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_help_asks_nothing_of_the_lab(group: str) -> None:
    lab, surface = ran(group, "--help")
    assert not lab.asked
    assert surface.stdout.startswith(f"Usage:  labkit {group}")


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ("nodes", "frob"),
        ("nodes", "add 0"),
        ("nodes", "rm"),
        ("swarm", "up --managers many"),
        ("chaos", "explode"),
        ("raft", "now"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_way_on(group: str, line: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        ran(group, line)
    assert refused.value.hint

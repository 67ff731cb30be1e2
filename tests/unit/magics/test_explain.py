"""%explain: what was measured, in order, with a reason for each step."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output
from magic_fakes import FakeClient

from labkit.base.errors import NotFound
from labkit.notebook.magics.explain import (
    Recording,
    RecordingClient,
    request_name,
    timeline_state,
)
from labkit.notebook.magics.reasons import REASONS, reason
from labkit.notebook.magics.session import Session

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "unit" / "widgets"))

from view_examples import WEB, namespaces_example, timeline_steps  # noqa: E402


@pytest.mark.skipif(not (ROOT / "native" / "child.c").exists(), reason="native/ is not here")
def test_every_step_the_core_takes_has_a_reason() -> None:
    names: set[str] = set()
    for source in (ROOT / "native").glob("*.c"):
        text = re.sub(r"\s+", " ", source.read_text())
        names |= set(re.findall(r'lk_begin\([^,]+, LK_BY_\w+, "([^"]+)"', text))
    assert len(names) > 15
    assert names <= set(REASONS), names - set(REASONS)


def test_mounts_are_explained_by_what_they_show() -> None:
    assert "pid namespace" in reason("mount /proc", "mount()", "proc")
    assert "terminals" in reason("mount /dev/pts", 'mount("devpts")', "")
    assert reason("something", "else()")


def test_requests_are_named_by_what_they_are_for() -> None:
    for method, path, name in [
        ("POST", "/containers/create", "create the container"),
        ("POST", "/containers/9f/start", "start the container"),
        ("POST", "/exec/9f/start", "start the exec"),
        ("GET", "/images/busybox/json", "look for the image"),
        ("GET", "/version", "ask the daemon"),
    ]:
        assert request_name(method, path) == name
        assert name in REASONS


def test_the_kernel_steps_are_asked_for_right_after_the_start() -> None:
    started: list[str] = []
    inner = FakeClient({("POST", "/containers/9f/start"): None, ("POST", "/images/create"): [1, 2]})
    client = RecordingClient(inner, started.append)
    assert list(client.stream("POST", "/images/create")) == [1, 2]
    client.request("POST", "/containers/9f/start")
    with pytest.raises(NotFound):
        client.request("GET", "/containers/9f/json")
    assert started == ["/containers/9f"]
    assert [call["name"] for call in client.calls] == [
        "pull the image",
        "start the container",
        "look at the container",
    ]
    assert client.calls[-1]["detail"] == "answered 404"


def test_waiting_for_a_long_program_does_not_squeeze_its_start() -> None:
    steps = timeline_steps()
    wait = {**steps[0], "by": "client", "name": "wait for the end", "end_ns": 10**12}
    state = timeline_state("docker run", Recording(calls=[wait], timeline={"steps": steps}))
    assert state["total_us"] < 5000
    assert max(step["start_us"] + step["length_us"] for step in state["steps"]) <= state["total_us"]
    shown = next(step for step in state["steps"] if step["name"] == "wait for the end")
    assert shown["ns"] == 10**12 - steps[0]["start_ns"]


def test_explain_runs_the_command_and_shows_the_timeline(
    shell: Any, docker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeClient(
        {("POST", "/containers/create"): {}, ("POST", "/containers/9f/start"): None}
    )
    lab = FakeClient(
        {
            ("GET", "/v1/views/namespaces"): namespaces_example(),
            ("GET", "/v1/containers/9f/timeline"): {
                "container": {"id": WEB["id"], "name": "web"},
                "image": "busybox",
                "steps": timeline_steps(),
            },
        }
    )
    monkeypatch.setattr(Session, "docker", lambda self: engine)
    monkeypatch.setattr(Session, "lab", lambda self: lab)

    def script(words: Any, client: Any, surface: Any) -> int:
        client.request("POST", "/containers/create", json={})
        client.request("POST", "/containers/9f/start")
        surface.out("hello\n")
        return 0

    docker.script = script
    with capture_output() as captured:
        shell.run_cell("%explain docker run --rm busybox echo hello").raise_error()
    assert captured.stdout == "hello\n"
    assert docker.calls == [["run", "--rm", "busybox", "echo", "hello"]]
    data = captured.outputs[0].data
    assert "clone3()" in data["text/plain"]
    assert "One system call makes the process" in data["text/plain"]
    assert "PID 1 inside" in data["text/plain"]
    assert data["image/svg+xml"].startswith("<svg")
    assert "application/vnd.jupyter.widget-view+json" not in data
    shell.kernel = type("Browser", (), {"_allow_stdin": True})()
    with capture_output() as captured:
        shell.run_cell("%explain docker run --rm busybox echo hello").raise_error()
    assert set(captured.outputs[0].data) >= {
        "application/vnd.jupyter.widget-view+json",
        "image/svg+xml",
        "text/plain",
    }


def test_steps_that_are_known_only_afterwards_are_asked_for_again(
    shell: Any, docker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeClient({("POST", "/exec/e1/start"): "stream"})
    lab = FakeClient({("GET", "/v1/views/namespaces"): namespaces_example()})
    monkeypatch.setattr(Session, "docker", lambda self: engine)
    monkeypatch.setattr(Session, "lab", lambda self: lab)

    def script(words: Any, client: Any, surface: Any) -> int:
        assert client.hijack("/exec/e1/start") == "stream"
        timeline = {"container": {"id": WEB["id"]}, "steps": timeline_steps()}
        lab.answers["GET", "/v1/execs/e1/timeline"] = timeline
        return 0

    docker.script = script
    with capture_output() as captured:
        shell.run_cell("%explain docker exec web true").raise_error()
    text = captured.outputs[0].data["text/plain"]
    assert "execve()" in text
    assert "not known" not in text
    del lab.answers["GET", "/v1/execs/e1/timeline"]
    docker.script = lambda words, client, surface: client.hijack("/exec/e1/start") and 0
    with capture_output() as captured:
        shell.run_cell("%explain docker exec web true").raise_error()
    assert "The kernel's steps are not known" in captured.outputs[0].data["text/plain"]


def test_explain_refuses_what_starts_nothing(shell: Any, docker: Any) -> None:
    for line in ("docker ps", "", "docker run x | cat", "docker run x &"):
        with capture_output() as captured:
            shell.run_cell(f"%explain {line}").raise_error()
        assert "%explain takes one docker command" in captured.stderr
    assert docker.calls == []

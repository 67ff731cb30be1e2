"""A chapter marks what it makes, and takes exactly that away."""

from __future__ import annotations

import os
from typing import Any

import pytest
from IPython.utils.capture import capture_output
from magic_fakes import FakeClient

from labkit.base.errors import Conflict, Unavailable
from labkit.notebook.magics import chapter
from labkit.notebook.magics.session import LabelledClient, Session, chapter_labels

STATUS = {
    "version": "0.1.0",
    "mode": "rootful",
    "pid": 5,
    "home": "/h",
    "docker_socket": "/r/docker.sock",
    "nodes": [],
    "limits": [
        {"name": "memory", "holds": True, "why": ""},
        {"name": "cpu", "holds": False, "why": "no cpu controller"},
    ],
    "images": {"source": "stand-in", "why": "no route"},
}


@pytest.fixture
def lab(shell: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeClient, FakeClient]:
    monkeypatch.delenv("LABKIT_CHAPTER", raising=False)
    web = {"Id": "9f2c", "Names": ["/web"]}
    docker = FakeClient(
        {
            ("GET", "/containers/json"): [web],
            ("DELETE", "/containers/9f2c"): None,
            ("GET", "/volumes"): {"Volumes": [{"Name": "data"}]},
            ("DELETE", "/volumes/data"): Conflict("volume is in use"),
        }
    )
    boxes = [
        {"id": "b1", "name": "mine", "labels": {"labkit.chapter": "01"}},
        {"id": "b2", "name": "other", "labels": {"labkit.chapter": "02"}},
    ]
    lab = FakeClient(
        {("GET", "/v1/status"): STATUS, ("GET", "/v1/boxes"): boxes, ("DELETE", "/v1/boxes/b1"): {}}
    )
    monkeypatch.setattr(Session, "docker", lambda self: docker)
    monkeypatch.setattr(Session, "lab", lambda self: lab)
    yield docker, lab
    os.environ.pop("LABKIT_CHAPTER", None)


def run(shell: Any, cell: str) -> Any:
    with capture_output() as captured:
        shell.run_cell(cell).raise_error()
    return captured


def test_a_chapter_says_in_one_line_what_to_expect(shell: Any, lab: Any) -> None:
    captured = run(shell, "%lab chapter 1")
    text = captured.outputs[0].data["text/plain"]
    assert "\n" not in text
    for phrase in (
        "chapter 01",
        "rootful",
        "limits that hold: memory",
        "not enforced here: cpu",
        "stand-ins",
        "container web",
        "box mine",
        "volume data",
    ):
        assert phrase in text
    assert "other" not in text
    assert os.environ["LABKIT_CHAPTER"] == "01"
    assert chapter_labels() == {"labkit.chapter": "01"}


def test_leaving_removes_what_carries_the_label_and_says_what_it_could_not(
    shell: Any, lab: Any
) -> None:
    run(shell, "%lab chapter 01")
    captured = run(shell, "%lab leave")
    assert captured.stdout == "chapter 01: removed container web; box mine\n"
    assert "volume data was not removed: volume is in use" in captured.stderr
    docker, boxes = lab
    assert ("DELETE", "/containers/9f2c", {"query": {"force": True, "v": True}}) in docker.asked
    assert not [path for _, path, _ in boxes.asked if path.endswith("b2")]
    assert chapter_labels() == {}
    assert run(shell, "%lab leave").stdout.startswith("chapter 01: ")  # the last cell, run twice
    os.environ.pop("LABKIT_CHAPTER_LEFT")


def test_without_a_chapter_there_is_nothing_to_leave(shell: Any, lab: Any) -> None:
    assert "no chapter" in run(shell, "%lab leave").stderr


def test_tidying_up_after_an_earlier_run_does_not_end_the_chapter(shell: Any, lab: Any) -> None:
    run(shell, "%lab chapter 01")
    run(shell, "%lab leave 01")
    assert chapter_labels() == {"labkit.chapter": "01"}
    run(shell, "%lab leave")
    os.environ.pop("LABKIT_CHAPTER_LEFT")


def test_a_lab_that_does_not_answer_is_said_by_the_first_cell(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> Any:
        raise Unavailable("cannot start the lab: no privileges", hint="labkit doctor")

    monkeypatch.setattr(Session, "lab", fail)
    captured = run(shell, "%lab chapter 01")
    assert "cannot start the lab: no privileges" in captured.stderr
    assert captured.outputs[0].data["text/plain"] == "try next: labkit doctor"
    os.environ.pop("LABKIT_CHAPTER", None)


def test_created_objects_carry_the_label_beside_their_own() -> None:
    inner = FakeClient({("POST", "/containers/create"): {}, ("POST", "/build"): []})
    client = LabelledClient(inner, lambda: {"labkit.chapter": "02"})
    client.request("POST", "/containers/create", json={"Image": "x", "Labels": {"a": "b"}})
    client.request("POST", "/containers/create", json={"Image": "x", "Labels": None})
    list(client.stream("POST", "/build", query={"t": "x"}))
    bodies = [arguments for _, _, arguments in inner.asked]
    assert bodies[0]["json"] == {"Image": "x", "Labels": {"labkit.chapter": "02", "a": "b"}}
    assert bodies[1]["json"]["Labels"] == {"labkit.chapter": "02"}
    assert bodies[2]["query"]["labels"] == {"labkit.chapter": "02"}
    assert client.address == inner.address


def test_without_a_chapter_nothing_is_added() -> None:
    inner = FakeClient({("POST", "/containers/create"): {}})
    body = {"Image": "x"}
    LabelledClient(inner, dict).request("POST", "/containers/create", json=body)
    assert inner.asked[0][2]["json"] is body


def test_limits_may_be_plain_words() -> None:
    assert chapter.describe({"mode": "hollow"}) == ["hollow", "limits that hold: none"]
    assert "limits that hold: memory" in chapter.describe({"mode": "x", "limits": ["memory"]})

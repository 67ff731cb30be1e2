"""The notebook's side of a Box, against a lab API that answers from a table."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.base.errors import InvalidParameter, NotFound
from labkit.notebook.course.box import Box, BoxError, Output

HOST = {"uts": 1, "pid": 2, "mnt": 3, "net": 4, "ipc": 5, "cgroup": 6, "user": 7}


class Lab:
    """Plays the lab API: keeps boxes, records operations."""

    def __init__(self) -> None:
        self.boxes: dict[str, dict[str, Any]] = {}
        self.ops: list[tuple[str, dict[str, Any]]] = []
        self.replies: dict[str, dict[str, Any]] = {}
        self.processes: list[dict[str, Any]] = [{"pids": [100]}]

    def json(self, method: str, path: str, *, body: Any = None, query: Any = None) -> Any:
        parts = path.strip("/").split("/")
        if path == "/v1/views/namespaces":
            return {"processes": self.processes}
        if path == "/v1/boxes" and method == "POST":
            identifier = f"b{len(self.boxes)}"
            self.boxes[identifier] = {"id": identifier, "pid": 42, **body}
            return self.boxes[identifier]
        if path == "/v1/boxes":
            return list(self.boxes.values())
        box = self.boxes.get(parts[2])
        if box is None:
            raise NotFound(f"no such box: {parts[2]}")
        if method == "DELETE":
            return self.boxes.pop(parts[2])
        if method == "GET":
            spaces = {**HOST, "uts": 99}
            return {**box, "namespaces": spaces, "host_namespaces": HOST, "cgroup": {}}
        self.ops.append((body["op"], body["args"]))
        default = {"ok": True, "result": {"stdout": "out\n", "stderr": "", "exit_code": 0}}
        return self.replies.get(body["op"], default)


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def box(lab: Lab) -> Box:
    return Box("mine", client=lab)  # type: ignore[arg-type]


def test_a_cell_can_be_run_again_because_a_box_of_that_name_is_closed_first(
    lab: Lab, box: Box
) -> None:
    Box("mine", client=lab)  # type: ignore[arg-type]
    assert [one["name"] for one in lab.boxes.values()] == ["mine"]


def test_a_box_carries_the_label_of_its_chapter(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CHAPTER", "01")
    Box("labelled", client=lab)  # type: ignore[arg-type]
    assert next(iter(lab.boxes.values()))["labels"] == {"labkit.chapter": "01"}


def test_a_text_is_split_like_a_shell_line(lab: Lab, box: Box) -> None:
    assert box.run("echo 'two words'") == "out"
    assert lab.ops[-1][1]["argv"] == ["echo", "two words"]


def test_limits_are_read_as_docker_reads_them(lab: Lab, box: Box) -> None:
    box.cgroup(memory="64m", pids=20, cpus=0.5)
    expected = {"memory_bytes": 64 << 20, "pids": 20, "nano_cpus": 500_000_000}
    assert lab.ops[-1] == ("cgroup", {"limits": expected})
    with pytest.raises(InvalidParameter):
        box.cgroup(memory="lots")


def test_a_refusal_by_the_kernel_is_one_sentence_and_a_hint(lab: Lab, box: Box) -> None:
    lab.replies["unshare"] = {
        "ok": False,
        "error": "unshare(CLONE_NEWUTS): operation not permitted",
        "errno": 1,
        "hint": "a user namespace first",
        "result": {},
    }
    with pytest.raises(BoxError) as caught:
        box.unshare("uts")
    assert caught.value.errno == 1
    assert caught.value._render_traceback_() == [
        "the kernel refused: unshare(CLONE_NEWUTS): operation not permitted",
        "try next: a user namespace first",
    ]


def test_closing_twice_is_no_mistake(box: Box) -> None:
    box.close()
    box.close()
    assert repr(box) == "<Box 'mine': closed>"


def test_a_box_says_what_it_has_of_its_own(box: Box) -> None:
    assert repr(box) == "<Box 'mine' pid 42: own uts>"
    page = box._repr_html_()
    assert "1 of 7 namespaces" in page
    assert page.count("<b>its own</b>") == 1


def test_other_peoples_processes_are_only_counted(lab: Lab, box: Box) -> None:
    lab.replies["run"] = {
        "ok": True,
        "result": {
            "stdout": "1 (systemd) S 0 1\n100 (labkit-anchor) S 1 1\n"
            "555 (secret (thing)) S 1 1\n556 (x) S 1 1\n",
            "stderr": "",
            "exit_code": 0,
        },
    }
    text = box.ps()
    assert "secret" not in text
    assert "labkit-anchor" in text
    assert "2 other processes of this machine" in text


def test_behind_an_old_proc_the_box_stands_with_its_outside_number(lab: Lab, box: Box) -> None:
    lab.processes = [{"pids": [100]}, {"pids": [200, 1]}]
    lab.replies["run"] = {
        "ok": True,
        "result": {
            "stdout": "1 (init) S 0 1\n100 (labkit-anchor) S 1 1\n200 (labkit-box) S 1 1\n",
            "stderr": "",
            "exit_code": 0,
        },
    }
    text = box.ps()
    assert "  200     1 labkit-box" in text
    assert "other processes" not in text


def test_output_is_a_text_with_an_exit_code() -> None:
    assert Output("box\n", "", 0) == "box"
    assert Output("box\n", "", 0).stdout == "box\n"
    assert repr(Output("a\n", "", 0)) == "a"
    assert repr(Output("", "", 0)) == "[no output]"
    assert repr(Output("a\n", "b\n", 3)) == "a\nb\n[exit code 3]"
    assert Output("a\n", "b\n", 3).stderr == "b\n"


def test_a_limit_that_does_not_hold_is_a_warning(
    lab: Lab, box: Box, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.replies["cgroup"] = {"ok": True, "result": {"warnings": ["No memory limit here."]}}
    box.cgroup(memory="64m")
    assert capsys.readouterr().out == "WARNING: No memory limit here.\n"

"""Submissions with a lab of their own: real containers, and attempts to forge what checks see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.notebook.grading.exercise import Exercise
from labkit.notebook.grading.lab import LabFactory
from labkit.notebook.grading.selfcheck import prepare_images

from . import tiny

pytestmark = pytest.mark.namespaces

CHECKS = """
from labkit.notebook.grading.checks import check, expect


@check(title="a container named web runs", points=2)
def web(world):
    found = world.container("web")
    return expect(found.running, expected="running", found=found.state, look="docker ps -a")


@check(title="it says hello", points=1)
def hello(world):
    return expect(world.logs("web") == "hello\\n", expected="hello", found=world.logs("web"))


@check(title="its processes are its own", points=1)
def apart(world):
    mine, host = world.namespaces_of("web"), world.host_namespaces()
    yield expect(mine["pid"] != host["pid"], expected="a pid namespace", found="the host's")
    done = world.exec("web", ["cat", "/proc/1/comm"])
    shell = done.stdout.strip() in ("sh", "sleep")  # ash execs its last command
    yield expect(shell, expected="sh or sleep", found=done.output)
"""

SETTINGS = """
title = "A web of one"
images = ["busybox"]

[limits]
cell_s = 30
total_s = 60
"""

START = "%docker run -d --name web busybox sh -c 'echo hello; sleep 600'"
LOAD = "%load_ext labkit"


@pytest.fixture(scope="module")
def web_exercise(factory: LabFactory, tmp_path_factory: pytest.TempPathFactory) -> Exercise:
    folder = tmp_path_factory.mktemp("exercises") / "08-web"
    folder.mkdir()
    (folder / "checks.py").write_text(CHECKS)
    (folder / "exercise.toml").write_text(SETTINGS)
    (folder / "08-web.ipynb").write_bytes(tiny.as_bytes("# start web"))
    (folder / "data").mkdir()
    (folder / "data" / "note.txt").write_text("given")
    exercise = Exercise.load(folder)
    assert prepare_images(exercise, factory, lambda text: None) == []
    return exercise


def errors(result: Any) -> str:
    return "\n".join(trouble["error"] for trouble in result.troubles)


def test_a_container_made_by_the_notebook_is_seen_from_outside(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade(LOAD, START, "import time; time.sleep(1)", exercise=web_exercise)
    assert (result.status, result.score, result.troubles) == ("ok", 4, [])


def test_files_given_with_an_exercise_stand_beside_the_notebook(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade("assert open('data/note.txt').read() == 'given'", exercise=web_exercise)
    assert (result.status, result.troubles) == ("partial", [])


def test_nothing_made_is_partial_with_zero_and_says_what_was_expected(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade(LOAD, "%docker ps", exercise=web_exercise)
    assert (result.status, result.score) == ("partial", 0)
    assert result.report is not None
    assert result.report["checks"][0]["losses"][0]["expected"] == "a container named web"


def test_an_unknown_image_and_a_terminal_cost_only_their_own_points(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade(
        LOAD,
        "%docker run no-such-image-anywhere true",
        "%docker run -it busybox sh",
        START,
        "import time; time.sleep(1)",
        exercise=web_exercise,
    )
    assert (result.status, result.score) == ("ok", 4)


def test_the_labs_own_records_are_out_of_the_notebooks_reach(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade(
        "import os\n"
        "assert os.listdir(os.environ['LABKIT_HOME']) == []\n"
        "assert 'docker.sock' in os.listdir(os.environ['LABKIT_RUN'])\n"
        "try:\n"
        "    os.unlink(os.environ['LABKIT_RUN'] + '/docker.sock')\n"
        "except OSError: pass\n"
        "else: raise SystemError('removed')",
        exercise=web_exercise,
    )
    assert (result.status, result.troubles) == ("partial", [])


FORGER = """
import subprocess, textwrap
fake = textwrap.dedent('''
    import http.server, json, os, socketserver
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"Id": "f" * 64, "Name": "/web", "Config": {"Image": "busybox"},
                               "State": {"Status": "running", "Running": True}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def address_string(self): return "x"
    class Server(socketserver.UnixStreamServer):
        def get_request(self):
            connection, _ = super().get_request()
            return connection, ("x", 0)
    os.unlink("/run/labkit/docker.sock")
    Server("/run/labkit/docker.sock", Answer).serve_forever()
''')
import sys
%host {sys.executable} -c {fake} &
import time; time.sleep(2)
"""


def test_a_forged_daemon_on_the_same_socket_name_is_not_asked(
    grade: Any, web_exercise: Exercise
) -> None:
    result = grade(LOAD, FORGER, exercise=web_exercise)
    assert result.score in (0, None)


def test_destroying_the_labs_records_from_its_host_earns_nothing(
    grade: Any, web_exercise: Exercise
) -> None:
    wipe = "%host sh -c 'rm -rf /var/lib/labkit/* /run/labkit/* /var/lib/docker/*'"
    result = grade(LOAD, wipe, exercise=web_exercise)
    assert result.score in (0, None)


def test_killing_the_labs_daemon_is_not_a_zero_but_a_persons_decision(
    grade: Any, web_exercise: Exercise
) -> None:
    kill = "%host sh -c 'kill -9 2'"
    result = grade(LOAD, START, kill, "import time; time.sleep(1)", exercise=web_exercise)
    assert result.status in ("not-gradable-here", "ok")
    assert result.score in (None, 4)


def test_the_shared_images_cannot_be_changed_by_a_submission(
    grade: Any, web_exercise: Exercise, factory: LabFactory
) -> None:
    before = sorted(str(path) for path in factory._images.rglob("*"))
    result = grade(
        LOAD,
        "%docker rmi -f busybox",
        "%host sh -c 'rm -rf /var/lib/labkit-images/*; touch /var/lib/labkit-images/mark'",
        exercise=web_exercise,
    )
    assert result.score in (0, None)
    assert sorted(str(path) for path in factory._images.rglob("*")) == before
    again = grade(LOAD, START, "import time; time.sleep(1)", exercise=web_exercise)
    assert again.status == "ok"


def test_two_labs_at_once_do_not_see_each_other(grade: Any, web_exercise: Exercise) -> None:
    from concurrent.futures import ThreadPoolExecutor

    cells = (LOAD, START, "import time; time.sleep(1)")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: grade(*cells, exercise=web_exercise), range(2)))
    assert [(one.status, one.score) for one in found] == [("ok", 4), ("ok", 4)]


def test_the_notebook_of_an_exercise_is_never_written_to(
    grade: Any, web_exercise: Exercise
) -> None:
    before = {path: path.stat().st_mtime_ns for path in web_exercise.folder.rglob("*")}
    grade(LOAD, "open('data/note.txt', 'w').write('changed')", exercise=web_exercise)
    assert {path: path.stat().st_mtime_ns for path in web_exercise.folder.rglob("*")} == before
    assert Path(web_exercise.folder / "data" / "note.txt").read_text() == "given"


def test_the_world_of_a_check_answers_from_the_daemon(
    factory: LabFactory, web_exercise: Exercise
) -> None:
    lab = factory.open(web_exercise)
    try:
        lab.wait_ready()
        for source in (
            LOAD,
            START,
            "%docker run --name gone -e A=1 -m 32m busybox sh -c 'touch /new; exit 3'",
            "import labkit; labkit.answer('key', [1, 2])",
            "box = labkit.Box('jail'); box.unshare('uts'); box.cgroup(memory='32m', pids=20)",
        ):
            outcome = lab.session.run(source, 30)
            assert outcome.ok, outcome.outputs
        world = lab.world(seed=5)
        assert {one.name for one in world.containers()} == {"web", "gone"}
        assert [one.name for one in world.containers(all=False)] == ["web"]
        assert [one.name for one in world.containers(status="exited")] == ["gone"]
        gone = world.container("gone")
        assert (gone.exit_code, gone.env["A"], gone.memory_bytes) == (3, "1", 32 << 20)
        assert {"Path": "/new", "Kind": 1} in world.changes("gone")
        assert world.image("busybox")["RepoTags"] == ["busybox:latest"]
        assert world.top("web")
        events = [one["Action"] for one in world.events(type="container", container="gone")]
        assert events[:2] == ["create", "start"] or "start" in events
        assert "die" in events
        assert [one["state"] for one in world.history("gone")][-1] == "exited"
        assert world.timeline("web")["steps"]
        assert world.status()["version"]
        assert (world.answer("key"), world.seed) == ([1, 2], 5)
        own, host = world.namespaces_of("jail"), world.host_namespaces()
        assert own["uts"] != host["uts"]
        assert own["net"] == host["net"]
        if "memory" in factory.controllers:
            assert world.cgroup("jail")["memory_limit_bytes"] == 32 << 20
        assert world.cgroup("gone")["memory_limit_bytes"] == 32 << 20
        assert [box["name"] for box in world.boxes()] == ["jail"]
        assert world.exec("web", ["sh", "-c", "echo out; echo err >&2; exit 4"]).exit_code == 4
    finally:
        assert lab.close() == []

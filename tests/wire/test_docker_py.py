"""docker-py, which starts without a version, sends filters as lists and takes the raw socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Lab

docker = pytest.importorskip("docker", reason="the docker SDK for Python is not installed")

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def client(clean_lab: Lab) -> Iterator[Any]:
    client = docker.DockerClient(base_url=f"unix://{clean_lab.paths.docker_socket}", timeout=60)
    yield client
    client.close()


def test_run_returns_the_output(client: Any) -> None:
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"


def test_a_failing_command_raises_with_its_code(client: Any) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert caught.value.stderr == b"no\n"


def test_lists_take_filters_as_lists(client: Any) -> None:
    made = client.containers.create("busybox", "true", labels={"colour": "blue"})
    client.containers.create("busybox", "true")
    assert client.containers.list(all=True, filters={"label": ["colour=blue"]}) == [made]


def test_exec_streams_and_exit_codes(client: Any) -> None:
    web = client.containers.run("busybox", ["sleep", "1d"], detach=True)
    assert web.exec_run(["echo", "x"]) == (0, b"x\n")
    assert web.exec_run(["sh", "-c", "echo e >&2; exit 4"], demux=True) == (4, (None, b"e\n"))
    _, stream = web.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
    assert b"".join(stream) == b"1\n2\n"


def test_an_attached_socket_carries_both_directions(client: Any) -> None:
    cat = client.containers.create("busybox", ["cat"], stdin_open=True, tty=True)
    socket = cat.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    cat.start()
    socket._sock.sendall(b"ping\n")
    data = b""
    while data.count(b"ping") < 2:  # the terminal's echo, then cat
        data += socket._sock.recv(100)
    socket._sock.close()
    socket.close()
    cat.kill()


def test_logs_wait_stats_top_and_events(client: Any) -> None:
    quick = client.containers.run("busybox", ["sh", "-c", "echo a; echo b"], detach=True)
    assert quick.wait()["StatusCode"] == 0
    assert quick.logs() == b"a\nb\n"
    assert b"".join(quick.logs(stream=True, follow=True)) == b"a\nb\n"
    slow = client.containers.run("busybox", ["sleep", "1d"], detach=True)
    if client.info()["PidsLimit"]:  # without that controller nobody counts
        assert slow.stats(stream=False)["pids_stats"]["current"] == 1
    assert slow.top()["Processes"]
    events = client.events(decode=True, filters={"container": [slow.id]})
    slow.kill()
    seen = []
    for event in events:
        seen.append(event["Action"])
        if "die" in seen:
            break
    events.close()
    assert seen[0] == "kill"


def test_images_are_objects_with_tags(client: Any) -> None:
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("mine", "v1")
    assert "mine:v1" in client.images.get("mine:v1").tags
    client.images.remove("mine:v1")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("mine:v1")

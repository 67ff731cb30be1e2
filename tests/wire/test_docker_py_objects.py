"""docker-py on volumes, networks, archives and endless streams."""

from __future__ import annotations

import io
import tarfile
import threading
import time
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


def tar_of(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


def test_archives_go_in_and_come_out(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "1d"], detach=True)
    assert box.put_archive("/tmp", tar_of("note", "hello"))
    assert box.exec_run(["cat", "/tmp/note"]).output == b"hello"
    pieces, stat = box.get_archive("/tmp/note")
    assert (stat["name"], stat["size"]) == ("note", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        file = tar.extractfile("note")
        assert file is not None
        assert file.read() == b"hello"
    with pytest.raises(docker.errors.NotFound):
        box.get_archive("/nowhere")
    box.stop(timeout=0)
    assert box.put_archive("/tmp", tar_of("late", "x"))


def test_volumes_are_objects(client: Any) -> None:
    volume = client.volumes.create("kept", labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    assert client.volumes.list(filters={"label": "a=b"}) == [volume]
    mounts = [docker.types.Mount("/d", "kept", read_only=True)]
    with pytest.raises(docker.errors.ContainerError):
        client.containers.run("busybox", ["touch", "/d/f"], mounts=mounts, remove=True)
    volumes = {"kept": {"bind": "/d", "mode": "rw"}}
    client.containers.run("busybox", ["touch", "/d/f"], volumes=volumes, remove=True)
    volume.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("kept")
    assert client.volumes.prune()["VolumesDeleted"] in (None, [])


def test_networks_are_objects(client: Any) -> None:
    network = client.networks.create("meet", driver="bridge")
    one = client.containers.run("busybox", ["sleep", "1d"], detach=True, network="meet", name="one")
    code, _ = one.exec_run(["ping", "-c", "1", "-W", "5", "one"])
    assert code == 0
    network.reload()
    assert one in network.containers
    network.disconnect(one)
    network.connect(one, aliases=["uno"])
    one.remove(force=True)
    network.remove()


def test_a_stream_of_stats_goes_on(client: Any) -> None:
    box = client.containers.run("busybox", ["sleep", "1d"], detach=True)
    stream = box.stats(stream=True, decode=True)
    samples = [next(stream) for _ in range(3)]
    assert all(sample["id"] == box.id for sample in samples)
    assert samples[2]["precpu_stats"]["system_cpu_usage"] > 0
    one = box.stats(stream=False)
    assert one["memory_stats"]["usage"] >= 0
    stream.close()


def test_logs_are_followed_line_by_line(client: Any) -> None:
    script = "for i in 1 2 3; do echo line-$i; sleep 0.1; done"
    box = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    lines = list(box.logs(stream=True, follow=True))
    assert lines == [b"line-1\n", b"line-2\n", b"line-3\n"]
    assert box.logs(tail=1, timestamps=True).endswith(b"Z line-3\n")
    assert box.logs(since=int(time.time()) + 100) == b""


def test_events_arrive_while_they_happen(client: Any) -> None:
    stream = client.events(decode=True, filters={"type": "container", "label": ["x=y"]})
    made: list[str] = []
    worker = threading.Thread(
        target=lambda: made.append(
            client.containers.run("busybox", "true", labels={"x": "y"}, detach=True).id
        )
    )
    worker.start()
    actions = []
    for event in stream:
        actions.append(event["Action"])
        if event["Action"] == "die":
            break
    worker.join()
    stream.close()
    assert actions[0] == "create"
    assert actions[-1] == "die"
    assert "start" in actions


def test_detaching_and_resizing_are_told(client: Any, clean_lab: Lab) -> None:
    box = client.containers.run("busybox", ["cat"], detach=True, tty=True, stdin_open=True)
    box.resize(height=30, width=100)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    socket._sock.sendall(b"\x10\x11")
    wanted = {"attach", "detach", "resize"}
    stream = client.events(
        decode=True, since=1, until=int(time.time()) + 20, filters={"container": [box.id]}
    )
    for event in stream:
        wanted.discard(event["Action"])
        if not wanted:
            break
    stream.close()
    socket.close()
    assert not wanted
    assert clean_lab.ok("inspect", "-f", "{{.State.Running}}", box.id) == "true\n"


def test_commit_import_save_and_load(client: Any) -> None:
    box = client.containers.run("busybox", ["touch", "/made"], detach=True)
    box.wait()
    image = box.commit("mine", tag="1", changes="ENV A=b")
    assert "A=b" in image.attrs["Config"]["Env"]
    data = b"".join(image.save(named=True))
    client.images.remove("mine:1")
    (loaded,) = client.images.load(data)
    assert loaded.tags == ["mine:1"]
    assert client.containers.run("mine:1", ["ls", "/made"], remove=True) == b"/made\n"
    root = b"".join(box.export())
    client.api.import_image_from_data(root, repository="flat", tag="1")
    assert client.containers.run("flat:1", ["/bin/ls", "/made"], remove=True) == b"/made\n"
    box.remove()
    client.images.remove("mine:1")
    client.images.remove("flat:1")

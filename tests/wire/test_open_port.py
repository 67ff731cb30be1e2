"""A container's port for the browser, published or not, through the lab's own API."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

import pytest

from labkit.base.errors import LabkitError
from labkit.notebook.client import LabClient
from labkit.notebook.magics.opening import published_port

from .conftest import Lab

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker client here")


def _docker(lab: Lab, *words: str) -> str:
    done = subprocess.run(
        ["docker", *words], env=lab.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _web(lab: Lab, name: str, *flags: str) -> str:
    """A container that serves its /www on port 80; its id, once it listens."""
    _docker(
        lab, "run", "-d", "--name", name, *flags, "alpine", "sh", "-c",
        f"mkdir /www; echo from {name} > /www/x; exec httpd -f -p 80 -h /www",
    )  # fmt: skip
    _docker(
        lab, "exec", name, "sh", "-c",
        "n=0; until wget -qO- 127.0.0.1/x || [ $n -gt 100 ]; do n=$((n+1)); sleep 0.1; done",
    )  # fmt: skip
    return _docker(lab, "inspect", "-f", "{{.Id}}", name)


@pytest.fixture
def client(lab: Lab) -> LabClient:
    if not _docker(lab, "network", "ls", "-q", "--filter", "name=bridge"):
        pytest.skip("this lab has no networks")
    return LabClient(f"unix://{lab.paths.lab_socket}")


def _forward(client: LabClient, name: str, port: object) -> int:
    answer = client.json("POST", f"/v1/containers/{name}/forward", body={"port": port})
    assert answer["address"] == "127.0.0.1"
    return int(answer["port"])


def _get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=20) as answer:
        return str(answer.read().decode().strip())


def test_an_unpublished_port_can_be_opened(lab: Lab, client: LabClient) -> None:
    _web(lab, "hidden")
    port = _forward(client, "hidden", 80)
    assert _get(port) == "from hidden"
    assert _forward(client, "hidden", 80) == port  # asked twice, opened once
    # Nothing of it is part of the container.
    assert _docker(lab, "port", "hidden") == ""
    _docker(lab, "rm", "-f", "hidden")


def test_a_forward_ends_with_its_container(lab: Lab, client: LabClient) -> None:
    _web(lab, "first")
    _web(lab, "second")
    port = _forward(client, "first", 80)
    _docker(lab, "rm", "-f", "first")
    assert _get(_forward(client, "second", 80)) == "from second"
    with pytest.raises(OSError, match="refused"):
        _get(port)
    _docker(lab, "rm", "-f", "second")


def test_a_port_that_cannot_be_reached_says_why(lab: Lab, client: LabClient) -> None:
    _docker(lab, "run", "-d", "--name", "alone", "--network", "none", "alpine", "sleep", "1000")
    _docker(lab, "create", "--name", "still", "alpine")
    for name, port, sentence in (
        ("alone", 80, "has no address"),
        ("still", 80, "is not running"),
        ("nope", 80, "No such container"),
        ("alone", 0, "1 to 65535"),
        ("alone", "80", "1 to 65535"),
    ):
        with pytest.raises(LabkitError, match=sentence):
            _forward(client, name, port)
    _docker(lab, "rm", "-f", "alone", "still")


def test_a_published_port_is_found_in_the_record() -> None:
    ports = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None}
    found = {"NetworkSettings": {"Ports": ports}}
    assert published_port(found, 80) == 8080
    assert published_port(found, 81) is None
    assert published_port({"NetworkSettings": {}}, 80) is None

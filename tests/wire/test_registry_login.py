"""The real client logs in, pushes, pulls and looks around, against registries that ask who it is.

Both our registry and the reference one are asked; the sentences are those of dockerd 20.10.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from .conftest import ROOT, Lab
from .test_command_parity import _ours


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        assert process.poll() is None, "the registry ended"
        assert time.monotonic() < deadline, "the registry does not answer"
        time.sleep(0.02)


@pytest.fixture(params=["ours", "docker-registry"])
def closed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A registry for ada with sesame; its address."""
    address = f"127.0.0.1:{free_port()}"
    accounts = tmp_path / "htpasswd"
    accounts.write_text(f"ada:{bcrypt.hashpw(b'sesame', bcrypt.gensalt(4)).decode()}\n")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")},
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(accounts),
        "REGISTRY_AUTH_HTPASSWD_REALM": "the lab",
        "REGISTRY_HTTP_ADDR": address,
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(tmp_path / "registry"),
        "PYTHONPATH": str(ROOT),
    }
    if request.param == "ours":
        argv = [sys.executable, "-m", "labkit.daemon.registry_api"]
    else:
        program = shutil.which("docker-registry") or shutil.which("registry")
        if program is None:
            pytest.skip("docker-registry is not installed")
        config = tmp_path / "config.yml"
        config.write_text("version: 0.1\nstorage: {filesystem: {}}\nhttp: {}\n")
        argv = [program, "serve", str(config)]
    process = subprocess.Popen(
        argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_a_closed_registry_opens_to_who_logs_in(lab: Lab, closed: str) -> None:
    name = f"{closed}/me/app"
    for tag in ("1", "2"):
        lab.ok("tag", "busybox", f"{name}:{tag}")
    stranger = lab.docker("push", f"{name}:1")
    assert stranger.returncode == 1
    assert stranger.stdout.startswith(f"The push refers to repository [{name}]")
    assert stranger.stderr.strip() == "no basic auth credentials"
    refused = lab.docker("pull", f"{name}:1")
    assert refused.stderr.strip() == (
        f'Error response from daemon: Head "http://{closed}/v2/me/app/manifests/1": '
        "no basic auth credentials"
    )
    wrong = lab.docker("login", "-u", "ada", "--password-stdin", closed, given="wrong")
    assert wrong.returncode == 1
    assert (
        f"login attempt to http://{closed}/v2/ failed with status: 401 Unauthorized" in wrong.stderr
    )
    assert "Login Succeeded" in lab.ok(
        "login", "-u", "ada", "--password-stdin", closed, given="sesame"
    )
    pushed = lab.ok("push", "-a", name)
    assert pushed.count("digest: sha256:") == 2
    assert "Pushed" in pushed
    assert "Layer already exists" in pushed
    lab.ok("rmi", f"{name}:1", f"{name}:2")
    pulled = lab.ok("pull", "-a", name)
    assert pulled.count("Pulling from me/app") == 2
    assert f"Status: Downloaded newer image for {name}\n" in pulled
    assert lab.ok("image", "inspect", "-f", "{{.Id}}", f"{name}:2") == lab.ok(
        "image", "inspect", "-f", "{{.Id}}", "busybox"
    )
    digest = lab.ok("image", "inspect", "-f", "{{index .RepoDigests 0}}", f"{name}:1").strip()
    pinned = next(word for word in json.loads(lab.ok("image", "inspect", f"{name}:1"))[0][
        "RepoDigests"] if word.startswith(name))  # fmt: skip
    assert digest
    lab.ok("pull", "-q", pinned)
    missing = lab.docker("pull", f"{name}:9")
    assert missing.stderr.strip() == (
        f"Error response from daemon: manifest for {name}:9 not found: "
        "manifest unknown: manifest unknown"
    )
    lab.ok("logout", closed)
    assert lab.docker("pull", f"{name}:1").returncode == 1


def test_the_api_answers_a_login_as_dockerd_does(lab: Lab, closed: str) -> None:
    def ask(**fields: str) -> tuple[int, object]:
        return lab.request("POST", "/auth", {"serveraddress": closed, **fields})

    status, answer = ask(username="ada", password="sesame")
    assert (status, answer) == (200, {"Status": "Login Succeeded", "IdentityToken": ""})
    assert ask(username="ada", password="wrong") == (
        500,
        {"message": f"login attempt to http://{closed}/v2/ failed with status: 401 Unauthorized"},
    )
    assert ask() == (500, {"message": f'Get "http://{closed}/v2/": no basic auth credentials'})
    status, answer = lab.request(
        "POST", "/auth", {"serveraddress": "127.0.0.1:9", "username": "a", "password": "b"}
    )
    assert (status, answer) == (
        500,
        {
            "message": 'Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: '
            "connection refused"
        },
    )


def test_a_build_uses_the_credentials_of_its_registry(
    lab: Lab, closed: str, tmp_path: Path
) -> None:
    lab.ok("tag", "busybox", f"{closed}/base:1")
    lab.ok("login", "-u", "ada", "--password-stdin", closed, given="sesame")
    lab.ok("push", "-q", f"{closed}/base:1")
    lab.ok("rmi", f"{closed}/base:1")
    (tmp_path / "ctx").mkdir()
    (tmp_path / "ctx/Dockerfile").write_text(f'FROM {closed}/base:1\nCMD ["true"]\n')
    assert "Successfully built" in lab.ok("build", str(tmp_path / "ctx"))
    lab.ok("logout", closed)
    lab.ok("rmi", f"{closed}/base:1")
    done = lab.docker("build", "--pull", str(tmp_path / "ctx"))
    assert done.returncode == 1
    assert "no basic auth credentials" in done.stderr


def test_an_image_afar_is_described_without_being_pulled(lab: Lab, closed: str) -> None:
    lab.ok("login", "-u", "ada", "--password-stdin", closed, given="sesame")
    lab.ok("tag", "busybox", f"{closed}/app:1")
    line = lab.ok("push", f"{closed}/app:1").splitlines()[-1]
    digest = line.split()[2]
    status, answer = lab.request("GET", f"/distribution/{closed}/app:1/json")
    assert (status, answer) == (401, {"message": "no basic auth credentials"})
    assert digest.startswith("sha256:")
    status, answer = lab.request("GET", "/distribution/docker.io/library/busybox:latest/json")
    assert status == 200, answer
    assert answer["Descriptor"]["digest"].startswith("sha256:")
    assert answer["Platforms"][0]["os"] == "linux"


def test_search_finds_what_the_catalog_has(lab: Lab) -> None:
    lines = lab.ok("search", "--format", "{{.Name}} {{.IsOfficial}}", "redis").splitlines()
    assert lines[0].startswith("redis")
    assert lab.ok("search", "--format", "{{.Name}}", "nosuchimage") == ""
    assert lab.request("GET", "/images/search?term=nginx&limit=101") == (
        400,
        {"message": "limit 101 is outside the range of [1, 100]"},
    )
    assert lab.request(
        "GET", "/images/search?term=nginx&filters=%7B%22x%22%3A%5B%22y%22%5D%7D"
    ) == (
        400,
        {"message": "invalid filter 'x'"},
    )


def test_several_layers_are_pushed_at_once_and_their_manifest_is_shown_as_docker_shows_it(
    lab: Lab, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(b"ada:sesame").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {closed: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("LABKIT_HOME", str(lab.paths.home))
    monkeypatch.setenv("LABKIT_RUN", str(lab.paths.run))
    name = f"{closed}/me/layers:1"
    steps = "".join(f"RUN echo {number} > /f{number}\n" for number in range(4))
    lab.ok("build", "-q", "-t", name, "-", given=f"FROM busybox\n{steps}")
    code, out, err = _ours(lab, ["push", name], "")
    assert (code, err) == (0, "")
    assert out.count(": Pushed") == 5
    code, out, err = _ours(lab, ["manifest", "inspect", name], "")
    real = subprocess.run(
        ["docker", "manifest", "inspect", "--insecure", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (code, out, err) == (real.returncode, real.stdout, real.stderr)
    assert len(json.loads(out)["layers"]) == 5
    code, _, err = _ours(lab, ["manifest", "inspect", f"{name}x"], "")
    assert (code, err.strip()) == (1, f"no such manifest: {name}x")

"""One private lab for all chapters: its own folders, and nothing of it left afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit.base.errors import LabkitError
from labkit.base.paths import LabPaths
from labkit.notebook.client import Client, LabClient, ensure_daemon

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def private_lab() -> Iterator[LabPaths]:
    """A running lab; LABKIT_HOME and LABKIT_RUN point at it while the tests of this folder run."""
    folder = Path(tempfile.mkdtemp(prefix="lknb", dir="/tmp"))
    paths = LabPaths(folder / "home", folder / "run")
    kept = {name: os.environ.get(name) for name in ("LABKIT_HOME", "LABKIT_RUN", "DOCKER_HOST")}
    os.environ |= {"LABKIT_HOME": str(paths.home), "LABKIT_RUN": str(paths.run)}
    os.environ.pop("DOCKER_HOST", None)
    try:
        paths.prepare()
        ensure_daemon(paths, wait_s=20)
        yield paths
        subprocess.run([sys.executable, "-m", "labkit.cli", "down"], check=True, cwd=ROOT)
        assert not paths.docker_socket.exists()
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(private_lab: LabPaths) -> Iterator[LabPaths]:
    """The private lab, which a chapter must leave as it found it."""
    before = objects(private_lab)
    yield private_lab
    assert objects(private_lab) == before


@contextmanager
def clients(paths: LabPaths) -> Iterator[tuple[Client, LabClient]]:
    """Both APIs of a lab, closed at the end."""
    docker = Client(f"unix://{paths.docker_socket}")
    lab = LabClient(f"unix://{paths.lab_socket}")
    try:
        yield docker, lab
    finally:
        docker.close()
        lab.close()


def objects(paths: LabPaths) -> set[str]:
    """Names of all containers and boxes."""
    with clients(paths) as (docker, lab):
        containers = docker.json("GET", "/containers/json", query={"all": "1"})
        boxes = lab.json("GET", "/v1/boxes")
    return {name for one in containers for name in one["Names"]} | {one["name"] for one in boxes}


def need_images(paths: LabPaths, notebook: Path) -> None:
    """Skip where an image that a notebook is about can neither be pulled nor built here."""
    wanted = {"06-registries": "registry:2"}.get(
        notebook.stem if notebook.suffix else notebook.name
    )
    if wanted is None:
        return
    with clients(paths) as (docker, _):
        try:
            for line in docker.stream("POST", "/images/create", query={"fromImage": wanted}):
                if "error" in line:
                    pytest.skip(f"no {wanted} here: {line['error']}")
        except LabkitError as error:
            pytest.skip(f"no {wanted} here: {error.message}")


def remove_everything(paths: LabPaths) -> None:
    """Exercises leave their containers to the student; the next test must not see them."""
    with clients(paths) as (docker, lab):
        for one in docker.json("GET", "/containers/json", query={"all": "1"}):
            docker.request("DELETE", f"/containers/{one['Id']}", query={"force": "1"})
        for one in lab.json("GET", "/v1/boxes"):
            lab.request("DELETE", f"/v1/boxes/{one['id']}")

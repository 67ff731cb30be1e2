"""Fixtures for tests that need the kernel's overlayfs or real registry programs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.host.image.catalog import Catalog
from labkit.host.image.reference import parse
from labkit.host.image.store import ImageStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    opened = ImageStore(tmp_path / "docker")
    yield opened
    opened.close()


@pytest.fixture
def busybox(store: ImageStore) -> str:
    """The busybox stand-in, tagged; its id."""
    catalog = Catalog()
    entry = catalog.resolve(parse("busybox"))
    assert entry is not None
    image_id = catalog.build(entry, store).image_id
    store.set_tag(parse("busybox"), image_id)
    return image_id


@pytest.fixture
def real_registry(tmp_path: Path) -> Iterator[str]:
    """The distribution project's registry on loopback: its host:port."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")
    }
    with open(tmp_path / "registry.log", "wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(config)], stdout=log, stderr=log, env=environment
        )
    try:
        host, port = address.split(":")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    break
            assert process.poll() is None, (tmp_path / "registry.log").read_text()
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)

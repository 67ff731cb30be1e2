"""A pull that fills the disk ends with an error line and leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths
from labkit.daemon.registry_api.storage import Storage
from labkit.notebook import lifecycle
from labkit.notebook.client import Client, ensure_daemon

from .conftest import ROOT

pytestmark = pytest.mark.root

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def put_image(root: Path, name: str, megabytes: int, *, noise: bool) -> None:
    """An image of one file in a registry's folder: of noise it stays large on its way."""
    storage = Storage(root)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = megabytes << 20
        data = os.urandom(member.size) if noise else bytes(member.size)
        tar.addfile(member, io.BytesIO(data))
    plain = archive.getvalue()
    layer = gzip.compress(plain, 1)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {
                "type": "layers",
                "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()],
            },
        }
    ).encode()
    descriptors = []
    for kind, data in ((CONFIG, config), (LAYER, layer)):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        file = root / "incoming"
        file.write_bytes(data)
        storage.take_in(name, file, digest)
        descriptors.append({"mediaType": kind, "digest": digest, "size": len(data)})
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptors[0],
                "layers": descriptors[1:]}  # fmt: skip
    storage.put_manifest(name, "latest", json.dumps(manifest).encode(), MANIFEST)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Our registry with a small image and two large ones; its address."""
    root = tmp_path / "registry"
    put_image(root, "small", 1, noise=True)
    put_image(root, "noise", 40, noise=True)
    put_image(root, "zeros", 40, noise=False)
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.daemon.registry_api", "--listen", "127.0.0.1:0",
         "--root", str(root)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def small_disk(short_tmp: Path) -> Iterator[LabPaths]:
    """A lab on a disk of 24 MB."""
    if shutil.which("mount") is None:
        pytest.skip("mount is not installed")
    disk = short_tmp / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], check=True)
    paths = LabPaths(disk / "home", short_tmp / "run")
    paths.prepare()
    try:
        ensure_daemon(paths)
        yield paths
        lifecycle.take_down(paths)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("name", ["noise", "zeros"])
def test_a_pull_that_fills_the_disk_ends_with_an_error_line(
    small_disk: LabPaths, registry: str, name: str
) -> None:
    client = Client(f"unix://{small_disk.docker_socket}", timeout_s=60)
    try:

        def pull(word: str) -> list[dict[str, object]]:
            query = {"fromImage": f"{registry}/{word}", "tag": "latest"}
            return list(client.stream("POST", "/images/create", query=query))

        before = shutil.disk_usage(small_disk.home).used
        lines = pull(name)  # the stream itself ends well
        assert "no space left on device" in str(lines[-1].get("error")).lower(), lines[-1]
        assert lines[-1]["errorDetail"] == {"message": lines[-1]["error"]}
        assert not client.json("GET", "/images/json")
        assert shutil.disk_usage(small_disk.home).used - before < 2 << 20
        assert str(pull("small")[-1]["status"]).startswith("Status: Downloaded newer image")
    finally:
        client.close()

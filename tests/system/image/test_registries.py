"""Our pull and push against the registry and the tools that others use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.registry.upload import push
from labkit.host.image.store import ImageStore

ROOT = Path(__file__).parents[3]
OPTIONS = PullOptions(registry=RegistryOptions(mirrors=(), insecure=()))


async def pulled(store: ImageStore, name: str) -> list[Any]:
    return [line async for line in pull(store, name, options=OPTIONS)]


async def pushed(store: ImageStore, name: str) -> list[Any]:
    return [line async for line in push(store, name)]


def skopeo(*arguments: str) -> bytes:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def test_what_we_push_comes_back_with_the_same_digests(
    store: ImageStore, busybox: str, real_registry: str, tmp_path: Path
) -> None:
    name = f"{real_registry}/me/busybox:1"
    store.tag("busybox", name)
    lines = await pushed(store, name)
    assert lines[0] == {"status": f"The push refers to repository [{real_registry}/me/busybox]"}
    assert [line["status"] for line in lines[1:-1] if line["status"] != "Pushing"] == [
        "Preparing",
        "Pushed",
        f"1: digest: {lines[-1]['aux']['Digest']} size: {lines[-1]['aux']['Size']}",
    ]
    assert "Layer already exists" in [line.get("status") for line in await pushed(store, name)]
    other = ImageStore(tmp_path / "other")
    try:
        await pulled(other, name)
        assert other.get(name).id == busybox
        assert other.get(name).repo_digests == (
            f"{real_registry}/me/busybox@{lines[-1]['aux']['Digest']}",
        )
    finally:
        other.close()


async def test_a_blob_of_another_repository_is_mounted(
    store: ImageStore, busybox: str, real_registry: str
) -> None:
    for repository in ("one", "two"):
        store.tag("busybox", f"{real_registry}/{repository}/app")
    await pushed(store, f"{real_registry}/one/app")
    words = [line.get("status") for line in await pushed(store, f"{real_registry}/two/app")]
    assert "Mounted from one/app" in words


async def test_skopeo_agrees_with_every_digest(
    store: ImageStore, busybox: str, real_registry: str, tmp_path: Path
) -> None:
    name = f"{real_registry}/app:1"
    store.tag("busybox", name)
    digest = (await pushed(store, name))[-1]["aux"]["Digest"]
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == digest
    config = skopeo("inspect", "--config", "--raw", "--tls-verify=false", f"docker://{name}")
    assert "sha256:" + hashlib.sha256(config).hexdigest() == busybox
    # Through skopeo to another place, in Docker's own format, and back to us.
    copy = f"{real_registry}/copy:1"
    skopeo(
        "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2",
        f"docker://{name}", f"docker://{copy}",
    )  # fmt: skip
    await pulled(store, copy)
    assert store.get(copy).diff_ids == store.get(busybox).diff_ids


async def test_pushing_what_is_not_here_is_said_in_dockers_words(store: ImageStore) -> None:
    from labkit.base.errors import NotFound

    with pytest.raises(NotFound) as caught:
        await pushed(store, "127.0.0.1:9/none")
    assert str(caught.value) == ("An image does not exist locally with the tag: 127.0.0.1:9/none")


_PULLER = """
import asyncio, sys
from pathlib import Path
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.store import ImageStore

async def main():
    store = ImageStore(Path(sys.argv[1]))
    async for line in pull(store, sys.argv[2], options=PullOptions(offline=sys.argv[3] == "1")):
        print(line.get("status"), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("offline", ["1", "0"])
@pytest.mark.parametrize("lines", [0, 1, 2, 3])
async def test_a_pull_killed_at_any_line_leaves_a_store_that_works(
    store: ImageStore, busybox: str, real_registry: str, tmp_path: Path, offline: str, lines: int
) -> None:
    name = "busybox:latest" if offline == "1" else f"{real_registry}/app:1"
    store.tag("busybox", f"{real_registry}/app:1")
    await pushed(store, f"{real_registry}/app:1")
    root = tmp_path / "killed"
    process = subprocess.Popen(  # noqa: ASYNC220 - it is killed within a few lines
        [sys.executable, "-c", _PULLER, str(root), name, offline],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(lines):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    other = ImageStore(root)
    try:
        for image in other.images():
            assert other.verify(image.id) == []
        assert all(not name.startswith(".tmp") for name in os.listdir(root / "overlay2"))
        if offline == "1":
            [line async for line in pull(other, name, options=PullOptions(offline=True))]
        else:
            await pulled(other, name)
        assert other.verify(name) == []
        assert json.loads(other.blobs.read(busybox))["os"] == "linux"
    finally:
        other.close()

"""Images travel through our registry, and others' tools agree with every digest on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit.host.image.catalog import Catalog
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.reference import parse
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.registry.upload import push
from labkit.host.image.store import ImageStore

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = RegistryOptions(mirrors=(), insecure=(), pause_seconds=0.05)
Tool = Callable[..., str]


async def pushed(store: ImageStore, name: str, options: RegistryOptions = OPTIONS) -> str:
    lines = [line async for line in push(store, name, options=options)]
    digest: str = lines[-1]["aux"]["Digest"]
    return digest


async def pulled(store: ImageStore, name: str, options: RegistryOptions = OPTIONS) -> None:
    async for _ in pull(store, name, options=PullOptions(offline=False, registry=options)):
        pass


def sound(root: Path) -> int:
    """Check a registry's folder: every blob is what its name says, every link leads to one.

    Returns the number of blobs.
    """
    blobs = 0
    base = root / "docker/registry/v2"
    for folder in (base / "blobs/sha256").glob("??/*"):
        data = folder / "data"
        if data.exists():
            assert hashlib.sha256(data.read_bytes()).hexdigest() == folder.name
            blobs += 1
    for link in (base / "repositories").rglob("link"):
        digest = link.read_text()
        assert (base / "blobs/sha256" / digest[7:9] / digest[7:] / "data").exists(), link
    return blobs


async def test_our_image_goes_by_skopeo_through_our_registry_and_back(
    store: ImageStore, busybox: str, our_registry: Any, tmp_path: Path, tool: Tool
) -> None:
    host = our_registry.address
    store.tag("busybox", f"{host}/one:1")
    digest = await pushed(store, f"{host}/one:1")
    tls = ("--src-tls-verify=false", "--dest-tls-verify=false")
    tool("skopeo", "copy", *tls, f"docker://{host}/one:1", f"docker://{host}/two/app:1")
    tool("skopeo", "copy", tls[0], f"docker://{host}/two/app:1", f"oci:{tmp_path}/layout:1")
    tool("skopeo", "copy", tls[1], f"oci:{tmp_path}/layout:1", f"docker://{host}/three:1")
    other = ImageStore(tmp_path / "other")
    try:
        await pulled(other, f"{host}/three:1")
        image = other.get(f"{host}/three:1")
        assert image.id == busybox
        assert image.repo_digests == (f"{host}/three@{digest}",)
        assert other.verify(f"{host}/three:1") == []
    finally:
        other.close()
    raw = tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{host}/three:1")
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == digest
    tags = json.loads(tool("skopeo", "list-tags", "--tls-verify=false", f"docker://{host}/three"))
    assert tags["Tags"] == ["1"]
    tool("skopeo", "delete", "--tls-verify=false", f"docker://{host}/three:1")
    assert "manifest unknown" in tool(
        "skopeo", "inspect", "--tls-verify=false", f"docker://{host}/three:1", check=False
    )
    assert sound(our_registry.root) == 3


@pytest.mark.root
@pytest.mark.parametrize("program", ["podman", "buildah"])
async def test_others_engines_pull_and_push(
    store: ImageStore,
    busybox: str,
    our_registry: Any,
    tmp_path: Path,
    short_tmp: Path,
    tool: Tool,
    program: str,
) -> None:
    host = our_registry.address
    store.tag("busybox", f"{host}/ours:1")
    await pushed(store, f"{host}/ours:1")
    places = ("--root", str(short_tmp / "r"), "--runroot", str(short_tmp / "rr"))
    storage = (*places, "--storage-driver", "vfs")
    tool(program, *storage, "pull", "--tls-verify=false", f"{host}/ours:1")
    tool(
        program, *storage, "push", "--tls-verify=false",
        f"{host}/ours:1", f"docker://{host}/theirs:2",
    )  # fmt: skip
    other = ImageStore(tmp_path / "other")
    try:
        await pulled(other, f"{host}/theirs:2")
        assert other.get(f"{host}/theirs:2").diff_ids == store.get("busybox").diff_ids
        assert other.get(f"{host}/theirs:2").id == busybox
    finally:
        other.close()


async def test_either_registry_serves_what_the_other_has_kept(
    store: ImageStore, busybox: str, our_registry: Any, tmp_path: Path, tool: Tool
) -> None:
    host = our_registry.address
    store.tag("busybox", f"{host}/app:1")
    digest = await pushed(store, f"{host}/app:1")
    assert our_registry.stop() == 0
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {our_registry.root}}}}}\n"
    )
    # `garbage-collect --dry-run` walks all that the reference registry sees in the folder.
    found = tool("docker-registry", "garbage-collect", "--dry-run", str(config))
    assert "app: marking manifest " + digest in found
    assert "0 blobs" in found


_PUSHER = """
import asyncio, sys
from pathlib import Path
from labkit.host.image.registry.upload import push
from labkit.host.image.store import ImageStore

async def main():
    store = ImageStore(Path(sys.argv[1]))
    async for line in push(store, sys.argv[2]):
        print(line.get("status"), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_a_push_killed_at_any_line_is_simply_done_again(
    our_registry: Any, tmp_path: Path, after: int
) -> None:
    name = f"{our_registry.address}/app:1"
    folder = tmp_path / "pushing"
    first = ImageStore(folder)
    entry = Catalog().resolve(parse("busybox"))
    assert entry is not None
    first.set_tag(parse("busybox"), Catalog().build(entry, first).image_id)
    first.tag("busybox", name)
    first.close()
    process = subprocess.Popen(  # noqa: ASYNC220 - it is killed within a few lines
        [sys.executable, "-c", _PUSHER, str(folder), name],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(after):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    sound(our_registry.root)
    again = ImageStore(folder)
    try:
        assert again.verify("busybox") == []
        await pushed(again, name)
        assert again.verify("busybox") == []
    finally:
        again.close()
    assert sound(our_registry.root) == 3


async def test_a_registry_killed_in_the_middle_of_a_push_is_sound_and_goes_on(
    store: ImageStore, busybox: str, our_registry: Any
) -> None:
    name = f"{our_registry.address}/app:1"
    store.tag("busybox", name)
    lines = push(store, name, options=OPTIONS)
    async for line in lines:
        if line.get("status") == "Pushing":
            our_registry.stop(signal.SIGKILL)
            our_registry.start()
            break
    words = [str(line.get("status")) async for line in lines]
    assert any(word.startswith("1: digest: sha256:") for word in words)
    assert sound(our_registry.root) == 3


def test_the_process_says_what_it_cannot_do(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "labkit.daemon.registry_api", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        return done.stderr

    root = ("--root", str(tmp_path / "r"))
    assert "is not [HOST]:PORT" in run("--listen", "nowhere", *root)
    assert "cannot read the password file" in run(
        "--listen", "127.0.0.1:0", *root, "--htpasswd", str(tmp_path / "none")
    )
    assert "cannot use" in run("--listen", "127.0.0.1:0", "--root", "/proc/nothing")

"""Stand-ins: honest, reproducible, quick to say what they are, and pulled in Docker's words."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import LabkitError, NotFound, Unsupported
from labkit.host.image.catalog import STAND_IN_LABEL, Catalog
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.reference import parse
from labkit.host.image.standins import elf, packages
from labkit.host.image.standins.busybox import applets, find_busybox
from labkit.host.image.standins.hello import GREETING
from labkit.host.image.store import ImageStore

OFFLINE = PullOptions(offline=True)
needs_busybox = pytest.mark.skipif(find_busybox() is None, reason="busybox is not installed")


async def lines_of(store: ImageStore, name: str, options: PullOptions = OFFLINE) -> list[Any]:
    return [line async for line in pull(store, name, options=options)]


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is installed is enough here; tests/wire fetches packages, into a folder of its own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))


LARGE = ("httpd", "mariadb", "mysql", "node", "postgres", "python")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in Catalog().names()
    ],
)
def test_a_stand_in_says_what_it_is(store: ImageStore, name: str) -> None:
    catalog = Catalog()
    entry = catalog.resolve(parse(name))
    assert entry is not None
    try:
        built = catalog.build(entry, store)
    except Unsupported as error:
        pytest.skip(error.message)
    image = store.get(built.image_id)
    assert image.labels[STAND_IN_LABEL] == "true"
    assert image.labels["org.labkit.stand-in.of"] == f"docker.io/library/{name}"
    assert image.labels["org.labkit.stand-in.from"]
    assert image.origin == "stand-in"
    steps = store.history(built.image_id)
    assert len(built.layers) == len(image.diff_ids)
    assert steps[-1]["Comment"].startswith("stand-in: ")
    assert steps[-1]["CreatedBy"].startswith("/bin/sh -c #(nop) ADD file:")
    assert steps[0]["CreatedBy"].startswith("/bin/sh -c #(nop)  CMD [")
    assert steps[0]["Size"] == 0


@pytest.mark.parametrize("name", ["busybox", "hello-world", "registry"])
def test_building_twice_gives_the_same_digests(tmp_path: Path, name: str) -> None:
    built = []
    for folder in ("one", "two"):
        store = ImageStore(tmp_path / folder)
        catalog = Catalog()
        entry = catalog.resolve(parse(name))
        assert entry is not None
        try:
            built.append(catalog.build(entry, store))
        except Unsupported as error:
            pytest.skip(error.message)
        finally:
            store.close()
    assert built[0] == built[1]


async def test_a_pull_speaks_as_dockers_does(store: ImageStore) -> None:
    lines = await lines_of(store, "alpine:3.7")
    assert lines[0] == {"status": "Pulling from library/alpine", "id": "3.7"}
    words = [line["status"] for line in lines]
    for word in ("Pulling fs layer", "Download complete", "Pull complete"):
        assert word in words
    assert any(word.startswith("Stand-in: LABKIT_OFFLINE is set") for word in words)
    assert re.fullmatch(r"Digest: sha256:[0-9a-f]{64}", words[-2])
    assert words[-1] == "Status: Downloaded newer image for alpine:3.7"
    assert store.get("alpine:3.7").repo_digests == (f"alpine@{words[-2][8:]}",)
    again = [line["status"] for line in await lines_of(store, "alpine:3.7")]
    assert again[-1] == "Status: Image is up to date for alpine:3.7"
    assert "Pull complete" not in again


async def test_a_pinned_stand_in_is_found_by_its_own_digest_only(store: ImageStore) -> None:
    digest = (await lines_of(store, "busybox"))[-2]["status"][8:]
    lines = await lines_of(store, f"busybox@{digest}")
    assert lines[-1]["status"] == f"Status: Image is up to date for busybox@{digest}"
    with pytest.raises(NotFound, match="manifest unknown"):
        await lines_of(store, "busybox@sha256:" + "0" * 64)


async def test_an_unknown_image_is_denied_in_dockers_words(store: ImageStore) -> None:
    with pytest.raises(NotFound) as caught:
        await lines_of(store, "apline")
    assert str(caught.value) == (
        "pull access denied for apline, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied"
    )
    assert "alpine" in (caught.value.hint or "")


async def test_what_cannot_be_stood_in_for_is_refused_by_name(store: ImageStore) -> None:
    for name in ("mongo:3.7", "centos:7"):
        with pytest.raises(Unsupported) as caught:
            await lines_of(store, name)
        assert caught.value.message.startswith(f"no stand-in for {name.partition(':')[0]} can be")
        assert "load-bundle" in (caught.value.hint or "")


async def test_without_package_or_network_the_next_step_is_named(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "installed_version", lambda _name: None)
    with pytest.raises(Unsupported) as caught:
        await lines_of(store, "redis")
    assert caught.value.message == (
        "cannot build the redis stand-in: redis-server redis-tools is not installed here and "
        "cannot be downloaded: this machine has no apt"
    )
    assert "apt-get install redis-server redis-tools" in (caught.value.hint or "")


async def test_another_host_finds_a_pinned_stand_in_by_building_it(
    store: ImageStore, tmp_path: Path
) -> None:
    digest = (await lines_of(store, "hello-world"))[-2]["status"][8:]
    other = ImageStore(tmp_path / "other")
    try:
        lines = await lines_of(other, f"hello-world@{digest}")
        assert lines[-1]["status"].startswith("Status: Downloaded newer image")
        assert other.get(f"hello-world@{digest}").id == store.get("hello-world").id
    finally:
        other.close()


@pytest.mark.slow
async def test_images_on_one_base_share_its_layer(store: ImageStore) -> None:
    await lines_of(store, "debian")
    try:
        await lines_of(store, "python")
    except Unsupported as error:
        pytest.skip(error.message)
    assert store.get("python").diff_ids[0] == store.get("debian").diff_ids[0]


async def test_a_stand_in_for_another_machine_is_refused(store: ImageStore) -> None:
    with pytest.raises(NotFound, match="no matching manifest for linux/vax"):
        await lines_of(store, "alpine", PullOptions(platform="linux/vax", offline=True))
    for word in ("nonsense//", "a/b/c/d"):
        with pytest.raises(LabkitError, match="invalid platform format"):
            await lines_of(store, "alpine", PullOptions(platform=word, offline=True))


@needs_busybox
def test_applets_are_read_from_the_binary_and_are_one_file(store: ImageStore) -> None:
    path = find_busybox()
    assert path is not None
    names = applets(path.read_bytes())
    assert {"sh", "ls", "ps", "ping", "wget", "top"} <= set(names)
    catalog = Catalog()
    entry = catalog.resolve(parse("busybox"))
    assert entry is not None
    image = store.get(catalog.build(entry, store).image_id)
    root = store.layer_paths(image)[0]
    assert (root / "bin/sh").stat().st_ino == (root / "bin/busybox").stat().st_ino
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert "root:x:0:0:" in (root / "etc/passwd").read_text()


def test_a_file_without_a_table_of_applets_is_not_busybox() -> None:
    with pytest.raises(ValueError, match="no table"):
        applets(b"\0[\0[[\0nothing" * 100)


def test_libraries_are_found_by_reading_headers(tmp_path: Path) -> None:
    shell = Path("/bin/sh").resolve()
    program = elf.read_program(shell)
    if program is None or not program.needed:
        pytest.skip("/bin/sh is no dynamic ELF program here")
    libraries, missing = elf.closure([shell])
    assert not missing
    assert any("libc" in path.name for path in libraries)
    assert Path(program.interpreter) in libraries
    for junk in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 200, b"#!/bin/sh\n"):
        (tmp_path / "junk").write_bytes(junk)
        assert elf.read_program(tmp_path / "junk") is None


def test_the_compiled_greeting_is_the_scripts() -> None:
    source = (Path(__file__).parents[3] / "native/hello.c").read_text()
    body = source[source.index("greeting[] =") : source.index(";\n\nint main")]
    text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', body))
    assert text.encode().decode("unicode_escape") == GREETING

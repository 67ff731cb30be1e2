"""The table of the course's images, and images that were carried here in a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from labkit.base.errors import LabkitError
from labkit.host.image import bundles
from labkit.host.image.course import course_images, to_carry
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.reference import parse
from labkit.host.image.registry.settings import certificate_folders
from labkit.host.image.store import ImageStore
from labkit.notebook.imagesets import catalog_page

ROOT = Path(__file__).parents[3]
OFFLINE = PullOptions(offline=True)


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))


async def lines_of(store: ImageStore, name: str) -> list[Any]:
    return [line async for line in pull(store, name, options=OFFLINE)]


def test_the_page_in_docs_is_what_the_command_prints() -> None:
    table = {"images": [asdict(one) for one in course_images()]}
    page = (ROOT / "notebooks/images.md").read_text(encoding="utf-8")
    assert page == catalog_page(table), "write it again: labkit images catalog --markdown"


def test_every_image_of_the_course_is_something_or_refused_with_a_sentence() -> None:
    for one in course_images():
        assert one.kind in ("stand-in", "built", "refused")
        assert one.what
    assert "nginx:1.25" in to_carry()
    assert "mongo:3.7" not in to_carry()


async def test_an_image_of_a_bundle_comes_back_after_it_was_removed(
    store: ImageStore, tmp_path: Path
) -> None:
    await lines_of(store, "hello-world")
    image = store.get("hello-world")
    # As on another machine: a name that no catalog can build.
    store.tag("hello-world", "mongo:3.7")
    digest = bundles.keep(store, "mongo:3.7")
    assert bundles.kept() == ["mongo:3.7"]
    for name in ("mongo:3.7", "hello-world"):
        store.remove(name, force=True, prune=True, in_use=lambda _id: [])
    assert store.images() == []
    words = [line["status"] for line in await lines_of(store, "mongo:3.7")]
    assert words[-1] == "Status: Downloaded newer image for mongo:3.7"
    assert any(word.startswith("Bundle: LABKIT_OFFLINE is set; this image comes") for word in words)
    again = store.get("mongo:3.7")
    assert (again.id, again.repo_digests) == (image.id, (f"mongo@{digest}",))
    assert store.verify("mongo:3.7") == []
    assert (await lines_of(store, "mongo:3.7"))[-1]["status"].startswith("Status: Image is up")


async def test_a_damaged_bundle_is_never_unpacked(store: ImageStore, tmp_path: Path) -> None:
    await lines_of(store, "hello-world")
    store.tag("hello-world", "mongo:3.7")
    bundles.keep(store, "mongo:3.7")
    entry = bundles.find(parse("mongo:3.7"))
    assert entry is not None
    for name in ("mongo:3.7", "hello-world"):
        store.remove(name, force=True, prune=True, in_use=lambda _id: [])
    blob = tmp_path / "home/catalog/blobs" / entry["layers"][0]["digest"][7:]
    data = blob.read_bytes()
    blob.unlink()
    assert bundles.find(parse("mongo:3.7")) is None  # not whole: as if it were not there
    blob.write_bytes(data[:-1] + b"?")
    with pytest.raises(LabkitError, match="does not match digest"):
        await lines_of(store, "mongo:3.7")
    assert store.images() == []


def test_certificates_are_looked_for_in_the_lab_first(tmp_path: Path) -> None:
    assert certificate_folders()[0] == tmp_path / "home/etc/certs.d"

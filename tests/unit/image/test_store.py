"""The image store: names, Docker's JSON, Docker's rules for removal, and what a crash leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from trees import members

from labkit.base.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from labkit.host.image.entry import Entry
from labkit.host.image.snapshots import Snapshotter
from labkit.host.image.store import ImageStore

MakeImage = Callable[..., str]
BASE = members((Entry("base"), b"base"))
TOP = members((Entry("top"), b"top!"))
C1, C2 = "1" * 64, "2" * 64


def test_an_image_is_found_by_name_tag_id_and_prefix(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "app:1", layers=[BASE])
    for name in ("app:1", "library/app:1", image_id, image_id[7:], image_id[7:15], image_id[:20]):
        assert store.get(name).id == image_id
    assert store.get("app:1").repo_tags == ("app:1",)


def test_an_unknown_image_is_named_as_docker_names_it(store: ImageStore) -> None:
    with pytest.raises(NotFound, match=r"^No such image: alpine:latest$"):
        store.get("alpine")
    with pytest.raises(NotFound, match=r"^No such image: abc123:latest$"):
        store.get("abc123")
    with pytest.raises(InvalidParameter, match="invalid reference format"):
        store.get("a b")


def test_a_name_is_preferred_to_an_id_that_begins_alike(
    store: ImageStore, make_image: MakeImage
) -> None:
    first = make_image(store, layers=[BASE])
    prefix = first[7:11]
    second = make_image(store, f"{prefix}:latest", layers=[TOP])
    assert store.get(prefix).id == second


def test_a_tag_moves_and_leaves_the_old_image_dangling(
    store: ImageStore, make_image: MakeImage
) -> None:
    old = make_image(store, "app", layers=[BASE])
    new = make_image(store, "app", layers=[TOP])
    assert store.get("app").id == new
    assert [image.id for image in store.images(filters={"dangling": ["true"]})] == [old]
    assert store.summary(store.get(old))["RepoTags"] == []


def test_a_digest_reference_cannot_be_a_tag(store: ImageStore, make_image: MakeImage) -> None:
    make_image(store, "app", layers=[BASE])
    with pytest.raises(InvalidParameter, match="refusing to create a tag with a digest reference"):
        store.tag("app", "x@sha256:" + "a" * 64)


def test_inspect_says_what_docker_says(store: ImageStore, make_image: MakeImage) -> None:
    image_id = make_image(
        store, "app:1", layers=[BASE, TOP], Cmd=["sh"], Labels={"a": "b"}, Env=["X=1"]
    )
    found = store.inspect("app:1")
    assert found["Id"] == image_id
    assert found["Config"]["Cmd"] == ["sh"]
    assert found["Config"]["Entrypoint"] is None
    assert found["Size"] == 8
    assert found["RootFS"]["Type"] == "layers"
    bottom, top = (diff_id[7:] for diff_id in found["RootFS"]["Layers"])
    data = found["GraphDriver"]["Data"]
    assert found["GraphDriver"]["Name"] == "overlay2"
    assert data["LowerDir"] == f"/var/lib/docker/overlay2/{bottom}/diff"
    assert data["UpperDir"] == f"/var/lib/docker/overlay2/{top}/diff"
    assert data["MergedDir"] == f"/var/lib/docker/overlay2/{top}/merged"


def test_history_is_newest_first_and_pulled_steps_are_missing(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "app", layers=[BASE, TOP])
    steps = store.history("app")
    assert [step["Id"] for step in steps] == [image_id, "<missing>"]
    assert [step["CreatedBy"] for step in steps] == ["step 1", "step 0"]
    assert [step["Size"] for step in steps] == [4, 4]
    assert [step["Tags"] for step in steps] == [["app:latest"], None]


def test_filters_select_as_docker_does(store: ImageStore, make_image: MakeImage) -> None:
    make_image(store, "old:1", layers=[BASE], created="2020-01-01T00:00:00Z", Labels={"k": "v"})
    make_image(store, "me/new:2", "new:3", layers=[TOP], created="2024-01-01T00:00:00Z")

    def names(**filters: list[str]) -> list[str]:
        return sorted(tag for image in store.images(filters=filters) for tag in image.repo_tags)

    assert names(reference=["old"]) == ["old:1"]
    assert names(reference=["*:3"]) == ["new:3"]
    assert names(reference=["*/*"]) == ["me/new:2"]
    assert names(label=["k=v"]) == ["old:1"]
    assert names(label=["k=w"]) == []
    assert names(before=["me/new:2"]) == ["old:1"]
    assert names(since=["old:1"]) == ["me/new:2", "new:3"]
    assert names(until=["2021-01-01"]) == ["old:1"]
    assert names(dangling=["true"]) == []
    with pytest.raises(InvalidParameter, match="invalid filter 'bogus'"):
        names(bogus=["1"])
    with pytest.raises(InvalidParameter, match=r"invalid filter 'dangling=\[maybe\]'"):
        names(dangling=["maybe"])


# -- removal -------------------------------------------------------------------------------


def test_removing_the_last_name_deletes_image_and_layers(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "app", layers=[BASE, TOP])
    records = store.remove("app")
    assert records[0] == {"Untagged": "app:latest"}
    assert records[1] == {"Deleted": image_id}
    assert len(records) == 4
    assert not list(store.blobs.all())
    assert not os.listdir(store.layers.folder)


def test_removing_one_of_two_names_only_untags(store: ImageStore, make_image: MakeImage) -> None:
    make_image(store, "app:1", "app:2", layers=[BASE])
    assert store.remove("app:1") == [{"Untagged": "app:1"}]
    assert store.get("app:2")


def test_a_shared_layer_stays_for_the_other_image(store: ImageStore, make_image: MakeImage) -> None:
    make_image(store, "one", layers=[BASE])
    two = make_image(store, "two", layers=[BASE, TOP])
    deleted = [record for record in store.remove("two") if "Deleted" in record]
    assert deleted[0] == {"Deleted": two}
    assert len(deleted) == 2
    assert (store.layer_paths(store.get("one"))[0] / "base").read_text() == "base"


def test_an_image_in_use_is_refused_by_name_with_dockers_sentence(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "app", layers=[BASE])
    with pytest.raises(Conflict) as caught:
        store.remove("app", in_use=lambda _: [C1])
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "app" (must force) - '
        f"container 111111111111 is using its referenced image {image_id[7:19]}"
    )
    assert store.get("app")


def test_force_by_name_untags_what_a_running_container_keeps(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "app", layers=[BASE])
    use = {"in_use": lambda _: [C1], "running": lambda _: [C1]}
    assert store.remove("app", force=True, **use) == [{"Untagged": "app:latest"}]
    assert store.get(image_id).is_dangling


@pytest.mark.parametrize(
    ("running", "force", "sentence"),
    [
        (False, False, r"\(must be forced\) - image is being used by stopped container 1{12}"),
        (True, False, r"\(cannot be forced\) - image is being used by running container 1{12}"),
        (True, True, r"\(cannot be forced\) - image is being used by running container 1{12}"),
    ],
)
def test_removal_by_id_is_refused_while_containers_exist(
    store: ImageStore, make_image: MakeImage, running: bool, force: bool, sentence: str
) -> None:
    image_id = make_image(store, "app", layers=[BASE])
    with pytest.raises(Conflict, match=rf"unable to delete {image_id[7:19]} {sentence}"):
        store.remove(
            image_id[7:19],
            force=force,
            in_use=lambda _: [C1],
            running=lambda _: [C1] if running else [],
        )
    assert store.get("app").repo_tags == ("app:latest",)


def test_removal_by_id_of_an_image_in_two_repositories_must_be_forced(
    store: ImageStore, make_image: MakeImage
) -> None:
    image_id = make_image(store, "one", "two", layers=[BASE])
    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        store.remove(image_id)
    assert {"Untagged": "two:latest"} in store.remove(image_id, force=True)


def test_a_parent_is_kept_for_its_child_and_goes_with_it(
    store: ImageStore, make_image: MakeImage
) -> None:
    parent = make_image(store, layers=[BASE])
    child = make_image(store, "app", layers=[BASE, TOP], parent=parent)
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images"):
        store.remove(parent, force=True)
    deleted = [record["Deleted"] for record in store.remove("app") if "Deleted" in record]
    assert child in deleted
    assert parent in deleted


def test_prune_takes_dangling_images_and_with_all_unused_ones(
    store: ImageStore, make_image: MakeImage
) -> None:
    old = make_image(store, "app", layers=[BASE])
    new = make_image(store, "app", layers=[TOP])
    report = store.prune()
    assert {"Deleted": old} in report["ImagesDeleted"]
    assert report["SpaceReclaimed"] == 4
    assert store.prune()["ImagesDeleted"] is None
    kept = store.prune(filters={"dangling": ["false"]}, in_use=lambda _: [C1])
    assert kept["ImagesDeleted"] is None
    report = store.prune(filters={"dangling": ["false"]})
    assert {"Deleted": new} in report["ImagesDeleted"]
    assert store.images() == []


# -- crashes, damage, sharing --------------------------------------------------------------


def test_what_a_crash_left_half_done_is_gone_at_the_next_start(
    tmp_path: Path, make_image: MakeImage
) -> None:
    root = tmp_path / "docker"
    store = ImageStore(root)
    make_image(store, "app", layers=[BASE])
    layer = store.layers.unpack(__import__("io").BytesIO(TOP), None)  # of no image
    (root / "overlay2/.tmp-half/diff").mkdir(parents=True)
    (root / "blobs/ingest/half").write_bytes(b"half")
    (root / "blobs/sha256" / ("a" * 64)).write_bytes(b"nobody's")
    os.rename(
        root / "overlay2" / layer.diff_id[7:], root / "overlay2" / f"{layer.diff_id[7:]}-removing"
    )
    store.close()
    store = ImageStore(root)
    try:
        assert store.get("app").size == 4
        assert os.listdir(root / "overlay2") == [store.get("app").diff_ids[0][7:]]
        assert not os.listdir(root / "blobs/ingest")
        assert len(list(store.blobs.all())) == 1
    finally:
        store.close()


def test_a_root_has_one_owner(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "docker")
    try:
        with pytest.raises(Conflict, match="in use by another process"):
            ImageStore(tmp_path / "docker")
    finally:
        store.close()


def test_a_damaged_config_is_noticed(tmp_path: Path, make_image: MakeImage) -> None:
    store = ImageStore(tmp_path / "docker")
    image_id = make_image(store, "app", layers=[BASE])
    store.close()
    path = tmp_path / "docker/blobs/sha256" / image_id[7:]
    path.write_bytes(path.read_bytes().replace(b"linux", b"minix"))
    store = ImageStore(tmp_path / "docker")
    try:
        assert store.verify.__doc__
        with pytest.raises(SystemFailure, match="damaged on disk"):
            store.get("app")
    finally:
        store.close()


def test_a_shared_store_gives_images_and_layers_in_place(
    tmp_path: Path, make_image: MakeImage
) -> None:
    lender = ImageStore(tmp_path / "lender")
    make_image(lender, "app", layers=[BASE])
    lender.close()
    store = ImageStore(tmp_path / "docker", shared=[tmp_path / "lender"])
    try:
        image = store.get("app")
        assert store.layer_paths(image)[0].is_relative_to(tmp_path / "lender")
        spec = Snapshotter(store).prepare(C1, image)
        assert spec.lowers[-1].is_relative_to(tmp_path / "lender")
        Snapshotter(store).remove(C1)
        store.remove("app")
        assert store.images() == []
    finally:
        store.close()
    assert list((tmp_path / "lender/overlay2").glob("*/diff/base"))
    store = ImageStore(tmp_path / "docker", shared=[tmp_path / "lender"])
    try:
        assert store.images() == []  # removed once means removed
    finally:
        store.close()


def test_a_shared_store_on_a_read_only_folder_can_be_read(
    tmp_path: Path, make_image: MakeImage
) -> None:
    lender = ImageStore(tmp_path / "lender")
    make_image(lender, "app", layers=[BASE])
    lender.close()  # what is still in its journal could not be read without writing
    shutil.copytree(tmp_path / "lender", tmp_path / "copy")
    subprocess.run(["chmod", "-R", "a-w", tmp_path / "copy"], check=True)
    store = ImageStore(tmp_path / "docker", shared=[tmp_path / "copy"])
    try:
        assert store.get("app").size == 4
    finally:
        store.close()
        subprocess.run(["chmod", "-R", "u+w", tmp_path / "copy"], check=True)


def test_a_layer_that_is_not_what_its_config_says_is_refused(store: ImageStore) -> None:
    import io

    with pytest.raises(SystemFailure, match="does not match its diff-id"):
        store.layers.unpack(io.BytesIO(BASE), "sha256:" + "0" * 64)


def test_a_removed_images_layers_stay_for_its_container(
    store: ImageStore, make_image: MakeImage
) -> None:
    make_image(store, "app", layers=[BASE])
    shots = Snapshotter(store)
    spec = shots.prepare(C1, store.get("app"))
    store.remove("app", force=True, in_use=lambda _: [C1])
    assert (spec.lowers[-1] / "base").exists()
    shots.remove(C1)
    assert not spec.lowers[-1].exists()

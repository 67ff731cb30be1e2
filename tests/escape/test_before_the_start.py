"""Escapes that begin in what is decided before a process exists: who it is, where things lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from isolation_kit import Host

from labkit.base.errors import InvalidParameter
from labkit.base.paths import LabPaths
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.users import resolve_user
from labkit.host.isolation.spec import Mount, RootSpec


@pytest.fixture
def files(tmp_path: Path) -> RootFiles:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\n"
        "1000:x:2000:2000::/:/bin/sh\n"
        "wrapped:x:4294967296:0::/:/bin/sh\n"
        "negative:x:-1:0::/:/bin/sh\n"
        "short:x:0\n"
    )
    (root / "etc/group").write_text("root:x:0:\n")
    return RootFiles(RootSpec(path=root))


@pytest.mark.parametrize(
    "user",
    ["0x0", "-1", "+0", " 0", "0 ", "\u0660", "1e3", "99999999999", "wrapped", "negative", "short"],
)
def test_a_user_that_is_neither_name_nor_number_is_nobody(files: RootFiles, user: str) -> None:
    """CVE-2026-30892 class: what looks like a number becomes no other one, least of all 0."""
    with pytest.raises(InvalidParameter):
        resolve_user(files, user)


@pytest.mark.parametrize("group", ["0:0", "-1", " 0", "\u0660", "99999999999", "nogroup"])
def test_a_group_is_parsed_as_strictly(files: RootFiles, group: str) -> None:
    with pytest.raises(InvalidParameter):
        resolve_user(files, f"0:{group}")


def test_a_name_that_looks_like_a_number_is_a_name(files: RootFiles) -> None:
    assert resolve_user(files, "1000").uid == 2000


def test_the_labs_folders_are_closed_to_others(lab_paths: LabPaths) -> None:
    """CVE-2021-41091: a student of the machine must not walk into a container's root."""
    assert lab_paths.home.stat().st_mode & 0o077 == 0
    assert lab_paths.run.stat().st_mode & 0o077 == 0


def test_a_volume_is_not_filled_from_the_machine_through_a_link(tmp_path: Path) -> None:
    """CVE-2022-23648: an image declares a volume where it has put a link to the outside."""
    root, outside, volume = tmp_path / "root", tmp_path / "outside", tmp_path / "volume"
    for folder in (root, outside, volume):
        folder.mkdir()
    (outside / "secret").write_text("secret")
    (root / "data").symlink_to(outside)
    (root / "climbing").symlink_to("../outside")
    for name in ("/data", "/climbing", "/../outside", "/data/../../outside"):
        RootFiles(RootSpec(path=root)).copy_folder(name, volume)
    assert list(volume.iterdir()) == []


async def test_a_mount_point_that_climbs_lands_inside(host: Host, image: Path) -> None:
    """CVE-2022-23648: the same volume's place in the container."""
    source = host.folder / "volume"
    source.mkdir()
    (source / "mine").write_text("mine")
    mount = Mount("bind", "/../../../escaped", source=str(source), create="dir")
    found = await host.sh("cat /escaped/mine", lower=image, extra_mounts=(mount,))
    assert found.stdout == "mine"
    assert "escaped" not in os.listdir("/")

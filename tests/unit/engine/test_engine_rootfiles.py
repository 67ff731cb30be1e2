"""Looking into a container's layers, also when the image is hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.engine.rootfiles import RootFiles
from labkit.host.engine.users import resolve_user
from labkit.host.isolation.spec import RootSpec


@pytest.fixture
def root(tmp_path: Path) -> RootSpec:
    for name in ("upper", "top", "base", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "base/etc").mkdir()
    (tmp_path / "base/etc/passwd").write_text("root:x:0:0::/root:\nana:x:7:8::/home/ana:\n")
    (tmp_path / "base/etc/group").write_text("staff:x:50:ana\n")
    return RootSpec(
        lowers=(tmp_path / "top", tmp_path / "base"),
        upper=tmp_path / "upper",
        work=tmp_path / "work",
    )


def test_the_topmost_file_wins(root: RootSpec) -> None:
    assert root.upper is not None
    files = RootFiles(root)
    assert resolve_user(files, "ana").uid == 7
    (root.upper / "etc").mkdir()
    (root.upper / "etc/passwd").write_text("ana:x:99:8::/elsewhere:\n")
    found = resolve_user(files, "ana")
    assert (found.uid, found.home, found.groups) == (99, "/elsewhere", (50,))


def test_cannot_read_the_machines_passwd_through_a_link_in_the_image(
    root: RootSpec, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("evil:x:0:0::/:\n")
    passwd = root.lowers[1] / "etc/passwd"
    for target in (str(tmp_path / "secret"), "../../../../../.." + str(tmp_path / "secret")):
        passwd.unlink()
        passwd.symlink_to(target)
        with pytest.raises(InvalidParameter, match="unable to find user evil"):
            resolve_user(RootFiles(root), "evil")


def test_a_fifo_for_passwd_does_not_hang_the_start(root: RootSpec) -> None:
    passwd = root.lowers[1] / "etc/passwd"
    passwd.unlink()
    os.mkfifo(passwd)
    assert resolve_user(RootFiles(root), "12:13").gid == 13


def test_a_missing_folder_is_made_in_the_upper_layer_with_what_lies_above(root: RootSpec) -> None:
    assert root.upper is not None
    (root.lowers[0] / "srv").mkdir(mode=0o700)
    (root.lowers[0] / "srv").chmod(0o711)
    RootFiles(root).ensure_directory("/srv/a/b")
    assert (root.upper / "srv/a/b").is_dir()
    assert (root.upper / "srv").stat().st_mode & 0o777 == 0o711
    assert not (root.lowers[0] / "srv/a").exists()


def test_a_folder_that_exists_below_is_left_alone(root: RootSpec) -> None:
    assert root.upper is not None
    RootFiles(root).ensure_directory("/etc")
    assert not (root.upper / "etc").exists()


def test_cannot_make_a_folder_outside_through_a_link(root: RootSpec, tmp_path: Path) -> None:
    assert root.upper is not None
    (tmp_path / "outside").mkdir()
    (root.lowers[1] / "way").symlink_to(tmp_path / "outside")
    RootFiles(root).ensure_directory("/way/made")
    assert not list((tmp_path / "outside").iterdir())
    assert (root.upper / str(tmp_path / "outside").lstrip("/") / "made").is_dir()


@pytest.mark.parametrize("path", ["/etc/passwd/x", "/loop/x"])
def test_a_path_through_a_file_or_a_loop_is_refused(root: RootSpec, path: str) -> None:
    (root.lowers[1] / "loop").symlink_to("loop")
    with pytest.raises(InvalidParameter, match="mkdir"):
        RootFiles(root).ensure_directory(path)


def test_a_fresh_volume_gets_the_merged_folder_with_modes_and_links(
    root: RootSpec, tmp_path: Path
) -> None:
    (root.lowers[1] / "data").mkdir()
    (root.lowers[1] / "data/old").write_text("base")
    (root.lowers[1] / "data/both").write_text("base")
    (root.lowers[0] / "data/sub").mkdir(parents=True)
    (root.lowers[0] / "data").chmod(0o750)
    (root.lowers[0] / "data/both").write_text("top")
    (root.lowers[0] / "data/both").chmod(0o4755)
    (root.lowers[0] / "data/link").symlink_to("/etc/passwd")
    target = tmp_path / "volume"
    target.mkdir()
    RootFiles(root).copy_folder("/data", target)
    assert (target / "old").read_text() == "base"
    assert (target / "both").read_text() == "top"
    assert (target / "both").stat().st_mode & 0o7777 == 0o4755
    assert os.readlink(target / "link") == "/etc/passwd"
    assert (target / "sub").is_dir()
    assert target.stat().st_mode & 0o777 == 0o750

"""A lab's folders belong to its owner alone, and its sockets fit into an address."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from labkit.base.errors import SystemFailure
from labkit.base.paths import LabPaths


def test_the_folders_are_closed_to_others(short_tmp: Path) -> None:
    paths = LabPaths(short_tmp / "home", short_tmp / "run")
    paths.prepare()
    for folder in (paths.home, paths.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_left_open_is_closed_again(short_tmp: Path) -> None:
    (short_tmp / "home").mkdir(mode=0o755)
    LabPaths(short_tmp / "home", short_tmp / "run").prepare()
    assert stat.S_IMODE((short_tmp / "home").stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_folder_is_refused(short_tmp: Path) -> None:
    (short_tmp / "elsewhere").mkdir()
    (short_tmp / "run").symlink_to(short_tmp / "elsewhere")
    with pytest.raises(SystemFailure, match="not a folder owned by you"):
        LabPaths(short_tmp / "home", short_tmp / "run").prepare()


def test_a_run_folder_too_long_for_a_socket_is_refused_by_name(short_tmp: Path) -> None:
    with pytest.raises(SystemFailure, match="too long for a unix socket") as caught:
        LabPaths(short_tmp / "home", short_tmp / ("r" * 90)).prepare()
    assert caught.value.hint is not None


def test_a_second_lab_gets_sockets_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_RUN", raising=False)
    monkeypatch.setenv("LABKIT_HOME", "/srv/one")
    one = LabPaths.from_environment()
    monkeypatch.setenv("LABKIT_HOME", "/srv/two")
    assert LabPaths.from_environment().run != one.run

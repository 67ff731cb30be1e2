"""Ranges of subordinate ids are read as subuid(5) describes."""

from __future__ import annotations

from pathlib import Path

from labkit.host.isolation.idmap import subordinate_ranges


def test_only_the_users_own_well_formed_lines_count(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("ann:100000:65536\nbob:1:2\nann:x:3\n\nann:300000:10\nann:5:0\n")
    assert subordinate_ranges("uid", user="ann", file=file) == [(100000, 65536), (300000, 10)]


def test_no_file_is_no_range(tmp_path: Path) -> None:
    assert subordinate_ranges("uid", user="ann", file=tmp_path / "none") == []

"""The grader's own folder: gone at the end, and gone after a killed grader's next run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from labkit.notebook.grading.workfolder import WorkFolder

_MAKER = """
import pathlib, sys, time
from labkit.notebook.grading.workfolder import WorkFolder
work = WorkFolder(pathlib.Path(sys.argv[1]))
print(work.path, flush=True)
time.sleep(600)
"""


def test_a_folder_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    (work.path / "1").mkdir()
    work.close()
    assert not list(tmp_path.iterdir())


def test_a_killed_graders_folder_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        theirs = Path(maker.stdout.readline().strip())
        mine = WorkFolder(tmp_path)
        assert theirs.is_dir()
        mine.close()
        maker.kill()
        maker.wait()
    mine = WorkFolder(tmp_path)
    assert not theirs.exists()
    mine.close()


def test_a_link_with_the_name_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").touch()
    (tmp_path / "labkit-grade-link").symlink_to(elsewhere)
    WorkFolder(tmp_path).close()
    assert elsewhere.is_dir()

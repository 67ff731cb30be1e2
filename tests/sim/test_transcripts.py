"""Stories about Raft, played again: what happens is what is written.

`pytest tests/sim/test_transcripts.py --rewrite` writes down what happens now; read the diff, and
commit it only when every line of it is understood.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.stage import play

STORIES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=[path.stem for path in STORIES])
def test_the_story_goes_as_it_is_told(path: Path, request: pytest.FixtureRequest) -> None:
    played = play(path)
    if request.config.getoption("--rewrite", default=False):
        path.write_text(played, encoding="utf-8")
    assert played == path.read_text(encoding="utf-8")


def test_there_are_stories() -> None:
    assert len(STORIES) >= 7

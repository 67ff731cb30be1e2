"""Our docker command line does what the real client was recorded doing: output, code, requests."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands_world import world
from record_transcripts import lines, questions, without

from labkit.notebook.client import Client
from labkit.notebook.commands.docker import main
from labkit.notebook.commands.surface import BufferSurface

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).with_name("transcripts.json")).read_text(encoding="utf-8")
)
# What the client asks beside the point: a wait that `run -d` drops at once.
SUPERFLUOUS = {"run -d alpine", "run --rm -d alpine"}


@pytest.fixture(autouse=True)
def _as_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The zone, the configuration and the minute of the recording."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_API_VERSION", "C"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "words", "given"), lines(), ids=[line[:70] for line, _, _ in lines()]
)
def test_the_line_does_what_the_real_client_did(
    line: str,
    words: list[str],
    given: str,
    short_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = RECORDED["lines"][line]
    monkeypatch.setattr(
        "labkit.notebook.commands.docker.rows.time.time", lambda: RECORDED["recorded_at"]
    )
    engine = world()
    surface = BufferSurface(
        stdin=io.BytesIO(given.encode()), answers=[given.strip()] if given else None
    )
    with engine.serving(short_tmp / "docker.sock") as address:
        client = Client(address)
        code = main(words, client=client, surface=surface, cwd=short_tmp)
        client.close()
    assert (code, surface.stdout, surface.stderr) == (
        expected["code"],
        expected["out"],
        expected["err"],
    )
    asked = questions(engine.requests)
    for item in asked:
        if item[1] == "/containers/create":
            item[3] = without(item[3], RECORDED["create"])
    wanted = expected["asked"]
    if line in SUPERFLUOUS:
        wanted = [item for item in wanted if not item[1].endswith("/wait")]
    if "logs --since 5m" in line:  # a moment that passes
        wanted, asked = ([[*item[:2]] for item in side] for side in (wanted, asked))
    assert json.loads(json.dumps(asked)) == wanted


def test_every_recorded_line_is_still_asked() -> None:
    assert set(RECORDED["lines"]) - {"create alpine"} <= {line for line, _, _ in lines()}

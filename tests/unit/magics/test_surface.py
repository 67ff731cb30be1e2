"""What a cell shows of a pull, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.notebook.magics.layers import LayerBars
from labkit.notebook.magics.surface import NotebookSurface

PULL = [
    {"status": "Pulling from library/busybox", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "9758c28807f2"},
    {
        "status": "Downloading",
        "progressDetail": {"current": 500, "total": 2000},
        "id": "9758c28807f2",
    },
    {"status": "Pull complete", "progressDetail": {}, "id": "9758c28807f2"},
    {"status": "Digest: sha256:abc"},
    {"status": "Status: Downloaded newer image for busybox:latest"},
]


def test_a_pull_has_one_bar_per_layer_and_dockers_text() -> None:
    bars = LayerBars()
    for message in PULL[:3]:
        bars.feed(message)
    assert bars.html().count("role='progressbar'") == 1
    assert "aria-valuenow='25'" in bars.html()
    for message in PULL[3:]:
        bars.feed(message)
    assert "aria-valuenow='100'" in bars.html()
    lines = bars.text.splitlines()
    assert lines[0] == "latest: Pulling from library/busybox"
    assert "9758c28807f2: Pull complete" in lines
    assert lines[-1] == "Status: Downloaded newer image for busybox:latest"


def test_hostile_names_are_escaped() -> None:
    bars = LayerBars()
    bars.feed({"status": "<script>", "id": "'><b>"})
    assert "<script>" not in bars.html()
    assert "<b>" not in bars.html()


def test_progress_is_one_output_updated_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[tuple[str, str | None, bool]] = []

    def display(
        text: str, html: str | None = None, *, name: Any = None, update: bool = False
    ) -> None:
        shown.append((text, name, update))

    surface = NotebookSurface(display=display)
    for message in PULL:
        surface.progress(message)
    surface.out("after\n")
    surface.close()
    assert [update for _, _, update in shown] == [False] + [True] * (len(shown) - 1)
    assert len({name for _, name, _ in shown}) == 1
    assert shown[-1][0].endswith("Downloaded newer image for busybox:latest\n")
    assert capsys.readouterr().out == "after\n"


def test_a_kept_pull_is_text() -> None:
    surface = NotebookSurface(keep=True, display=lambda *_, **__: pytest.fail("shown"))
    for message in PULL:
        surface.progress(message)
    surface.close()
    assert "9758c28807f2: Pull complete" in surface.result(0)


def test_two_pulls_are_two_outputs() -> None:
    names: list[Any] = []
    surface = NotebookSurface(display=lambda *_, name=None, **__: names.append(name))
    for message in [*PULL]:
        surface.progress(message)
    surface.out("")
    for message in [*PULL]:
        surface.progress(message)
    surface.close()
    assert len(set(names)) == 2

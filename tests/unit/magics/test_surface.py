"""What a cell shows of a pull, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.base.errors import CommandError
from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.layers import LayerBars
from labkit.notebook.magics.surface import NotebookSurface
from labkit.notebook.magics.tables import table_html

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


def test_a_builds_words_are_text_and_its_steps_one_bar(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[tuple[str | None, bool]] = []
    surface = NotebookSurface(
        display=lambda _, html=None, *, name=None, update=False: shown.append((html, update))
    )
    words = ["Step 1/2 : FROM a\n", " ---> 1\n", "Step 2/2 : RUN b\n", "Successfully built 2\n"]
    for word in words:
        surface.progress({"stream": word})
    surface.close()
    assert capsys.readouterr().out == "".join(words)
    assert [update for _, update in shown] == [False, True, True]
    found = [str(html) for html, _ in shown]
    assert "step 1 of 2" in found[0]
    assert "aria-valuenow='50'" in found[1]
    assert "aria-valuenow='100'" in found[2]


def test_a_password_is_asked_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda question: f"[{question}]")
    assert NotebookSurface(can_ask=lambda: True).ask_secret("Password: ", flag="-p") == (
        "[Password: ]"
    )
    with pytest.raises(CommandError) as caught:
        NotebookSurface().ask_secret("Password: ", flag="--password-stdin")
    assert "--password-stdin" in caught.value.hint


def test_a_listing_is_sortable_and_its_cells_are_only_text() -> None:
    table = Table(("NAME", "SIZE"), [("<b>", "2MB"), ('"', "1kB")], "text\n")
    html = table_html(table)
    assert html.count("<button type='button'>") == 2
    assert "<b>" not in html
    assert "onclick=" in html
    assert "<button" not in table_html(Table(("NAME",), [("one",)], "text\n"))

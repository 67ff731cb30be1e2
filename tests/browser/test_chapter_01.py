"""Chapter 01 as a student sees it: opened in JupyterLab and run from top to bottom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHAPTER = Path(__file__).parents[2] / "notebooks" / "01-what-is-a-container.ipynb"
ALL_DONE = (
    "() => { const cells = window.jupyterapp.shell.currentWidget.content.widgets"
    ".filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());"
    " return cells.every(cell => cell.model.executionCount !== null)"
    " && cells.every(cell => cell.promptNode?.textContent !== '[*]:'); }"
)


@pytest.mark.skipif(not CHAPTER.exists(), reason="chapter 01 is not here")
def test_chapter_01_runs_and_its_namespaces_view_is_on_the_screen(
    notebook: Callable[..., Any], tmp_path: Path
) -> None:
    # The last cell takes everything away again; it is run when the picture has been looked at.
    document = json.loads(CHAPTER.read_text())
    last = max(n for n, c in enumerate(document["cells"]) if "%lab leave" in "".join(c["source"]))
    tidying = "".join(document["cells"].pop(last)["source"])
    shortened = tmp_path / "chapter.ipynb"
    shortened.write_text(json.dumps(document))

    page = notebook("chapter-01.ipynb", shortened)
    page.run_all()
    page.page.wait_for_function(ALL_DONE, timeout=120_000)
    assert page.errors() == []
    view = page.page.locator(".lkn").first
    view.scroll_into_view_if_needed()
    container = view.locator(".lkn-card[aria-label='container sleeper']")
    container.wait_for(timeout=30_000)
    text = view.inner_text()
    assert "host default" in text
    assert "labkitd" in text
    assert "sleep 600" in text
    for kind in ("mnt", "pid", "ipc", "uts", "net", "cgroup"):
        tile = container.locator(f".lkn-tile[data-key$='/{kind}']")
        assert "its own" in tile.get_attribute("aria-label")
        assert view.locator(f".lkn-tile[data-key='host/{kind}']").count() == 1
    page.shoot(".lkn", "chapter-01-namespaces.png")
    page.shoot(".jp-Notebook", "chapter-01.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkn", "chapter-01-namespaces-dark.png")
    page.theme("JupyterLab Light")

    page.execute(tidying)
    container.wait_for(state="detached", timeout=15_000)
    assert page.problems == []

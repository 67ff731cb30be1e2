"""The layers view in a real JupyterLab: it draws, it is live, the keyboard reaches everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BUILD = """%%docker build -q -t {tag} -
FROM busybox
RUN mkdir /app && echo secret > /app/key && head -c 200000 /dev/zero > /app/data
RUN rm /app/key && echo {word} > /app/word
CMD ["sleep", "1d"]"""
ROW = ".lky-row[data-path='{path}']"


def test_the_layers_view_follows_a_container_that_writes(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "layers.ipynb",
        [
            "%load_ext labkit\n%lab chapter 04",
            BUILD.format(tag="shelf:1", word="one"),
            BUILD.format(tag="shelf:2", word="two"),
            "%docker run -d --name web shelf:1",
            "%lab view layers web shelf:2",
        ],
    )
    page.run_all()
    view = page.page.locator(".lky")
    gone = view.locator(ROW.format(path="/app/key"))
    gone.wait_for()
    assert "deleted by layer 3" in gone.inner_text()
    assert "the lowest 2 layers are the same" in view.locator(".lky-cmp").inner_text()

    # Live: a file that is touched lights up in the container's own layer.
    page.execute("%docker exec web sh -c 'echo more >> /app/word; echo new > /app/new'")
    fresh = view.locator(ROW.format(path="/app/new"))
    fresh.wait_for(timeout=15_000)
    assert "layer 5" in fresh.get_attribute("aria-label")
    assert "copied up from layer 3" in page.page.evaluate(
        "() => { document.querySelector('.lky-layer.own').click();"
        " return document.querySelector('.lky-more').textContent; }"
    )
    page.shoot(".lky", "layers-light.png")
    view.locator(".lky-layer.own").click()

    # With the keyboard alone: down to a folder, open it, and read what a row says.
    tree = view.locator(".lky-tree")
    tree.focus()
    for key in ("Home", "ArrowDown", "ArrowLeft"):
        page.page.keyboard.press(key)
    assert view.locator(".lky-row.at").get_attribute("data-path")
    page.page.keyboard.press("Home")
    assert "/app" in view.locator(".lky-say").inner_text()
    view.locator("[data-key=layer2]").click()
    assert "diff-id" in view.locator(".lky-more").inner_text()
    page.theme("JupyterLab Dark")
    page.shoot(".lky", "layers-dark.png")
    page.execute("%docker rm -f web")
    page.execute("%docker rmi -f shelf:1 shelf:2")
    assert page.errors() == []
    assert page.problems == []

"""Views and panels in a real JupyterLab: they draw, they live, their buttons work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

QUOTES = """%docker run -d --name quotes busybox \\
    sh -c 'i=0; while :; do i=$((i+1)); echo quote $i; sleep 0.3; done'"""
CONFINED = (
    "--memory 64m --pids-limit 20 --cap-drop ALL --cap-add CHOWN --security-opt no-new-privileges"
)
TILE = ".lkn-card[aria-label='container web'] [data-key$='/{kind}']"


def test_the_namespaces_view_draws_a_running_container_and_follows_it(
    notebook: Callable[..., Any],
) -> None:
    page = notebook(
        "views.ipynb",
        [
            "%load_ext labkit\n%lab chapter 01",
            "%docker run -d --name web busybox sleep 1d",
            "%lab view namespaces",
        ],
    )
    page.run_all()
    view = page.page.locator(".lkn")
    view.locator(".lkn-card[aria-label='container web']").wait_for()
    assert view.locator(TILE.format(kind="pid")).get_attribute("class").find("own") >= 0
    assert "sleep 1d" in view.inner_text()
    assert "host default" in view.inner_text()
    page.shoot(".lkn", "namespaces-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkn", "namespaces-dark.png")
    page.theme("JupyterLab Light")

    # Live: a second container appears without any cell drawing the view again.
    page.execute("%docker run -d --name second busybox sleep 1d")
    view.locator(".lkn-card[aria-label='container second']").wait_for(timeout=15_000)
    page.execute("%docker rm -f web second")
    view.locator(".lkn-card[aria-label='container web']").wait_for(state="detached", timeout=15_000)
    assert page.errors() == []
    assert page.problems == []


def test_what_holds_a_container_unfolds_and_answers(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "confinement.ipynb",
        [
            "%load_ext labkit\n%lab chapter 03",
            f"%docker run -d --name jail {CONFINED} busybox sleep 1d",
            "%lab view namespaces",
        ],
    )
    page.run_all()
    card = page.page.locator(".lkn-card[aria-label='container jail']")
    card.locator("summary").click()
    card.locator(".lkn-caps li.held").first.wait_for()
    assert card.locator(".lkn-caps li.held").all_inner_texts() == ["CHOWN"]
    card.locator("input").fill("mount")
    card.locator("input").press("Enter")
    card.locator(".lkn-verdict b.no").wait_for(timeout=15_000)
    assert "CAP_SYS_ADMIN" in card.locator(".lkn-verdict").inner_text()
    page.shoot(".lkn", "confinement-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkn", "confinement-dark.png")
    page.execute("%docker rm -f jail")
    assert page.errors() == []
    assert page.problems == []


def test_a_tile_turns_over_when_a_box_unshares(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "box.ipynb",
        [
            "%load_ext labkit\nfrom labkit import Box\nbox = Box('mine')",
            "%lab view namespaces",
        ],
    )
    page.run_all()
    tile = page.page.locator(".lkn-card[aria-label='box mine'] [data-key$='/uts']")
    tile.wait_for()
    assert "the host" in tile.get_attribute("aria-label")
    page.execute("box.unshare('uts')")
    page.page.wait_for_function(
        "() => document.querySelector(\".lkn-card[aria-label='box mine'] [data-key$='/uts']\")"
        "?.getAttribute('aria-label').includes('its own')",
        timeout=15_000,
    )
    # With the keyboard alone: the tile says who is in its namespace.
    tile.focus()
    assert "box mine (1 process) and nobody else" in page.page.locator(".lkn-say").inner_text()
    page.shoot(".lkn", "box-uts.png")
    page.execute("box.close()")
    assert page.errors() == []


def test_explain_draws_the_timeline(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "explain.ipynb",
        ["%load_ext labkit", "%explain docker run --rm busybox echo hello"],
    )
    page.run_all()
    page.page.locator(".lkt-row").first.wait_for()
    text = page.page.locator(".lkt").inner_text()
    assert "create namespaces" in text
    assert "pivot_root" in text
    page.page.locator(".lkt-row", has_text="pivot_root").click()
    assert "no way back" in page.page.locator(".lkt-why").inner_text()
    page.shoot(".lkt", "timeline-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkt", "timeline-dark.png")
    page.theme("JupyterLab Light")
    assert page.errors() == []


def test_the_lifecycle_view_and_a_live_panel_with_its_stop_button(
    notebook: Callable[..., Any],
) -> None:
    page = notebook(
        "life.ipynb",
        [
            "%load_ext labkit",
            QUOTES,
            "%lab view lifecycle",
            "%docker logs -f quotes &",
            "%docker ps",
        ],
    )
    page.run_all()
    panel = page.page.locator(".lkp")
    panel.wait_for()
    page.page.wait_for_function(
        "() => /quote [5-9]/.test(document.querySelector('.lkp pre')?.textContent ?? '')",
        timeout=20_000,
    )
    page.shoot(".lkp", "panel.png")
    panel.locator("button").click()
    page.page.wait_for_function(
        "() => /stopped|ended/.test(document.querySelector('.lkp-state')?.textContent ?? '')",
        timeout=20_000,
    )
    table = page.page.locator("table.lk-table")
    assert "quotes" in table.inner_text()
    page.shoot("table.lk-table", "ps.png")

    life = page.page.locator(".lkl")
    assert "quotes" in life.inner_text()
    page.execute("%docker stop -t 0 quotes")
    life.locator(".lkl-row", has_text="Exited (137)").wait_for(timeout=15_000)
    life.locator(".lkl-row", has_text="quotes").click()
    page.shoot(".lkl", "lifecycle.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkl", "lifecycle-dark.png")
    page.theme("JupyterLab Light")
    page.execute("%docker rm -f quotes")
    page.page.wait_for_function(
        "() => !document.querySelector('.lkl-list')?.textContent.includes('quotes')",
        timeout=15_000,
    )
    assert page.errors() == []


def test_the_events_view_and_the_stats_chart_are_live(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "events.ipynb",
        [
            "%load_ext labkit",
            "%docker run -d --name story busybox sleep 1d",
            "%lab view events",
            "%docker ps -a --format 'table {{.Names}}\\t{{.State}}'",
            "%docker stats",
        ],
    )
    page.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    charts = page.page.locator(".lk-charts svg")
    charts.first.wait_for()
    page.page.wait_for_function(
        "() => /story \\d/.test(document.querySelector('.lk-charts svg')?.ariaLabel ?? '')",
        timeout=20_000,
    )
    page.shoot(".lk-charts", "stats.png")
    page.page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.interrupt()"
    )
    page.page.locator("text=the kernel lives on").wait_for()
    view = page.page.locator(".lke")
    view.locator("g[role=button][aria-label*='story: start']").wait_for()
    page.execute("%docker rm -f story")
    view.locator("g[role=button][aria-label*='story: destroy']").wait_for(timeout=15_000)
    # With the keyboard alone: a dot says its whole event.
    view.locator("g[role=button][aria-label*='story: die']").first.focus()
    page.page.keyboard.press("Enter")
    assert "exit code 137" in view.locator(".lke-say").inner_text()
    view.locator("summary").click()
    assert "destroy" in view.locator("table").inner_text()
    page.shoot(".lke", "events.png")
    assert page.problems == []


def test_the_mounts_view_draws_places_and_containers(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "mounts.ipynb",
        [
            "%load_ext labkit\n%lab chapter 07",
            "%docker run -d --name shop -v orders:/data -v /cache --tmpfs /run busybox sleep 1d",
            "%docker run -d --name audit -v orders:/audit:ro busybox sleep 1d",
            "%lab view mounts",
        ],
    )
    page.run_all()
    view = page.page.locator(".lkd")
    place = view.locator("[data-id='volume:orders']")
    place.wait_for()
    place.focus()
    assert view.locator("path.same").count() == 2
    page.shoot(".lkd", "mounts-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkd", "mounts-dark.png")
    page.execute("%lab leave 07")
    place.wait_for(state="detached", timeout=15_000)
    assert page.errors() == []
    assert page.problems == []

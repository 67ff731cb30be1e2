"""The Raft view in a real JupyterLab: stories in both directions, a swarm that is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_a_story_is_stepped_in_both_directions(notebook: Callable[..., Any]) -> None:
    page = notebook("raft.ipynb", ["%load_ext labkit", "%lab view raft split-vote at=155"])
    page.run_all()
    view = page.page.locator(".lkr")
    servers = view.locator(".lkr-node")
    servers.nth(4).wait_for()
    assert "S1: candidate, term 1, voted for S1" in servers.nth(0).get_attribute("aria-label")
    page.shoot(".lkr", "raft-split-vote-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkr", "raft-split-vote-dark.png")
    page.theme("JupyterLab Light")

    at = view.locator("input[type=range]")
    view.locator("button", has_text="Next election").click()
    assert "stands for election" in view.locator(".lkr-say").inner_text()
    there = int(at.input_value())
    assert there > 155
    before = [one.get_attribute("aria-label") for one in servers.all()]
    servers.nth(0).press("ArrowLeft")
    assert int(at.input_value()) < there
    servers.nth(0).press("ArrowRight")
    assert int(at.input_value()) == there
    assert [one.get_attribute("aria-label") for one in servers.all()] == before
    assert view.locator("[data-act=propose]").is_disabled()
    assert "recorded" in view.locator(".why").inner_text()

    # Another story and size, chosen in the picture; played for a moment, then stopped.
    view.locator("select").nth(0).select_option("latency")
    view.locator(".lkr-title", has_text="How long a decision takes").wait_for()
    view.locator("select").nth(1).select_option("9")
    page.page.wait_for_function("() => document.querySelectorAll('.lkr-node').length === 9")
    view.locator("button.main").click()
    page.page.wait_for_function(
        "() => Number(document.querySelector('.lkr input[type=range]').value) > 20"
    )
    view.locator("button.main").click()
    at.fill("700")
    assert "step 700 of" in view.locator(".lkr-when").inner_text()
    page.shoot(".lkr", "raft-latency-light.png")
    assert page.errors() == []
    assert page.problems == []


def test_a_live_swarm_is_broken_with_a_click(notebook: Callable[..., Any]) -> None:
    page = notebook(
        "swarm.ipynb",
        [
            "%load_ext labkit",
            "%swarm up --managers 5 --clock fast --hollow",
            "%lab view raft",
        ],
    )
    page.run_all()
    view = page.page.locator(".lkr")
    leader = view.locator(".lkr-node[aria-label*=': leader']")
    leader.wait_for(timeout=60_000)
    name = leader.get_attribute("aria-label").partition(":")[0]
    view.locator("input[type=text]").fill("milk")
    view.locator("[data-act=propose]").click()
    view.locator(".lkr-done", has_text="Committed: 'milk'").wait_for(timeout=15_000)

    leader.locator(".lkr-off").click()
    old = view.locator(f".lkr-node[aria-label^='{name}: down']")
    old.wait_for(timeout=15_000)
    leader.wait_for(timeout=30_000)
    assert not leader.get_attribute("aria-label").startswith(name)
    page.shoot(".lkr", "raft-live-light.png")
    page.theme("JupyterLab Dark")
    page.shoot(".lkr", "raft-live-dark.png")
    old.focus()
    old.press("r")
    view.locator(f".lkr-node[aria-label^='{name}: follower']").wait_for(timeout=30_000)
    page.execute("%swarm down")
    assert page.errors() == []
    assert page.problems == []

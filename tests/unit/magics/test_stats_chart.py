"""The live chart of `docker stats`: every sample is drawn, and the text stays the client's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.statschart import SAMPLES, StatsChart
from labkit.notebook.magics.surface import NotebookSurface


def _table(**containers: tuple[str, str]) -> Table:
    records = [
        {"Name": name, "CPUPerc": cpu, "MemUsage": f"{memory} / 2GiB"}
        for name, (cpu, memory) in containers.items()
    ]
    rows = [(r["Name"], r["CPUPerc"], r["MemUsage"]) for r in records]
    return Table(("NAME", "CPU %", "MEM USAGE / LIMIT"), rows, "the client's text\n", records)


def _charts(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html)]


def test_both_charts_say_the_newest_values_in_words() -> None:
    chart = StatsChart()
    chart.feed(_table(web=("0.00%", "1MiB"), hog=("10.00%", "3MiB")))
    chart.feed(_table(web=("12.50%", "1.5MiB"), hog=("200.10%", "1GiB")))
    cpu, memory = _charts(chart.html())
    assert cpu.get("aria-label") == "CPU %: web 12.5%; hog 200.1%"
    assert memory.get("aria-label") == "memory: web 1.5MiB; hog 1GiB"
    assert chart.text == "the client's text\n"


def test_a_container_that_ends_leaves_the_chart_when_its_line_has_passed() -> None:
    chart = StatsChart()
    chart.feed(_table(web=("1.00%", "1MiB"), gone=("1.00%", "1MiB")))
    chart.feed(_table(web=("1.00%", "1MiB")))
    assert "gone ended" in str(_charts(chart.html())[0].get("aria-label"))
    for _ in range(SAMPLES):
        chart.feed(_table(web=("--", "--")))
    assert "gone" not in chart.html()


def test_names_are_only_text() -> None:
    chart = StatsChart()
    chart.feed(_table(**{"<b>'": ("1.00%", "1MiB")}))
    assert "<b>" not in chart.html()
    _charts(chart.html())


def test_where_nobody_could_stop_it_a_listing_is_shown_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown: list[Any] = []
    alone = NotebookSurface(display=lambda text, *_, **__: shown.append(text))
    assert alone.refresh(_table(web=("1.00%", "1MiB"))) is False
    assert shown[0] == "the client's text\n"
    watched = NotebookSurface(can_ask=lambda: True, display=lambda *_, **__: None)
    assert watched.refresh(_table(web=("1.00%", "1MiB"))) is True
    kept = NotebookSurface(keep=True, can_ask=lambda: True)
    assert kept.refresh(_table(web=("1.00%", "1MiB"))) is False

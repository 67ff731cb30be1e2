"""`docker stats` in a cell: two small charts that grow with every sample, and the client's table.

Drawn as SVG inside the output itself, so it lives while the cell runs, wherever HTML is shown;
the text beside it is what Docker's client prints. A line is told by its dashes and the name at its
end as well as by its colour.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from html import escape

from labkit.base.quantities import format_binary_size
from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.style import OKABE_ITO, with_style
from labkit.notebook.magics.tables import table_html

__all__ = ["StatsChart"]

SAMPLES = 60
_WIDTH, _HEIGHT, _PLOT, _LEFT = 440, 150, 280, 54
_TOP, _BOTTOM = 26, 128
_LINES_MAX = 8
_COLOURS = [OKABE_ITO[name] for name in ("blue", "orange", "green", "vermillion", "purple", "sky")]
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5", "1 4")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([\d.]+)([KMGT]?i?B)")


def _percent(text: str) -> float | None:
    try:
        return float(text.rstrip("%"))
    except ValueError:
        return None  # "--": it does not run


def _bytes(text: str) -> float | None:
    match = _SIZE.match(text)
    return float(match.group(1)) * _UNITS[match.group(2)] if match else None


class StatsChart:
    """Feed it the client's tables, one a second; it is text and HTML at any moment."""

    def __init__(self) -> None:
        self._series: dict[str, deque[tuple[float | None, float | None]]] = {}
        self._table = Table((), [], "")

    @property
    def text(self) -> str:
        """What Docker's client prints."""
        return self._table.text

    def feed(self, table: Table) -> None:
        """One more sample of every container."""
        self._table = table
        seen = set()
        for record in table.records:
            name = str(record.get("Name") or record.get("Container"))
            seen.add(name)
            values = self._series.setdefault(name, deque(maxlen=SAMPLES))
            values.append((_percent(str(record["CPUPerc"])), _bytes(str(record["MemUsage"]))))
        for name in list(self._series):
            if name not in seen:
                self._series[name].append((None, None))
                if all(one == (None, None) for one in self._series[name]):
                    del self._series[name]

    def html(self) -> str:
        """The charts above the table."""
        names = list(self._series)[:_LINES_MAX]
        cpu = {name: [one[0] for one in self._series[name]] for name in names}
        memory = {name: [one[1] for one in self._series[name]] for name in names}
        charts = _chart("CPU %", cpu, lambda value: f"{value:.4g}%", 5.0)
        charts += _chart("memory", memory, lambda value: format_binary_size(int(value)), 1 << 20)
        table = table_html(self._table)
        return with_style(f"<div class='lk-charts'>{charts}</div>") + table


def _chart(
    title: str,
    series: Mapping[str, list[float | None]],
    label: Callable[[float], str],
    least: float,
) -> str:
    highest = max([least, *(v for values in series.values() for v in values if v is not None)])
    said = "; ".join(
        f"{name} {label(values[-1]) if values and values[-1] is not None else 'ended'}"
        for name, values in series.items()
    )
    top = escape(label(highest))
    parts = [
        f"<text x='{_LEFT}' y='14' class='t'>{escape(title)}</text>",
        f"<text x='{_LEFT - 5}' y='{_TOP + 4}' class='s' text-anchor='end'>{top}</text>",
        f"<text x='{_LEFT - 5}' y='{_BOTTOM}' class='s' text-anchor='end'>0</text>",
        f"<path d='M{_LEFT},{_TOP}V{_BOTTOM}H{_LEFT + _PLOT}' class='a'/>",
        f"<text x='{_LEFT}' y='{_HEIGHT - 6}' class='s'>{SAMPLES} samples ago</text>",
        f"<text x='{_LEFT + _PLOT}' y='{_HEIGHT - 6}' class='s' text-anchor='end'>now</text>",
    ]
    ends: list[float] = []
    for number, (name, values) in enumerate(series.items()):
        path, end = _path(values, highest)
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        parts.append(f"<path d='{path}' fill='none' stroke='{colour}' stroke-width='2' "
                     f"stroke-dasharray='{dash}'/>")  # fmt: skip
        y = end if end is not None else _BOTTOM
        while any(abs(y - other) < 12 for other in ends):
            y -= 12
        ends.append(y)
        shown = name if len(name) <= 14 else f"{name[:13]}…"
        parts.append(
            f"<line x1='{_LEFT + _PLOT + 4}' x2='{_LEFT + _PLOT + 18}' y1='{y:.1f}' y2='{y:.1f}' "
            f"stroke='{colour}' stroke-width='2.5' stroke-dasharray='{dash}'/>"
            f"<text x='{_LEFT + _PLOT + 22}' y='{y + 4:.1f}' class='n'>{escape(shown)}</text>"
        )
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label="
        f"'{escape(f'{title}: {said}', quote=True)}'>{''.join(parts)}</svg>"
    )


def _path(values: list[float | None], highest: float) -> tuple[str, float | None]:
    """The line of a series, its newest sample at the right edge, and that sample's height."""
    path, pen, end = "", "M", None
    step = _PLOT / (SAMPLES - 1)
    for number, value in enumerate(values):
        if value is None:
            pen, end = "M", None
            continue
        x = _LEFT + _PLOT - (len(values) - 1 - number) * step
        end = _BOTTOM - value / highest * (_BOTTOM - _TOP)
        path += f"{pen}{x:.1f},{end:.1f}"
        pen = "L"
    return path or f"M{_LEFT},{_BOTTOM}", end

"""The progress of a pull: one bar per layer, and the lines of Docker's client as text; of a build:
one bar for its steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from labkit.base.quantities import format_size
from labkit.notebook.magics.style import with_style

__all__ = ["LayerBars", "StepBar"]

_DONE = ("Pull complete", "Already exists", "Pushed", "Layer already exists", "Mounted from")
_STEP = re.compile(r"Step (\d+)/([1-9]\d*) :")
_SHOWN_LAYERS = 60


@dataclass(slots=True)
class _Layer:
    status: str = ""
    current: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        if self.status.startswith(_DONE):
            return 1.0
        return min(1.0, self.current / self.total) if self.total else 0.0


class LayerBars:
    """Feed it the engine's JSON lines; it is text and HTML at any moment."""

    def __init__(self) -> None:
        self._layers: dict[str, _Layer] = {}
        self._heads: list[str] = []
        self._tails: list[str] = []
        self._text: list[str] = []

    @property
    def text(self) -> str:
        """What Docker's client writes where there is no terminal."""
        return "".join(self._text)

    def feed(self, message: Mapping[str, Any]) -> None:
        """One line of the engine's answer."""
        from labkit.notebook.commands.progress import plain_line

        self._text.append(plain_line(message))
        status, name = str(message.get("status", "")), str(message.get("id", ""))
        detail = message.get("progressDetail") or {}
        if name and not status.startswith("Pulling from"):
            layer = self._layers.setdefault(name, _Layer())
            layer.status = status
            layer.current = int(detail.get("current") or 0)
            layer.total = int(detail.get("total") or 0) or layer.total
        elif status:
            line = f"{name}: {status}" if name else status
            (self._tails if self._layers else self._heads).append(line)
        elif message.get("stream"):
            self._tails.append(str(message["stream"]).rstrip("\n"))

    def html(self) -> str:
        """The bars."""
        rows = [_line(text) for text in self._heads]
        rows += [_row(name, layer) for name, layer in list(self._layers.items())[:_SHOWN_LAYERS]]
        rows += [_line(text) for text in self._tails]
        return with_style("".join(rows))


class StepBar:
    """How far a build has come, from the `Step 2/7 :` of its words."""

    def __init__(self) -> None:
        self.step = 0
        self.steps = 0
        self.is_over = False

    def feed(self, text: str) -> bool:
        """More of the build's words; whether the bar has changed."""
        match = _STEP.match(text)
        if match:
            self.step, self.steps = int(match.group(1)), int(match.group(2))
            return True
        if text.startswith("Successfully built") and self.steps and not self.is_over:
            self.is_over = True
            return True
        return False

    def html(self) -> str:
        """The bar: what lies behind the step that runs now."""
        done = self.steps if self.is_over else self.step - 1
        percent = round(100 * done / self.steps)
        kind = " lk-done" if self.is_over else ""
        told = "all steps" if self.is_over else f"step {self.step} of {self.steps}"
        return with_style(
            f"<div class='lk-layer'><code>build</code><span>{told}</span>"
            f"<span class='lk-bar{kind}' role='progressbar' aria-label='build' aria-valuemin='0' "
            f"aria-valuemax='100' aria-valuenow='{percent}' aria-valuetext='{told}'>"
            f"<i style='width:{percent}%'></i></span><span></span></div>"
        )


def _line(text: str) -> str:
    return f"<div>{escape(text)}</div>"


def _row(name: str, layer: _Layer) -> str:
    percent = round(100 * layer.share)
    done = " lk-done" if layer.share >= 1 else ""
    size = f"{format_size(layer.current)} / {format_size(layer.total)}" if layer.total else ""
    if done:
        size = format_size(layer.total) if layer.total else ""
    return (
        f"<div class='lk-layer'><code>{escape(name)}</code><span>{escape(layer.status)}</span>"
        f"<span class='lk-bar{done}' role='progressbar' "
        f"aria-label='layer {escape(name, quote=True)}' "
        f"aria-valuemin='0' aria-valuemax='100' aria-valuenow='{percent}'>"
        f"<i style='width:{percent}%'></i></span><span>{size}</span></div>"
    )

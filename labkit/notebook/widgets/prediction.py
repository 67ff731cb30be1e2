"""The question before an experiment: choose an answer, then see what the kernel does."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

__all__ = ["PredictionWidget"]


class PredictionWidget(anywidget.AnyWidget):
    """Radio buttons; `chosen` is the answer, empty while there is none."""

    _esm = Path(__file__).with_name("prediction.js")

    question = traitlets.Unicode().tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)
    chosen = traitlets.Unicode("").tag(sync=True)

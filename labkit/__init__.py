"""labkit: a Jupyter teaching lab for containers in which nothing is faked.

Importing this package is cheap on purpose; everything heavier is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.course.box import Box as Box
    from labkit.notebook.course.predictions import outcome as outcome
    from labkit.notebook.course.predictions import predict as predict
    from labkit.notebook.grading.answers import record as answer
    from labkit.notebook.widgets.transfer import transfer as transfer

__all__ = [
    "Box",
    "__version__",
    "answer",
    "load_ipython_extension",
    "outcome",
    "predict",
    "transfer",
    "unload_ipython_extension",
]

__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics (`%load_ext labkit`)."""
    from labkit.notebook.magics import load_ipython_extension as load

    load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away again (`%unload_ext labkit`)."""
    from labkit.notebook.magics import unload_ipython_extension as unload

    unload(ipython)


_DOORS = {
    "Box": ("labkit.notebook.course.box", "Box"),
    "answer": ("labkit.notebook.grading.answers", "record"),
    "outcome": ("labkit.notebook.course.predictions", "outcome"),
    "predict": ("labkit.notebook.course.predictions", "predict"),
    "transfer": ("labkit.notebook.widgets.transfer", "transfer"),
}


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'labkit' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _DOORS[name]
    return getattr(import_module(module), attribute)

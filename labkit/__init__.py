"""labkit: a Jupyter teaching lab for containers in which nothing is faked.

Importing this package is cheap on purpose; everything heavier is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.course.box import Box as Box

__all__ = ["Box", "__version__", "load_ipython_extension"]

__version__ = "0.1.0"


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics (`%load_ext labkit`)."""
    from labkit.notebook.magics import load_ipython_extension as load

    load(ipython)


def __getattr__(name: str) -> Any:
    if name == "Box":
        from labkit.notebook.course.box import Box

        return Box
    raise AttributeError(f"module 'labkit' has no attribute {name!r}")

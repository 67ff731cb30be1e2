"""The IPython extension: `%load_ext labkit`.

Loading it costs a warm kernel next to nothing: the magics are small functions that import what
they need when they run, and the daemon starts in a thread meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.magics.line import Notebook

__all__ = ["load_ipython_extension", "unload_ipython_extension"]

_NAMES = ("docker", "host", "lab", "swarm", "explain", "check", "hint")
_ATTRIBUTE = "_labkit_notebook"


class _Loaded:
    """What loading has made: the session at once, everything else with the first magic."""

    def __init__(self, shell: Any) -> None:
        from labkit.notebook.magics.session import Session

        self.session = Session()
        self._shell = shell
        self._notebook: Notebook | None = None

    def notebook(self) -> Notebook:
        """The notebook that magics act on."""
        if self._notebook is None:
            from labkit.notebook.magics.line import Notebook

            self._notebook = Notebook(self._shell, self.session)
        return self._notebook


def load_ipython_extension(ipython: Any) -> None:
    """Define the magics, the Tab key and the daemon's start. Doing it again changes nothing."""
    if getattr(ipython, _ATTRIBUTE, None) is not None:
        return
    from labkit.notebook.magics import complete

    loaded = _Loaded(ipython)
    for name, function in _line_magics(loaded.notebook).items():
        ipython.register_magic_function(function, "line", name)
    for name, function in _cell_magics(loaded.notebook).items():
        ipython.register_magic_function(function, "cell", name)
    matcher = complete.install(ipython, loaded.notebook)
    setattr(ipython, _ATTRIBUTE, (loaded, matcher))
    # A grader that starts thousands of kernels wants a daemon only where a cell asks for one.
    if os.environ.get("LABKIT_START") != "on-demand":
        loaded.session.start_in_background()
    from labkit import __version__

    print(f"labkit {__version__} is loaded: %docker, %host, %lab, %explain (%lab --help)")


def unload_ipython_extension(ipython: Any) -> None:
    """Take the magics away and stop background jobs; containers and the daemon live on."""
    found = getattr(ipython, _ATTRIBUTE, None)
    if found is None:
        return
    from labkit.notebook.magics import complete

    loaded, matcher = found
    complete.uninstall(ipython, matcher)
    if loaded.session.has_jobs:
        loaded.session.jobs.stop_all()
    for kind in ("line", "cell"):
        for name in _NAMES:
            ipython.magics_manager.magics[kind].pop(name, None)
    setattr(ipython, _ATTRIBUTE, None)


def _line_magics(notebook: Callable[[], Notebook]) -> dict[str, Any]:
    from IPython.core.magic import no_var_expand

    from labkit.notebook.magics.assignment import is_result_used

    @no_var_expand
    def docker(line: str) -> Any:
        """%docker COMMAND …: Docker's command line, on the lab."""
        from labkit.notebook.magics.docker import run_docker

        return run_docker(notebook(), line, None, keep=is_result_used())

    @no_var_expand
    def host(line: str) -> Any:
        """%host COMMAND …: a command on the lab host."""
        from labkit.notebook.magics.host import run_host

        return run_host(notebook(), line, None, keep=is_result_used())

    @no_var_expand
    def lab(line: str) -> Any:
        """%lab COMMAND …: the lab itself, its views, its jobs. See %lab --help."""
        from labkit.notebook.magics.lab import run_lab

        return run_lab(notebook(), line, keep=is_result_used())

    @no_var_expand
    def swarm(line: str) -> Any:
        """%swarm up|status|down: a cluster of managers and workers in this lab."""
        from labkit.notebook.magics.lab import run_cluster

        return run_cluster(notebook(), "swarm", line, keep=is_result_used())

    @no_var_expand
    def explain(line: str) -> Any:
        """%explain docker run …: run it, then draw what was done, step by step."""
        from labkit.notebook.magics.explain import run_explain

        return run_explain(notebook(), line, keep=is_result_used())

    @no_var_expand
    def check(line: str) -> Any:
        """%check [EXERCISE]: does the lab look as the exercise asks?"""
        from labkit.notebook.magics.exercise import run_check

        return run_check(notebook(), line, keep=is_result_used())

    @no_var_expand
    def hint(line: str) -> Any:
        """%hint [EXERCISE] [CHECK]: the next hint, one at a time."""
        from labkit.notebook.magics.exercise import run_hint

        return run_hint(notebook(), line, keep=is_result_used())

    functions = (docker, host, lab, swarm, explain, check, hint)
    return {function.__name__: function for function in functions}


def _cell_magics(notebook: Callable[[], Notebook]) -> dict[str, Any]:
    from IPython.core.magic import no_var_expand

    from labkit.notebook.magics.assignment import is_result_used

    @no_var_expand
    def docker(line: str, cell: str) -> Any:
        """%%docker COMMAND …: the cell's body is the command's stdin."""
        from labkit.notebook.magics.docker import run_docker

        return run_docker(notebook(), line, cell, keep=is_result_used())

    @no_var_expand
    def host(line: str, cell: str) -> Any:
        """%%host: the cell's body is an sh script on the lab host."""
        from labkit.notebook.magics.host import run_host

        return run_host(notebook(), line, cell, keep=is_result_used())

    return {"docker": docker, "host": host}

"""`nodes`, `swarm`, `chaos`, `raft` and `clock`: one source for `labkit …` and `%lab …`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.base.errors import LabkitError

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient
    from labkit.notebook.commands.surface import Surface

__all__ = ["GROUPS", "run", "run_in_terminal"]

GROUPS: dict[str, str] = {
    "nodes": "Simulated hosts: add, rm, stop, start, pause, unpause, ls",
    "swarm": "A cluster of managers and workers: up, status, down",
    "chaos": "Break the cluster, and see what was broken when",
    "raft": "What each manager believes: role, term, vote, log",
    "clock": "Docker's timings, or a lesson's",
}


def run(
    group: str, words: Sequence[str], lab: LabClient, surface: Surface, *, prog: str = "labkit"
) -> int:
    """Run one command line; `prog` is what stands before the group in help texts.

    Raises LabkitError with a hint for what cannot be done.
    """
    from labkit.notebook.commands.cluster import chaos, nodes, raft, swarm

    groups: dict[str, Callable[[Sequence[str], LabClient, Surface, str], int]] = {
        "nodes": nodes.run,
        "swarm": swarm.run,
        "chaos": chaos.run,
        "raft": raft.run,
        "clock": raft.run_clock,
    }
    return groups[group](words, lab, surface, f"{prog} {group}" if prog else f"%{group}")


def run_in_terminal(group: str, argv: Sequence[str]) -> int:
    """`labkit nodes …` and its like."""
    from labkit.notebook.client import LabClient, ensure_daemon
    from labkit.notebook.commands.terminal import TerminalSurface

    paths = ensure_daemon()
    lab = LabClient(f"unix://{paths.lab_socket}", timeout_s=600.0)
    surface = TerminalSurface()
    try:
        return run(group, argv, lab, surface)
    except LabkitError as error:
        surface.err(f"labkit {group}: {error.message}\n")
        if error.hint:
            surface.err(f"  next: {error.hint}\n")
        return error.exit_code

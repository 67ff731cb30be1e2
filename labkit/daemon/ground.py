"""The lab host before the event loop: what this machine can do, and the anchor that holds it.

Without root this must happen while the process has a single thread, because a user namespace can
be entered only then (setns(2)); afterwards the daemon is uid 0 of its lab.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.base.errors import Unsupported
from labkit.base.paths import LabPaths

if TYPE_CHECKING:
    from labkit.host.isolation.probe import Finding, Probe
    from labkit.host.isolation.spec import HostNamespaces

__all__ = ["DEFAULT_NODE", "Ground", "prepare_ground"]

DEFAULT_NODE = "default"


@dataclass(frozen=True, slots=True)
class Ground:
    """What the daemon stands on. `host` is None in hollow mode."""

    mode: str
    probe: Probe
    host: HostNamespaces | None
    node: str = DEFAULT_NODE
    findings: tuple[Finding, ...] = ()
    """The doctor's findings, where they had to be made before entering a user namespace."""


def prepare_ground(paths: LabPaths, mode: str) -> Ground:
    """Probe the machine, find the lab host that an earlier daemon left or start one.

    `mode` auto takes what the probe says. Raises Unsupported when a mode is asked for that this
    machine does not have.
    """
    from labkit.host.isolation import anchor
    from labkit.host.isolation.probe import probe

    if mode != "hollow" and os.geteuid() != 0:
        from labkit.host.isolation.cgroups.delegation import enter_delegated_scope

        # First of all: the probe must see the groups that this user may make.
        enter_delegated_scope(paths.instance)
    found = probe(paths)
    if mode not in ("auto", found.mode, "hollow"):
        raise Unsupported(
            f"cannot run in mode {mode}: this machine offers {found.mode}",
            hint="`labkit doctor` says what is missing",
        )
    if "hollow" in (mode, found.mode):
        return Ground("hollow", found, None)
    host = anchor.find_anchor(paths, DEFAULT_NODE)
    if host is None:
        host = anchor.start_anchor(paths, DEFAULT_NODE, found)
    findings: tuple[Finding, ...] = ()
    if found.mode == "rootless":
        from labkit.host.isolation.doctor import examine

        # Inside, this process is uid 0 and would take itself for root: ask before.
        from labkit.host.isolation.outbound import start_outbound

        out = start_outbound(paths, DEFAULT_NODE, host.anchor_pid)
        others = (each for each in examine(paths, found) if each.name != out.name)
        findings = (*others, out)
        anchor.enter_user_namespace(host)
    _survive_memory_pressure()
    return Ground(found.mode, found, host, findings=findings)


def _survive_memory_pressure() -> None:
    """Ask the kernel to kill almost anything else first; only root may go below zero."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("-500" if os.geteuid() == 0 else "0")

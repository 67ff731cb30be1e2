"""An ordinary user's share of the v2 tree, asked for from systemd (systemd.resource-control(5)).

A login session's own scope belongs to root: limits need a scope with Delegate=yes under the user
manager. The daemon moves itself into one named after its lab; a later daemon of the same lab
joins the scope that containers of the earlier one keep alive.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from labkit.host.isolation.cgroups.driver import DAEMON_LEAF, usable_unified_base
from labkit.host.isolation.cgroups.layout import find_layout

__all__ = ["enter_delegated_scope", "scope_name"]

_MANAGER = (
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
)
_TIMEOUT_S = 5.0


def scope_name(instance: str) -> str:
    """The transient unit that holds a lab's processes."""
    return f"labkit-{instance}.scope"


def _call(method: str, *words: str) -> bool:
    """One call of the user manager through busctl, which comes with systemd."""
    program = shutil.which("busctl")
    if program is None:
        return False
    try:
        done = subprocess.run(
            [program, "--user", "--quiet", "call", *_MANAGER, method, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def enter_delegated_scope(instance: str, *, timeout_s: float = 2.0) -> Path | None:
    """Move this process to a folder of the v2 tree where it may make groups; returns that folder.

    None means that there is none: no v2 tree, no systemd user manager, or it refused. Nothing
    happens when this process may use the tree's top or is in the scope already. Call it as the
    ordinary user, before entering a user namespace.
    """
    layout = find_layout()
    if not layout.uses_unified:
        return None
    name, pid = scope_name(instance), str(os.getpid())
    base = usable_unified_base(layout)
    if base is not None and (base == layout.unified or base.name == name):
        return base
    if "DBUS_SESSION_BUS_ADDRESS" not in os.environ:
        # A service or `su` has no session variables; the bus is at a fixed place.
        runtime = os.environ.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        if not os.path.exists(f"{runtime}/bus"):
            return None
    started = _call(
        "StartTransientUnit",
        *("ssa(sv)a(sa(sv))", name, "fail", "3"),
        *("PIDs", "au", "1", pid),
        *("Delegate", "b", "true"),
        *("Description", "s", "labkit's containers"),
        "0",
    )
    if not started:
        # The scope is there: its inner folders hold controllers, so only a leaf takes processes.
        leaf = f"/{DAEMON_LEAF}"
        if not _call("AttachProcessesToUnit", "ssau", name, leaf, "1", pid):
            return None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            base = usable_unified_base(find_layout())
            if base is not None and base.name == name:
                return base
        time.sleep(0.005)
    return None

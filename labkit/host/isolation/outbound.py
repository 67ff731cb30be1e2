"""An ordinary user's way out of the lab host: pasta or slirp4netns beside its network namespace.

Only root may join the lab host to the machine by a pair of links. Both of these programs open a tap
device inside instead, and carry what leaves by it through sockets of the user's own. One of them
runs for as long as the lab host does; the lab works without, but reaches nothing outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import process_start_time
from labkit.host.isolation.probe import Finding

__all__ = ["TOOLS", "start_outbound", "stop_outbound"]

TOOLS = ("pasta", "slirp4netns")
"""In the order of preference."""
_READY_S = 10.0
_DEFAULT_ROUTE = "00000000"


def _record_path(paths: LabPaths, node: str) -> Path:
    return paths.host_data(node).parent / "outbound.json"


def _command(tool: str, program: str, anchor: int) -> list[str]:
    if tool == "pasta":
        # Nothing comes in by it, and the gateway's address does not lead to our own loopback.
        closed = [word for flag in ("-t", "-u", "-T", "-U") for word in (flag, "none")]
        return [program, "--config-net", "--foreground", "--no-map-gw", *closed, str(anchor)]
    flags = ["--configure", "--mtu=65520", "--disable-host-loopback"]
    return [program, *flags, str(anchor), "tap0"]


def _has_route(anchor: int) -> bool:
    try:
        lines = Path(f"/proc/{anchor}/net/route").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1:2] == [_DEFAULT_ROUTE] for line in lines)


def start_outbound(paths: LabPaths, node: str, anchor: int) -> Finding:
    """Give the lab host whose anchor this is a way out, unless it has one; what became of it.

    Call it as the ordinary user, before entering the lab's user namespace. Never raises: a lab
    without a network outside is still a lab.
    """
    name = "outbound network"
    if _has_route(anchor):
        return Finding(name, True, "there already")
    meaning = "containers reach the lab only, not the outside"
    fix = "as root: apt-get install passt (or slirp4netns)"
    tried = []
    for tool in TOOLS:
        program = shutil.which(tool)
        if program is None:
            continue
        complaint = _run(_command(tool, program, anchor), paths, node, anchor)
        if not complaint:
            return Finding(name, True, f"through {tool}")
        tried.append(f"{tool}: {complaint}")
    if tried:
        fix = "as root: chmod 666 /dev/net/tun, where that is what is refused"
        return Finding(name, False, "; ".join(tried), meaning, fix)
    return Finding(name, False, f"neither {' nor '.join(TOOLS)} is installed", meaning, fix)


def _run(words: list[str], paths: LabPaths, node: str, anchor: int) -> str:
    """Start it and wait for the route; an empty text, or what it complained about."""
    log = paths.host_data(node).parent / "outbound.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _READY_S
    while not _has_route(anchor):
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    else:
        with contextlib.suppress(OSError):
            record = {"pid": process.pid, "start_time": process_start_time(process.pid)}
            _record_path(paths, node).write_text(json.dumps(record))
        # It outlives us; once it ends, whoever waits for children may reap it.
        process.returncode = 0
        return ""
    process.kill()
    process.wait()
    words_said = log.read_text(errors="replace").splitlines()
    refused = [line for line in words_said if "denied" in line or "ailed" in line]
    return (refused or words_said or ["it set up no route"])[-1].strip()


def stop_outbound(paths: LabPaths, node: str) -> None:
    """End what `start_outbound` started, if it runs."""
    path = _record_path(paths, node)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads(path.read_text())
        pid = int(record["pid"])
        handle = os.pidfd_open(pid)
        try:
            if process_start_time(pid) == int(record["start_time"]):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
        with contextlib.suppress(OSError):
            os.waitpid(pid, os.WNOHANG)
    with contextlib.suppress(OSError):
        path.unlink()

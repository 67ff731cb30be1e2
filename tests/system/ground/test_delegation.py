"""An ordinary user's limits on a systemd machine with cgroup v2 (proven under `make test-vm`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from labkit.host.isolation.cgroups import find_layout

SCRIPT = """
import json, subprocess, sys
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.cgroups.delegation import enter_delegated_scope
from labkit.host.isolation.spec import ResourceLimits

base = enter_delegated_scope("deltest0")
driver = CgroupDriver("deltest0")
out = {"base": str(base), "kind": driver.kind, "controllers": sorted(driver.controllers)}
if base is not None:
    group = driver.create(sys.argv[1], ResourceLimits(memory_bytes=64 << 20, pids=9))
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(["sleep", "300"], stdout=nowhere, stderr=nowhere)
    group.add(process.pid)
    out["pids"] = len(group.pids())
    out["limit"] = group.stats().memory_limit_bytes
    out["warnings"] = group.warnings
    out["names"] = driver.names()
    if sys.argv[1] == "second":
        for name in driver.names():
            driver.open(name).remove(timeout_s=0.1)
        process.wait()
        out["cleaned"] = driver.clean() is not None and driver.names() == []
print(json.dumps(out))
"""


def _run(name: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    out: dict[str, object] = json.loads(done.stdout)
    return out


@pytest.mark.namespaces
def test_a_second_daemon_finds_the_groups_of_the_first() -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    if find_layout().kind != "v2" or shutil.which("busctl") is None:
        pytest.skip("needs cgroup v2 and systemd's user manager")
    first = _run("first")
    if first["base"] == "None":
        pytest.skip("the user manager gives no delegated scope")
    assert first["kind"] == "v2"
    assert str(first["base"]).endswith("/labkit-deltest0.scope")
    assert {"memory", "pids"} <= set(first["controllers"])  # type: ignore[call-overload]
    assert first["limit"] == 64 << 20
    assert first["warnings"] == []
    assert first["pids"] == 1
    # The first daemon has ended; its container lives on in the scope.
    second = _run("second")
    assert second["base"] == first["base"]
    assert second["names"] == ["first", "second"]
    assert second["cleaned"] is True

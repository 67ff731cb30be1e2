"""The lab of an ordinary user: host, box and limits in a user namespace.

Run as root these tests become that user in a process of their own, with an id that owns nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.host.isolation.anchor import shim_path

PACKAGE_ROOT = Path(__file__).resolve().parents[3]
UNUSED_ID = 64321

SCRIPT = """
import asyncio, json, os, subprocess, sys
from labkit.base.paths import LabPaths
from labkit.host.isolation import anchor
from labkit.host.isolation.box import BoxProcess
from labkit.host.isolation.cgroups import CgroupDriver
from labkit.host.isolation.probe import probe
from labkit.host.isolation.spec import ResourceLimits
from pathlib import Path

paths = LabPaths(Path(sys.argv[1]) / "home", Path(sys.argv[1]) / "run")
paths.prepare()
found = probe(paths)
out = {"mode": found.mode, "reasons": [str(r) for r in found.reasons], "overlay": found.overlay}
if found.mode == "rootless":
    host = anchor.start_anchor(paths, "default", found)
    anchor.enter_user_namespace(host)
    out["uid"] = os.getuid()
    (paths.host_data() / "hello").write_text("x")
    done = anchor.run_on_host(
        host, ["sh", "-c", "id -u; ls /var/lib/docker; ls /sys/class/net; hostname"],
        stdout=subprocess.PIPE)
    out["host"] = done.communicate()[0].decode().split()
    driver = CgroupDriver(paths.instance)
    out["cgroup"] = driver.kind
    out["warnings"] = driver.warnings_for(ResourceLimits(memory_bytes=1 << 26, pids=5))

    async def by_hand():
        box = await BoxProcess.start(host, identifier="r", driver=driver)
        await box.call("unshare", kinds=["pid", "mnt", "uts", "net"])
        mounted = await box.call("mount", source="proc", target="/proc", fstype="proc")
        name = await box.call("sethostname", name="mine")
        ran = await box.call("run", argv="hostname")
        out["box"] = [mounted.ok, name.ok, ran.result["stdout"].decode().strip()]
        node = await box.call("mknod", path="/tmp/null-node", type="c", major=1, minor=3)
        out["mknod"] = [node.ok, node.errno]
        await box.close()

    asyncio.run(by_hand())
    driver.close()
    again = anchor.find_anchor(paths)
    out["found_again"] = again is not None and again.anchor_pid == host.anchor_pid
    anchor.stop_anchor(paths)
    out["gone"] = not os.path.exists(f"/proc/{host.anchor_pid}")
print(json.dumps(out))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="lk-"))
    yield base
    shutil.rmtree(base)


def _readable_package(base: Path) -> Path:
    """A copy of what the script needs, since the checkout may be closed to others."""
    target = base / "src"
    for part in ("labkit/base", "labkit/host/isolation"):
        shutil.copytree(
            PACKAGE_ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "bin")
        )
    for package in ("labkit", "labkit/host"):
        (target / package / "__init__.py").write_text("")
    return target


def _run_as_ordinary_user(base: Path) -> dict[str, object]:
    source, shim = _readable_package(base), base / "labkit-shim"
    shutil.copy(shim_path(), shim)
    python = next((p for p in (sys.executable, "/usr/bin/python3") if _others_may_run(p)), None)
    if python is None:
        pytest.skip("no Python 3.11 that an ordinary user may execute")
    command = [python, "-c", SCRIPT, str(base / "lab")]
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("setpriv is missing (package util-linux)")
        ids = [f"--reuid={UNUSED_ID}", f"--regid={UNUSED_ID}", "--clear-groups"]
        command = [setpriv, *ids, *command]
    base.chmod(0o755)
    (base / "lab").mkdir()
    if os.geteuid() == 0:
        os.chown(base / "lab", UNUSED_ID, UNUSED_ID)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(source),
        "LABKIT_SHIM": str(shim),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    out: dict[str, object] = json.loads(done.stdout)
    return out


def _others_may_run(program: str) -> bool:
    """Whether every folder on the way is open to everybody, and the version is ours."""
    path = Path(program).resolve()
    if any(not parent.stat().st_mode & 0o001 for parent in path.parents) and os.geteuid() == 0:
        return False
    version = subprocess.run(
        [program, "-c", "import sys; print(sys.version_info >= (3, 11))"],
        capture_output=True,
        text=True,
        check=False,
    )
    return version.stdout.strip() == "True"


@pytest.mark.namespaces
def test_an_ordinary_user_has_a_host_and_boxes_of_their_own(folder: Path) -> None:
    out = _run_as_ordinary_user(folder)
    if out["mode"] == "hollow":
        pytest.skip(f"no user namespaces for ordinary users: {out['reasons']}")
    assert out["mode"] == "rootless"
    assert out["uid"] == 0
    assert out["host"] == ["0", "hello", "lo", "labkit"]
    assert out["box"] == [True, True, "mine"]
    assert out["mknod"] == [False, 1]
    assert out["found_again"] is True
    assert out["gone"] is True
    # Without groups each limit is told. With some it may hold, unless strangers share the folder.
    assert len(out["warnings"]) in ((2,) if out["cgroup"] == "none" else (0, 2))  # type: ignore[arg-type]

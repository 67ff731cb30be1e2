"""With newuidmap and a range of ids an ordinary user's lab has many owners; without, just one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import run_on_host, start_anchor, stop_anchor
from labkit.host.isolation.doctor import examine
from labkit.host.isolation.idmap import subordinate_ranges
from labkit.host.isolation.probe import Probe, probe
from labkit.host.isolation.spec import HostNamespaces

pytestmark = pytest.mark.namespaces


@contextmanager
def rootless_host(paths: LabPaths, found: Probe) -> Iterator[HostNamespaces]:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    host = start_anchor(paths, "default", found)
    try:
        yield host
    finally:
        for handle in (host.mnt, host.net, *((host.user,) if host.user is not None else ())):
            os.close(handle)
        stop_anchor(paths)


def said_on(host: HostNamespaces, script: str) -> str:
    with run_on_host(host, ["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        return process.stdout.read().decode()


def test_a_granted_range_is_mapped_and_may_own_files(lab_paths: LabPaths) -> None:
    if not all(shutil.which(f"new{kind}map") for kind in ("uid", "gid")):
        pytest.skip("newuidmap is missing (Debian package uidmap)")
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    ranges = subordinate_ranges("uid")
    if not (ranges and subordinate_ranges("gid")):
        pytest.skip("this user has no range in /etc/subuid and /etc/subgid")
    found = probe(lab_paths)
    assert next(each for each in examine(lab_paths, found) if each.name == "sub-ids").ok
    with rootless_host(lab_paths, found) as host:
        maps = Path(f"/proc/{host.anchor_pid}/uid_map").read_text().split()
        assert maps[:3] == ["0", str(os.getuid()), "1"]
        assert [int(word) for word in maps[3:6]] == [1, *ranges[0]]
        script = "cd /var/lib/docker && touch f && chown 33:33 f && stat -c %u:%g f && rm f"
        assert said_on(host, script) == "33:33\n"
        setgroups = Path(f"/proc/{host.anchor_pid}/setgroups").read_text()
        assert setgroups == "allow\n"


def test_without_the_helper_there_is_one_id_and_the_doctor_says_so(
    lab_paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe(lab_paths)
    monkeypatch.setattr("shutil.which", lambda name, **_: None)
    finding = next((e for e in examine(lab_paths, found) if e.name == "sub-ids"), None)
    with rootless_host(lab_paths, found) as host:
        assert finding is not None
        assert not finding.ok
        assert "one id only" in finding.meaning
        assert "apt-get install uidmap" in finding.fix
        maps = Path(f"/proc/{host.anchor_pid}/uid_map").read_text().split()
        assert maps == ["0", str(os.getuid()), "1"]
        assert Path(f"/proc/{host.anchor_pid}/setgroups").read_text() == "deny\n"
        assert (
            said_on(host, "touch /var/lib/docker/f; chown 33 /var/lib/docker/f || echo no")
            == "no\n"
        )

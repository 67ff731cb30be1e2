"""An ordinary user's lab host reaches the outside where pasta or slirp4netns may help it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.base.paths import LabPaths
from labkit.host.isolation.anchor import run_on_host, start_anchor, stop_anchor
from labkit.host.isolation.outbound import TOOLS, start_outbound
from labkit.host.isolation.probe import probe


@pytest.mark.namespaces
def test_an_ordinary_users_host_gets_a_route_or_a_reason(lab_paths: LabPaths) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    found = probe(lab_paths)
    host = start_anchor(lab_paths, "default", found)
    try:
        outcome = start_outbound(lab_paths, "default", host.anchor_pid)
        routes = Path(f"/proc/{host.anchor_pid}/net/route").read_text()
        if outcome.ok:
            assert "\t00000000\t" in routes
            tool = outcome.found.removeprefix("through ")
            assert tool in TOOLS
            with run_on_host(host, ["ip", "-br", "addr"], stdout=subprocess.PIPE) as shown:
                assert shown.stdout is not None
                others = [
                    line.split() for line in shown.stdout.read().splitlines() if line[:3] != b"lo "
                ]
                assert any(len(words) > 2 for words in others), others
            assert start_outbound(lab_paths, "default", host.anchor_pid).found == "there already"
        else:
            assert outcome.meaning
            assert outcome.fix
            installed = [name for name in TOOLS if shutil.which(name)]
            has_network = "\t00000000\t" in Path("/proc/net/route").read_text()
            can_open = os.access("/dev/net/tun", os.R_OK | os.W_OK)
            assert not (installed and has_network and can_open), outcome
    finally:
        for handle in (host.mnt, host.net, *((host.user,) if host.user is not None else ())):
            os.close(handle)
        stop_anchor(lab_paths)
    assert not (lab_paths.host_data("default").parent / "outbound.json").exists()

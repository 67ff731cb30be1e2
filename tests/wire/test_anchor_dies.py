"""The lab host's anchor is killed while the daemon lives: it is put back, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import time

from .conftest import Lab


def anchor_pid(lab: Lab) -> int:
    record = lab.paths.host_data("default").parent / "anchor.json"
    return int(json.loads(record.read_text())["pid"])


def test_a_killed_anchor_is_replaced_and_the_host_stays_the_same(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "stays", "busybox", "sleep", "1000")
    first = anchor_pid(lab)
    network = os.stat(f"/proc/{first}/ns/net").st_ino
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (second := anchor_pid(lab)) == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert os.stat(f"/proc/{second}/ns/net").st_ino == network
    assert os.path.isdir(f"/proc/{second}/root/var/lib/docker/containers")
    assert lab.ok("exec", "stays", "echo", "still here") == "still here\n"
    assert lab.ok("run", "--rm", "busybox", "echo", "new") == "new\n"
    status, box = lab.request("POST", "/v1/boxes", {"name": "after", "labels": {}}, lab=True)
    assert status == 201 or status == 200, box
    lab.request("DELETE", f"/v1/boxes/{box['id']}", lab=True)
    lab.ok("rm", "--force", "stays")

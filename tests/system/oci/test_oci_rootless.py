"""An ordinary user runs a bundle: root inside is the user outside."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from oci_kit import Runtime

pytestmark = pytest.mark.namespaces


def test_an_ordinary_users_bundle_runs(oci: Runtime) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    (oci.bundle / "config.json").unlink()
    oci("spec", "--rootless", "--bundle", str(oci.bundle))
    oci.change(lambda config: config["process"].update(terminal=False))
    done = oci.shell("id -u; cat /proc/self/uid_map; hostname; exit 6")
    assert done.returncode == 6, done.stderr
    lines = done.stdout.splitlines()
    assert [lines[0], lines[1].split(), lines[2]] == ["0", ["0", str(os.getuid()), "1"], "labkit"]


def test_a_bundle_made_for_root_is_refused_in_words(oci: Runtime, short_tmp: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("needs an ordinary user")
    assert "user" not in [each["type"] for each in oci.config["linux"]["namespaces"]]
    done = oci.shell("true")
    assert done.returncode == 1
    assert "operation not permitted" in done.stderr.lower()
    assert json.loads(oci("list", "--format", "json").stdout) == []

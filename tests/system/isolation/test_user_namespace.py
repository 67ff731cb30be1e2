"""The same containers without privileges on the machine: root only of a user namespace."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from isolation_kit import Host, has_all_ids

from labkit.host.isolation.runtime import ContainerStartFailure

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(not has_all_ids(), reason="runs the others, itself included")
def test_all_of_this_holds_in_a_user_namespace_of_one_id() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing (Debian package util-linux)")
    command = [
        *("unshare", "--user", "--map-root-user", "--mount", "--net"),
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.skipif(has_all_ids(), reason="needs a user namespace of few ids")
async def test_an_id_that_is_not_mapped_is_refused_with_a_way_out(host: Host) -> None:
    with pytest.raises(ContainerStartFailure, match="change user: uid 1000") as caught:
        await host.run("true", uid=1000)
    assert "newuidmap" in str(caught.value.hint)


@pytest.mark.skipif(has_all_ids(), reason="needs a user namespace of few ids")
async def test_groups_that_cannot_be_given_are_a_warning(host: Host) -> None:
    found = await host.run("true", groups=(5, 6))
    assert found.code == 0
    assert any("supplementary groups" in warning for warning in found.shim.warnings)

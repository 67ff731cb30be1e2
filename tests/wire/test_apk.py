"""`apk` in the alpine stand-in: real programs from the lab's own index, and apk's own refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Lab


@pytest.fixture(autouse=True)
def stand_in(lab: Lab) -> None:
    lab.ok("pull", "-q", "alpine")
    shown = lab.ok(
        "image", "inspect", "-f", '{{index .Config.Labels "org.labkit.stand-in"}}', "alpine"
    )
    if shown.strip() != "true":
        pytest.skip("alpine comes from a registry here")


def has(lab: Lab, *names: str) -> None:
    """Skip where the machine can provide none of these packages."""
    listed = lab.docker("run", "--rm", "alpine", "apk", "search", "-q").stdout
    for name in names:
        if f"{name}-" not in listed:
            pytest.skip(f"{name} is not installed on this machine")


def test_apk_add_installs_a_program_that_runs_and_says_where_it_is_from(lab: Lab) -> None:
    has(lab, "bash")
    script = "apk add --no-cache bash && bash -c 'echo $BASH_VERSION' && apk info && apk del bash"
    lines = lab.ok("run", "--rm", "alpine", "sh", "-c", script).splitlines()
    assert lines[0].startswith("(1/1) Installing bash (")
    assert lines[1].strip().startswith("origin: Debian bash ")
    assert lines[2].startswith("OK: ")
    assert lines[2].endswith(" MiB in 1 packages")
    assert lines[3][0].isdigit()
    assert lines[4] == "bash"
    assert lines[5].startswith("Purging bash (")
    assert lines[6] == "OK: 0 MiB in 0 packages"


def test_an_unknown_package_gets_apks_own_error(lab: Lab) -> None:
    done = lab.docker("run", "--rm", "alpine", "apk", "add", "curll", "nosuch=1.0")
    assert done.returncode == 2
    assert done.stderr == (
        "ERROR: unable to select packages:\n"
        "  curll (no such package):\n    required by: world[curll]\n"
        "  nosuch (no such package):\n    required by: world[nosuch]\n"
    )


def test_without_a_network_apk_says_that_it_cannot_reach_its_index(lab: Lab) -> None:
    done = lab.docker("run", "--rm", "--network", "none", "alpine", "apk", "add", "bash")
    assert done.returncode == 1
    assert "temporary error (try again later)" in done.stderr
    assert "bash (no such package)" in done.stderr


def test_a_dockerfile_installs_with_apk(lab: Lab, tmp_path: Path) -> None:
    has(lab, "bash")
    (tmp_path / "Dockerfile").write_text(
        'FROM alpine\nRUN apk add --no-cache bash\nCMD ["bash", "-c", "echo $BASH_VERSION"]\n'
    )
    lab.ok("build", "-t", "with-bash", str(tmp_path))
    assert lab.ok("run", "--rm", "with-bash")[0].isdigit()


def test_containers_of_other_networks_reach_the_index_too(lab: Lab) -> None:
    lab.ok("network", "create", "apart")
    try:
        answer = lab.ok("run", "--rm", "--network", "apart", "alpine", "apk", "update")
        assert "distinct packages available" in answer
    finally:
        lab.ok("network", "rm", "apart")

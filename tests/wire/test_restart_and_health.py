"""Restart policies and health checks with the real client, also across the ends of the daemon and
of the lab."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.wire.conftest import Lab, private_lab


def eventually(check: Callable[[], bool], *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def shown(lab: Lab, template: str, name: str) -> str:
    return lab.ok("inspect", "-f", template, name).strip()


def events(lab: Lab, name: str) -> list[str]:
    wanted = quote(json.dumps({"container": [shown(lab, "{{.Id}}", name)]}))
    _, text = lab.request("GET", f"/events?since=1&until={time.time():.9f}&filters={wanted}")
    lines = [json.dumps(text)] if isinstance(text, dict) else str(text).splitlines()
    return [json.loads(line)["Action"] for line in lines]


@pytest.fixture
def own() -> Iterator[Lab]:
    """A lab that a test may end."""
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    with private_lab() as lab:
        lab.ok("pull", "-q", "busybox")
        yield lab
        identifiers = lab.ok("ps", "-aq").split()
        if identifiers:
            lab.ok("rm", "-f", *identifiers)


def test_on_failure_tries_as_often_as_it_may(clean_lab: Lab) -> None:
    clean_lab.docker("run", "-d", "--name", "c1", "--restart", "on-failure:2", "busybox", "false")
    eventually(lambda: shown(clean_lab, "{{.State.Status}}", "c1") == "exited")
    assert shown(clean_lab, "{{.RestartCount}} {{.State.ExitCode}}", "c1") == "2 1"
    told = events(clean_lab, "c1")
    assert told.count("start") == 3
    assert told.count("die") == 3
    clean_lab.ok("run", "-d", "--name", "c2", "--restart", "on-failure:2", "busybox", "true")
    eventually(lambda: shown(clean_lab, "{{.State.Status}}", "c2") == "exited")
    assert shown(clean_lab, "{{.RestartCount}}", "c2") == "0"


def test_the_waits_between_restarts_double(clean_lab: Lab) -> None:
    clean_lab.ok("run", "-d", "--name", "c1", "--restart", "always", "busybox", "false")
    eventually(lambda: int(shown(clean_lab, "{{.RestartCount}}", "c1")) >= 4)
    wanted = quote(json.dumps({"container": [shown(clean_lab, "{{.Id}}", "c1")]}))
    _, text = clean_lab.request("GET", f"/events?since=1&until={time.time():.9f}&filters={wanted}")
    rows = [json.loads(line) for line in str(text).splitlines()]
    dies = [row["timeNano"] for row in rows if row["Action"] == "die"]
    starts = [row["timeNano"] for row in rows if row["Action"] == "start"]
    # No wait is shorter than Docker's: 100, 200, 400 ms …
    waits = [(start - die) / 1e6 for die, start in zip(dies, starts[1:], strict=False)]
    assert all(wait >= 100 * 2**number - 20 for number, wait in enumerate(waits[:4]))
    assert "Restarting (1)" in clean_lab.ok("ps", "-a") or "Up" in clean_lab.ok("ps", "-a")
    clean_lab.ok("stop", "-t", "0", "c1")
    assert shown(clean_lab, "{{.State.Status}}", "c1") == "exited"


def test_policies_hold_across_the_death_of_the_daemon_and_the_end_of_the_lab(own: Lab) -> None:
    for name, policy in (
        ("never", "no"), ("ever", "always"), ("ever-stopped", "always"),
        ("unless", "unless-stopped"), ("unless-stopped", "unless-stopped"),
    ):  # fmt: skip
        own.ok("run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "1d")
    own.ok("stop", "-t", "0", "ever-stopped", "unless-stopped")
    pid = shown(own, "{{.State.Pid}}", "never")
    own.kill()
    own.start()
    # The daemon's death ends nothing; `always` means also what was stopped by hand.
    assert shown(own, "{{.State.Pid}}", "never") == pid
    eventually(lambda: shown(own, "{{.State.Status}}", "ever-stopped") == "running")
    assert shown(own, "{{.State.Status}}", "unless-stopped") == "exited"
    own.ok("stop", "-t", "0", "ever-stopped")
    own.down()
    own.start()
    for name in ("ever", "unless", "ever-stopped"):
        eventually(lambda name=name: shown(own, "{{.State.Status}}", name) == "running")
    assert shown(own, "{{.State.Status}}", "never") == "exited"
    assert shown(own, "{{.State.Status}}", "unless-stopped") == "exited"


def test_a_health_check_tells_its_story(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "c1", "--health-cmd", "echo looked; test -e /well",
        "--health-interval", "100ms", "--health-retries", "2", "busybox", "sleep", "1d",
    )  # fmt: skip
    eventually(lambda: shown(clean_lab, "{{.State.Health.Status}}", "c1") == "unhealthy")
    assert "(unhealthy)" in clean_lab.ok("ps", "--filter", "health=unhealthy")
    clean_lab.ok("exec", "c1", "touch", "/well")
    eventually(lambda: shown(clean_lab, "{{.State.Health.Status}}", "c1") == "healthy")
    eventually(lambda: shown(clean_lab, "{{len .State.Health.Log}}", "c1") == "5")
    last = json.loads(shown(clean_lab, "{{json .State.Health}}", "c1"))
    assert last["FailingStreak"] == 0
    assert (last["Log"][-1]["ExitCode"], last["Log"][-1]["Output"]) == (0, "looked\n")
    told = events(clean_lab, "c1")
    assert told.index("health_status: unhealthy") < told.index("health_status: healthy")
    probe = "/bin/sh -c echo looked; test -e /well"
    assert f"exec_create: {probe}" in told
    assert f"exec_start: {probe}" in told
    assert "exec_die" in told


def test_failures_while_starting_do_not_count(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "c1", "--health-cmd", "false", "--health-interval", "50ms",
        "--health-start-period", "1h", "--health-start-interval", "50ms", "--health-retries", "1",
        "busybox", "sleep", "1d",
    )  # fmt: skip
    eventually(lambda: shown(clean_lab, "{{len .State.Health.Log}}", "c1") == "5")
    template = "{{.State.Health.Status}} {{.State.Health.FailingStreak}}"
    assert shown(clean_lab, template, "c1") == "starting 0"


def test_a_probe_that_hangs_is_ended_and_no_health_check_is_none(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "c1", "--health-cmd", "sleep 1d", "--health-interval", "50ms",
        "--health-timeout", "200ms", "--health-retries", "1", "busybox", "sleep", "1d",
    )  # fmt: skip
    eventually(lambda: shown(clean_lab, "{{.State.Health.Status}}", "c1") == "unhealthy")
    entry = json.loads(shown(clean_lab, "{{json .State.Health.Log}}", "c1"))[0]
    assert entry["ExitCode"] == -1
    assert entry["Output"].startswith("Health check exceeded timeout (200ms)")
    clean_lab.ok("run", "-d", "--name", "c2", "--no-healthcheck", "busybox", "sleep", "1d")
    assert shown(clean_lab, "{{.State.Health}}", "c2") == "<nil>"
    assert clean_lab.ok("ps", "--filter", "health=none", "--format", "{{.Names}}") == "c2\n"

"""Log drivers with the real client: files, options, rotation, forwarding, daemon.json."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.conftest import Lab, private_lab

LINES = "for i in $(seq 1 {n}); do echo line-$i; done"


@pytest.fixture
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[socket.socket, Path]]:
    """A datagram socket as a log service has one."""
    path = tmp_path_factory.mktemp("log") / "sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(20)
        yield server, path


def container_folder(lab: Lab, name: str) -> Path:
    identifier = lab.ok("inspect", "-f", "{{.Id}}", name).strip()
    return lab.paths.host_data() / "containers" / identifier


def wait_for(lab: Lab, name: str) -> None:
    lab.ok("wait", name)


def test_the_default_driver_writes_dockers_file(clean_lab: Lab) -> None:
    clean_lab.ok("run", "--name", "c1", "busybox", "sh", "-c", "echo out; echo err >&2")
    path = clean_lab.ok("inspect", "-f", "{{.LogPath}}", "c1").strip()
    assert path.startswith("/var/lib/docker/containers/")
    assert path.endswith("-json.log")
    rows = [
        json.loads(line)
        for line in (container_folder(clean_lab, "c1") / Path(path).name).read_text().splitlines()
    ]
    assert {(row["log"], row["stream"]) for row in rows} == {
        ("out\n", "stdout"),
        ("err\n", "stderr"),
    }
    assert clean_lab.docker("logs", "c1").stderr == "err\n"


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_rotation_keeps_the_newest_lines_in_order(clean_lab: Lab, driver: str) -> None:
    clean_lab.ok(
        "run", "--name", "c1", "--log-driver", driver, "--log-opt", "max-size=20k",
        "--log-opt", "max-file=3", "busybox", "sh", "-c", LINES.format(n=2000),
    )  # fmt: skip
    lines = clean_lab.ok("logs", "c1").splitlines()
    assert lines[-1] == "line-2000"
    first = int(lines[0].removeprefix("line-"))
    assert first > 1
    assert lines == [f"line-{number}" for number in range(first, 2001)]
    files = sorted(container_folder(clean_lab, "c1").glob("*.log*"))
    assert len(files) == 3
    assert all(file.stat().st_size <= 21_000 for file in files)
    # A tail that reaches over several files.
    tail = clean_lab.ok("logs", "--tail", "400", "c1").splitlines()
    assert tail == [f"line-{number}" for number in range(1601, 2001)]


def test_following_goes_on_through_rotation(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "-d", "--name", "c1", "--log-opt", "max-size=16k", "--log-opt", "max-file=10",
        "busybox", "sh", "-c", LINES.format(n=1200),
    )  # fmt: skip
    lines = clean_lab.ok("logs", "-f", "c1").splitlines()
    assert lines == [f"line-{number}" for number in range(1, 1201)]


def test_since_until_tail_and_timestamps(clean_lab: Lab) -> None:
    clean_lab.ok("run", "--name", "c1", "busybox", "sh", "-c", LINES.format(n=5))
    stamped = clean_lab.ok("logs", "-t", "c1").splitlines()
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z line-\d")
    assert all(form.fullmatch(line) for line in stamped)
    moment = stamped[2].split()[0]
    assert clean_lab.ok("logs", "--since", moment, "c1").splitlines()[0] in ("line-3", "line-1")
    assert clean_lab.ok("logs", "--until", moment, "c1").splitlines()[-1] in ("line-3", "line-5")
    assert clean_lab.ok("logs", "--tail", "0", "c1") == ""
    assert clean_lab.ok("logs", "--tail", "2", "c1") == "line-4\nline-5\n"
    assert clean_lab.ok("logs", "--since", "2100-01-01", "c1") == ""
    assert clean_lab.ok("logs", "--until", "1h", "c1") == ""


def test_details_show_labels_environment_and_tag(clean_lab: Lab) -> None:
    clean_lab.ok(
        "run", "--name", "c1", "--label", "tier=web", "--label", "team.a=x", "-e", "MODE=a b",
        "--log-opt", "labels=tier", "--log-opt", "labels-regex=^team", "--log-opt", "env=MODE",
        "--log-opt", "tag={{.Name}}/{{.ImageName}}", "busybox", "echo", "hi",
    )  # fmt: skip
    line = clean_lab.ok("logs", "--details", "c1")
    assert line == "MODE=a+b,tag=c1%2Fbusybox,team.a=x,tier=web hi\n"


def test_the_driver_none_keeps_nothing(clean_lab: Lab) -> None:
    done = clean_lab.docker("run", "--name", "c1", "--log-driver", "none", "busybox", "echo", "hi")
    assert done.stdout == "hi\n"
    done = clean_lab.docker("logs", "c1")
    assert "configured logging driver does not support reading" in done.stderr
    assert not list(container_folder(clean_lab, "c1").glob("*.log"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log-driver", "gelf"], "logger: no log driver named 'gelf' is registered"),
        (["--log-opt", "frob=1"], "unknown log opt 'frob' for json-file log driver"),
        (["--log-opt", "max-size=1k", "--log-opt", "max-file=0"], "max-file cannot be less than 1"),
        (["--log-opt", "mode=fast"], "logger: logging mode not supported: fast"),
        (["--log-opt", "max-buffer-size=1m"],
         "logger: max-buffer-size option is only supported with 'mode=non-blocking'"),
        (["--log-opt", "compress=true"], "compress cannot be true when max-file is less than 2"),
        (["--log-driver", "local", "--log-opt", "labels=a"], "unknown log opt 'labels'"),
        (["--log-driver", "syslog"], "syslog needs --log-opt syslog-address="),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=/dev/log"],
         "syslog-address should be in form proto://address, got /dev/log"),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=udp://h",
          "--log-opt", "syslog-facility=lunch"], "invalid syslog facility"),
        (["--log-opt", "tag={{.Nonsense}}"], "log tag: cannot evaluate"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(
    clean_lab: Lab, options: list[str], message: str
) -> None:
    done = clean_lab.docker("create", *options, "busybox", "true")
    assert done.returncode == 1
    assert message in done.stderr
    assert clean_lab.ok("ps", "-aq") == ""


def test_syslog_lines_arrive_and_docker_logs_works_too(
    clean_lab: Lab, receiver: tuple[socket.socket, Path]
) -> None:
    server, path = receiver
    clean_lab.ok(
        "run", "--name", "c1", "--log-driver", "syslog", "--log-opt",
        f"syslog-address=unixgram://{path}", "--log-opt", "tag=web", "--log-opt",
        "syslog-facility=local3", "busybox", "sh", "-c", "echo out; echo err >&2",
    )  # fmt: skip
    found = sorted(server.recv(65536).decode() for _ in range(2))
    # local3 is facility 19: 19 * 8 + 3 for errors, + 6 for output.
    form = r"<{}>\w{{3}} [ \d]\d \d\d:\d\d:\d\d web\[\d+\]: {}\n"
    assert re.fullmatch(form.format(155, "err"), found[0])
    assert re.fullmatch(form.format(158, "out"), found[1])
    assert clean_lab.docker("logs", "c1").stdout == "out\n"
    assert clean_lab.ok("inspect", "-f", "{{.LogPath}}|{{.HostConfig.LogConfig.Type}}", "c1") == (
        "|syslog\n"
    )


def test_rfc5424_has_its_fields(clean_lab: Lab, receiver: tuple[socket.socket, Path]) -> None:
    server, path = receiver
    clean_lab.ok(
        "run", "--rm", "--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{path}",
        "--log-opt", "syslog-format=rfc5424micro", "--log-opt", "tag={{.ImageName}}",
        "busybox", "echo", "hello",
    )  # fmt: skip
    text = server.recv(65536).decode()
    assert re.fullmatch(
        r"<30>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ busybox \d+ busybox - hello\n", text
    )


def test_journald_gets_fields_of_its_own_protocol(
    clean_lab: Lab, receiver: tuple[socket.socket, Path]
) -> None:
    server, path = receiver
    clean_lab.ok(
        "run", "--name", "c1", "--label", "my.tier=web", "--log-driver", "journald", "--log-opt",
        f"journald-address=unixgram://{path}", "--log-opt", "labels=my.tier",
        "busybox", "echo", "hello",
    )  # fmt: skip
    fields = dict(
        line.split("=", 1) for line in server.recv(65536).decode().splitlines() if "=" in line
    )
    assert fields["MESSAGE"] == "hello"
    assert fields["CONTAINER_NAME"] == "c1"
    assert fields["PRIORITY"] == "6"
    assert fields["MY_TIER"] == "web"
    assert len(fields["CONTAINER_ID_FULL"]) == 64


def test_a_container_does_not_start_without_its_log_service(clean_lab: Lab, tmp_path: Path) -> None:
    done = clean_lab.docker(
        "run", "--name", "c1", "--log-driver", "syslog", "--log-opt",
        f"syslog-address=unixgram://{tmp_path}/none", "busybox", "true",
    )  # fmt: skip
    assert done.returncode == 127  # the client reads "no such file or directory" so
    assert "failed to initialize logging driver: dial unixgram" in done.stderr


def test_what_was_printed_while_no_daemon_ran_is_forwarded_later(
    receiver: tuple[socket.socket, Path],
) -> None:
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    server, path = receiver
    with private_lab() as lab:
        lab.ok("pull", "-q", "busybox")
        lab.ok(
            "run", "-d", "--name", "c1", "--log-driver", "syslog", "--log-opt",
            f"syslog-address=unixgram://{path}", "busybox", "sh", "-c",
            "echo before; until [ -e /go ]; do sleep 0.05; done; echo after; sleep 1d",
        )  # fmt: skip
        assert server.recv(65536).decode().endswith("before\n")
        pid = int(lab.ok("inspect", "-f", "{{.State.Pid}}", "c1"))
        lab.kill()
        (Path(f"/proc/{pid}/root") / "go").touch()
        log = next((lab.paths.host_data() / "containers").glob("*/container-cached.log"))
        deadline = time.monotonic() + 20
        while "after" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        lab.start()
        assert server.recv(65536).decode().endswith("after\n")
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert not server.recv(65536), "a line was sent twice"
        lab.ok("rm", "-f", "c1")


# -- daemon.json ---------------------------------------------------------------------------------


def test_daemon_json_sets_the_driver_and_shows_in_info(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("the docker client is not installed")
    with private_lab() as lab:
        lab.down()
        folder = lab.paths.home / "etc"
        folder.mkdir(exist_ok=True)
        (folder / "daemon.json").write_text(json.dumps({
            "log-driver": "local", "log-opts": {"max-size": "1m"}, "labels": ["room=12"],
            "registry-mirrors": ["http://mirror.lab:5000"], "insecure-registries": ["reg.lab:5000"],
            "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}],
        }))  # fmt: skip
        lab.start()
        lab.ok("pull", "-q", "busybox")
        lab.ok("create", "--name", "c1", "busybox", "true")
        found = json.loads(lab.ok("inspect", "-f", "{{json .HostConfig.LogConfig}}", "c1"))
        assert found == {"Type": "local", "Config": {"max-size": "1m"}}
        lab.ok("create", "--name", "c2", "--log-driver", "json-file", "busybox", "true")
        found = json.loads(lab.ok("inspect", "-f", "{{json .HostConfig.LogConfig}}", "c2"))
        assert found == {"Type": "json-file", "Config": {}}
        info = json.loads(lab.ok("info", "-f", "{{json .}}"))
        assert info["LoggingDriver"] == "local"
        assert info["Labels"] == ["room=12"]
        assert info["RegistryConfig"]["Mirrors"] == ["http://mirror.lab:5000/"]
        assert info["RegistryConfig"]["IndexConfigs"]["reg.lab:5000"]["Secure"] is False
        assert info["DefaultAddressPools"] == [{"Base": "10.9.0.0/16", "Size": 24}]
        lab.ok("network", "create", "mine")
        found = json.loads(lab.ok("network", "inspect", "-f", "{{json .IPAM.Config}}", "mine"))
        assert found[0]["Subnet"].startswith("10.9.")
        lab.ok("network", "rm", "mine")
        lab.ok("rm", "c1", "c2")

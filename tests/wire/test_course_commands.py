"""The course's commands for one host, line by line through the real client, outcomes asserted.

One long session on one lab, as a student has it. Each test is a part of the course; within it the
commands build on each other.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.conftest import Lab

PROMPT = re.compile(rb"[#$] (\x1b\[6n)?\Z")
DOCKERFILE = """\
FROM busybox
ENV MODE=web
VOLUME /data
EXPOSE 8080
RUN mkdir -p /www && echo page > /www/index.html
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""


@pytest.fixture(scope="module")
def web(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab with `web`, an image with a port, a volume and a server."""
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text(DOCKERFILE)
    assert "Successfully tagged web:latest" in lab.ok("build", "--tag", "web", str(context))
    return lab


@pytest.fixture
def host(web: Lab) -> Iterator[Lab]:
    """Without containers afterwards: the course's own way to get rid of all of them."""
    yield web
    identifiers = web.ok("container", "ls", "--all", "--quiet").split()
    if identifiers:
        web.ok("container", "rm", "--force", "--volumes", *identifiers)


def typed(lab: Lab, words: list[str], *keys: str, until: str) -> str:
    """A command on a terminal: type `keys`, read until the text `until` has come and it ends."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["docker", *words], env=lab.env, stdin=slave, stdout=slave, stderr=slave, close_fds=True
    )
    os.close(slave)
    seen, out = b"", b""
    pending = list(keys)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                piece = os.read(master, 4096)
            except OSError:
                break
            if not piece:
                break
            out += piece
        if pending and PROMPT.search(out):
            os.write(master, pending.pop(0).encode())
            seen, out = seen + out, b""
        elif process.poll() is not None:
            break
    os.close(master)
    process.kill()
    process.wait()
    text = (seen + out).decode(errors="replace")
    assert until in text, text
    return text


def port_of(lab: Lab, name: str) -> int:
    """The published port of a container on the machine."""
    return int(lab.ok("port", name).splitlines()[0].rpartition(":")[2])


def fetched(lab: Lab, name: str, address: str) -> str:
    """What a server answers to somebody in the container's own network."""
    return lab.ok("exec", name, "wget", "-q", "-O", "-", address)


def eventually(check: object, *, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    assert callable(check)
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_versions_and_info(host: Lab) -> None:
    assert host.ok("--version").startswith("Docker version")
    assert host.ok("-v") == host.ok("--version")
    text = host.ok("version")
    assert "Client:" in text
    assert "Server:" in text
    for words in (("info",), ("system", "info")):
        assert "Storage Driver: overlay2" in host.ok(*words)


def test_running_containers_in_every_spelling(host: Lab) -> None:
    assert host.ok("container", "run", "busybox", "echo", "one") == "one\n"
    assert host.ok("run", "busybox", "echo", "two") == "two\n"
    identifier = host.ok("container", "run", "--detach", "--name", "first", "web").strip()
    assert re.fullmatch(r"[0-9a-f]{64}", identifier)
    host.ok("run", "--detach", "--name", "second", "web")
    host.ok("run", "-d", "web")
    host.ok("container", "run", "--detach", "--rm", "busybox", "sleep", "1d")
    host.ok("container", "run", "--detach", "busybox", "sleep", "1d")
    host.ok("run", "--detach", "--interactive", "--tty", "--name", "third", "busybox", "sh")
    running = host.ok("container", "ls", "--format", "{{.Names}}").split()
    assert {"first", "second", "third"} <= set(running)
    assert len(running) == 6
    assert identifier in host.ok("container", "ls", "--no-trunc")
    assert host.ok("ps", "--quiet").split()[-1] == identifier[:12]
    made = host.ok("create", "web").strip()
    assert host.ok("create", "busybox", "echo", "later").strip() != made
    assert host.ok("run", "--entrypoint", "hostname", "busybox").strip()
    done = host.docker("run", "busybox", "nosuch")
    assert done.returncode == 127


def test_interactive_containers_on_a_terminal(host: Lab) -> None:
    words = ["container", "run", "--interactive", "--tty", "--name", "typed", "busybox", "sh"]
    typed(host, words, "echo $((6*7))\n", "exit\n", until="42")
    words = ["container", "run", "--interactive", "--rm", "--tty", "busybox", "sh"]
    typed(host, words, "hostname -i || true; echo gone-$((1+1))\n", "exit\n", until="gone-2")
    words = ["run", "--interactive", "--tty", "busybox"]
    typed(host, words, "echo $((2+3))5\n", "exit\n", until="55")
    host.ok("container", "run", "-d", "-it", "--name", "shell", "busybox", "sh")
    words = ["container", "exec", "--interactive", "--tty", "shell", "sh"]
    typed(host, words, "tty; exit\n", until="/dev/pts/")
    words = ["exec", "--interactive", "--tty", "shell", "sh"]
    typed(host, words, "echo $((8*8))\n", "exit\n", until="64")
    assert host.ok("ps", "--filter", "name=shell", "--format", "{{.Status}}").startswith("Up")


def test_listing_and_filtering(host: Lab) -> None:
    host.ok("run", "--name", "done", "busybox", "true")
    host.ok("run", "-d", "--name", "busy", "busybox", "sleep", "1d")
    assert host.ok("ps", "--format", "{{.Names}}") == "busy\n"
    assert host.ok("ps", "--all", "--format", "{{.Names}}") == "busy\ndone\n"
    assert host.ok("ps", "--latest", "--format", "{{.Names}}") == "busy\n"
    assert host.ok("ps", "--last", "2", "--format", "{{.Names}}") == "busy\ndone\n"
    assert host.ok("ps", "--filter", "status=exited", "--format", "{{.Names}}") == "done\n"
    assert "virtual" in host.ok("ps", "--size")
    titles = host.ok("ps").splitlines()[0]
    assert re.split(r" {2,}", titles.strip()) == [
        "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES",
    ]  # fmt: skip
    assert len(host.ok("container", "ls", "--all", "--quiet").split()) == 2


def test_looking_into_containers(host: Lab) -> None:
    host.ok("run", "-d", "--name", "box", "-e", "A=1", "busybox", "sleep", "1d")
    assert host.ok("container", "exec", "box", "sh", "-c", "echo $A") == "1\n"
    assert host.ok("exec", "box", "pwd") == "/\n"
    found = json.loads(host.ok("container", "inspect", "box"))[0]
    assert found["Name"] == "/box"
    state = json.loads(host.ok("container", "inspect", "--format", "{{json .State}}", "box"))
    assert state["Running"] is True
    assert host.ok("inspect", "--format", "{{json .Mounts}}", "box") == "[]\n"
    done = host.docker("inspect", "--format",
                       "{{ .NetworkSettings.Networks.nat.IPAddress }}", "box")  # fmt: skip
    # What the client makes of a network that is not there; on Linux it is called bridge.
    assert done.stdout == "<no value>\n" or "map has no entry for key" in done.stderr
    titles, row = host.ok("container", "top", "box").splitlines()
    assert titles.split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert row.endswith("sleep 1d")
    host.ok("exec", "box", "touch", "/new")
    assert "A /new" in host.ok("container", "diff", "box").splitlines()
    text = host.ok("container", "stats", "--no-stream", "box")
    assert "CPU %" in text


def test_logs_in_every_spelling(host: Lab) -> None:
    script = "for i in 1 2 3; do echo line-$i; done; echo bad >&2; exit 4"
    host.docker("run", "--name", "talk", "busybox", "sh", "-c", script)
    for words in (("container", "logs"), ("logs",), ("logs", "--follow"), ("logs", "--details")):
        assert "line-1" in host.ok(*words, "talk")
    assert host.ok("container", "logs", "--tail", "1", "talk") in ("line-3\n", "")
    host.ok("run", "--name", "plain", "busybox", "sh", "-c", "seq 5")
    assert host.ok("container", "logs", "--follow", "--tail", "2", "plain") == "4\n5\n"
    assert host.ok("logs", "--tail", "1", "plain") == "5\n"
    assert re.match(r"\d{4}-\d\d-\d\dT", host.ok("logs", "--timestamps", "plain"))
    assert host.ok("logs", "--since", "1h", "plain") == "1\n2\n3\n4\n5\n"
    assert host.ok("logs", "--until", "1h", "plain") == ""
    host.ok("run", "--log-driver", "none", "--name", "mute", "busybox")
    assert host.docker("logs", "mute").returncode == 1


def test_starting_and_ending(host: Lab) -> None:
    host.ok("create", "--name", "life", "busybox", "sh", "-c", "echo up; sleep 1d")
    host.ok("container", "start", "life")
    assert host.docker("rm", "life").returncode == 1
    host.ok("stop", "--time", "0", "life")
    assert "Exited (137)" in host.ok("ps", "-a", "--filter", "name=life")
    host.ok("start", "life")
    host.ok("kill", "life")
    host.ok("start", "life")
    host.ok("kill", "--signal", "KILL", "life")
    eventually(lambda: "Exited (137)" in host.ok("ps", "-a", "--filter", "name=life"))
    host.ok("restart", "-t", "0", "life")
    host.ok("container", "stop", "-t", "0", "life")
    assert host.ok("container", "rm", "life") == "life\n"
    host.ok("create", "--name", "says", "busybox", "echo", "said")
    assert host.ok("start", "--attach", "says") == "said\n"
    host.ok("create", "-i", "--name", "asks", "busybox", "cat")
    assert host.ok("start", "--interactive", "asks", given="typed\n") == "typed\n"
    host.ok("start", "--detach-keys", "ctrl-x", "asks")
    for word in ("one", "two"):
        host.ok("run", "-d", "--name", word, "busybox", "sleep", "1d")
    host.ok("container", "stop", "-t", "0", "one", "two")
    assert host.ok("container", "rm", "--force", "one", "two") == "one\ntwo\n"
    host.ok("rm", "--force", "asks")
    assert host.ok("rm", "--volumes", "says") == "says\n"
    done = host.docker("rm", "--link", "says")
    assert done.returncode == 1


def test_attach_sees_what_goes_on(host: Lab) -> None:
    script = "until [ -e /go ]; do sleep 0.05; done; echo went"
    host.ok("run", "-d", "--name", "slow", "busybox", "sh", "-c", script)
    process = subprocess.Popen(
        ["docker", "container", "attach", "slow"], env=host.env, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: "attach" in events_of(host, "slow"))
    host.ok("exec", "slow", "touch", "/go")
    out, _ = process.communicate(timeout=30)
    assert out == b"went\n"


def events_of(host: Lab, name: str) -> list[str]:
    _, text = host.request("GET", f"/events?since=1&until={time.time():.6f}")
    rows = [json.loads(line) for line in str(text).splitlines()] if isinstance(text, str) else []
    return [row["Action"] for row in rows if row["Actor"]["Attributes"].get("name") == name]


def test_ports(host: Lab) -> None:
    host.ok("container", "run", "-d", "--name", "fixed", "--publish", "127.0.0.1:18080:8080",
            "web")  # fmt: skip
    assert host.ok("container", "port", "fixed") == "8080/tcp -> 127.0.0.1:18080\n"
    host.ok("container", "run", "--detach", "--name", "any", "--publish-all", "web")
    assert port_of(host, "any") >= 32768
    host.ok("container", "run", "-d", "--rm", "--name", "short", "--publish", "18081:8080", "web")
    assert "0.0.0.0:18081" in host.ok("port", "short")
    assert "0.0.0.0:18081->8080/tcp" in host.ok("ps", "--filter", "name=short")
    eventually(lambda: host.docker("exec", "fixed", "wget", "-q", "-O", "-",
                                   "http://127.0.0.1:8080").stdout == "page\n")  # fmt: skip
    host.ok("container", "stop", "-t", "0", "short")
    eventually(lambda: host.ok("ps", "-a", "--filter", "name=short", "-q") == "")


def test_volumes(host: Lab, tmp_path: Path) -> None:
    assert host.ok("volume", "create", "kept") == "kept\n"
    assert "kept" in host.ok("volume", "ls")
    found = json.loads(host.ok("volume", "inspect", "kept"))[0]
    assert found["Mountpoint"] == "/var/lib/docker/volumes/kept/_data"
    host.ok("container", "run", "-d", "--name", "db", "-e", "A=1", "--volume", "kept:/data",
            "web")  # fmt: skip
    host.ok("exec", "db", "sh", "-c", "echo row > /data/table")
    host.ok("container", "rm", "-f", "db")
    words = ("--rm", "--volume", "kept:/data:ro", "busybox")
    assert host.ok("container", "run", *words, "cat", "/data/table") == "row\n"
    assert host.docker("container", "run", *words, "touch", "/data/x").returncode == 1
    host.ok("container", "run", "-d", "-it", "--name", "mm", "--mount", "source=made,target=/m",
            "busybox")  # fmt: skip
    host.ok("container", "run", "--volume", "/anonymous", "busybox")
    host.ok("container", "run", "--detach", "--publish", "18082:8080", "--volume",
            f"{tmp_path}:/www", "--name", "site", "web")  # fmt: skip
    (tmp_path / "index.html").write_text("mine\n")
    eventually(lambda: host.docker("exec", "site", "wget", "-q", "-O", "-",
                                   "http://127.0.0.1:8080").stdout == "mine\n")  # fmt: skip
    done = host.docker("volume", "rm", "made")
    assert "volume is in use - [" in done.stderr
    assert host.ok("volume", "rm", "kept") == "kept\n"
    host.ok("rm", "-f", "mm")
    host.ok("volume", "rm", "made")
    assert "Total reclaimed space" in host.ok("volume", "prune", "-f")


def test_images(host: Lab, tmp_path: Path) -> None:
    assert "busybox" in host.ok("image", "ls")
    assert host.ok("image", "ls", "--all", "--quiet")
    assert "DIGEST" in host.ok("image", "ls", "--digests")
    assert "/bin/sh -c #(nop)" in host.ok("image", "history", "--no-trunc", "web")
    assert host.ok("history", "web").splitlines()[0].split()[0] == "IMAGE"
    found = json.loads(host.ok("image", "inspect", "web"))[0]
    assert found["Config"]["Volumes"] == {"/data": {}}
    done = host.docker("image", "inspect", "--format", "{{json .ContainerConfig.Volumes}}", "web")
    assert done.returncode == 1  # the field is gone since API 1.45
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCMD echo built\n")
    host.ok("image", "build", "--tag", "built", str(tmp_path))
    assert host.ok("run", "--rm", "built") == "built\n"
    host.ok("build", str(tmp_path))
    host.ok("tag", "built", "built:2")
    host.ok("container", "run", "--name", "change", "busybox", "touch", "/changed")
    host.ok("container", "commit", "change", "changed")
    host.ok("commit", "--change", 'CMD ["ls", "/changed"]', "change", "changed:2")
    assert host.ok("run", "--rm", "changed:2") == "/changed\n"
    host.ok("image", "rm", "--force", "changed", "changed:2", "built")
    assert "Untagged: built:2" in host.ok("image", "rm", "built:2")
    host.ok("image", "prune", "--force")
    host.ok("pull", "busybox")
    host.ok("image", "pull", "busybox")


def test_networks(host: Lab) -> None:
    names = host.ok("network", "ls", "--format", "{{.Name}}").split()
    assert names == ["bridge", "host", "none"]
    host.ok("network", "create", "--driver", "bridge", "sample")
    host.ok("network", "create", "other")
    host.ok("container", "run", "--detach", "--name", "c1", "--network", "sample", "web")
    host.ok("container", "run", "--detach", "--network", "sample", "--network-alias", "named",
            "web")  # fmt: skip
    words = ("--rm", "--network", "sample", "busybox")
    assert "1 packets received" in host.ok("container", "run", *words, "ping", "-c", "1", "c1")
    assert "1 packets received" in host.ok("run", *words, "ping", "-c", "1", "named")
    done = host.docker("run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", "c1")
    assert "bad address 'c1'" in done.stderr
    host.ok("network", "connect", "other", "c1")
    found = json.loads(host.ok("network", "inspect", "other"))[0]
    assert [row["Name"] for row in found["Containers"].values()] == ["c1"]
    host.ok("network", "disconnect", "other", "c1")
    words = ("--rm", "--network", "container:c1", "busybox", "wget", "-q", "-O", "-")
    eventually(lambda: host.docker("run", *words, "http://127.0.0.1:8080").stdout == "page\n")
    assert host.ok("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo\n"
    assert "docker0" in host.ok("run", "--rm", "--network", "host", "busybox", "ls",
                                "/sys/class/net")  # fmt: skip
    assert "other" in host.ok("network", "prune", "-f")
    for identifier in host.ok("ps", "-q").split():
        host.ok("rm", "-f", identifier)
    host.ok("network", "rm", "sample")


def test_housekeeping(host: Lab) -> None:
    host.ok("run", "busybox", "true")
    rows = [line.split()[0] for line in host.ok("system", "df").splitlines()[1:]]
    assert rows == ["Images", "Containers", "Local", "Build"]
    assert "Containers space usage" in host.ok("system", "df", "--verbose")
    assert "WARNING" in host.ok("container", "prune", given="y\n")
    host.ok("container", "prune", "--force")
    assert "all dangling images" in host.ok("system", "prune", given="y\n")
    assert "all images without at least one container" in host.ok(
        "system", "prune", "--all", given="n\n"
    )
    assert host.ok("image", "ls", "-q")

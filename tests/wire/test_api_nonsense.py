"""Nonsense over the API: never a 5xx that is not our honest "cannot", never a change of state."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from labkit.daemon.docker_api import (
    archives,
    commits,
    container_files,
    container_io,
    containers,
    execs,
    images,
    networks,
    system,
    volumes,
)
from labkit.daemon.lab_api import boxes, host_exec, views

from .conftest import Lab, _Connection

SEED = int(os.environ.get("LABKIT_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
ROUTES = [
    route
    for module in (
        system,
        containers,
        container_io,
        container_files,
        execs,
        archives,
        commits,
        images,
        networks,
        volumes,
    )
    for route in module.ROUTES
]
LAB_ROUTES = [route for module in (views, boxes, host_exec) for route in module.ROUTES]
WORDS = [
    "", "0", "-1", "1e9", "9" * 40, "a b", "..", "../../etc", "%00", "\x00", "é" * 100, "x" * 5000,
    "'; drop table containers; --", "{}", "[]", "null", "true", "keep", "keep\n", "/", "sha256:",
    "sha256:" + "0" * 64, "UPPER/case", "a:b:c", "-", "🐳",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 1 << 62, 1.5, "", "x", "x" * 3000, [], [None], {}, {"a": {"b": [1]}},
    ["a", 1],
]  # fmt: skip
KEYS = [
    "Image", "Cmd", "Env", "Entrypoint", "HostConfig", "Labels", "Tty", "User", "WorkingDir",
    "Hostname", "ExposedPorts", "Volumes", "NetworkingConfig", "Healthcheck", "StopSignal",
    "StopTimeout", "Detach", "ConsoleSize", "AttachStdin", "Privileged", "RestartPolicy",
    "Memory", "CpuShares", "Name", "serveraddress", "op", "args", "argv", "env", "cwd", "name",
    "labels", "Driver", "DriverOpts", "Labels", "Options", "IPAM", "EnableIPv6", "Internal",
    "Container", "EndpointConfig", "AttachStdout", "Cmd", "DetachKeys",
]  # fmt: skip
HOST_KEYS = [
    "Binds", "Memory", "NanoCpus", "CpuPeriod", "PidsLimit", "CapAdd", "CapDrop", "RestartPolicy",
    "NetworkMode", "Mounts", "Tmpfs", "Ulimits", "SecurityOpt", "PortBindings", "LogConfig",
    "ShmSize", "PidMode", "IpcMode", "UsernsMode", "Devices", "Sysctls", "ExtraHosts", "Dns",
    "ReadonlyPaths", "MaskedPaths", "OomScoreAdj", "CpusetCpus", "AutoRemove", "Init", "Runtime",
]  # fmt: skip
QUERY_NAMES = [
    "all", "limit", "filters", "t", "signal", "name", "h", "w", "since", "until", "tail", "stdout",
    "condition", "fromImage", "tag", "repo", "force", "v", "stream", "ps_args", "detachKeys",
    "type", "platform", "path", "container", "changes", "pause", "comment", "author", "fromSrc",
    "message", "noOverwriteDirNonDir", "copyUIDGID", "one-shot", "size", "digests", "verbose",
]  # fmt: skip


def _requests(dice: random.Random, count: int, routes: list[Any]) -> Iterator[tuple[str, str, Any]]:
    for _ in range(count):
        route = dice.choice(routes)
        path = route.path
        while "{" in path:
            start, _, rest = path.partition("{")
            path = start + quote(dice.choice(WORDS) or "x", safe="") + rest.partition("}")[2]
        query = "&".join(
            f"{name}={quote(dice.choice(WORDS))}"
            for name in dice.sample(QUERY_NAMES, dice.randrange(4))
        )
        if "logs" in path or "events" in path or "stats" in path:
            # The first value of a name counts: these would go on for as long as `keep` runs.
            query = "stdout=1&until=1&stream=0&follow=0&" + query
        body: Any = None
        if route.method == "POST":
            body = {key: dice.choice(VALUES) for key in dice.sample(KEYS, dice.randrange(5))}
            if dice.random() < 0.5:
                body["Image"] = "busybox"
                body["HostConfig"] = {
                    key: dice.choice(VALUES) for key in dice.sample(HOST_KEYS, dice.randrange(4))
                }
        yield route.method, path + ("?" + query if query else ""), body


NESTED: dict[str, list[Any]] = {
    "Mounts": [
        [{"Type": word, "Source": source, "Target": target, **options}]
        for word in ("bind", "volume", "tmpfs", "npipe", "", "x")
        for source, target in (("/", "/d"), ("", ""), ("../x", "/d"), ("v1", "../.."), ("/no", "/"))
        for options in (
            {},
            {"BindOptions": {"Propagation": "x", "NonRecursive": 1}},
            {"VolumeOptions": {"Subpath": "../..", "NoCopy": "x", "DriverConfig": {"Name": 5}}},
            {"VolumeOptions": {"Labels": {"a": 1}, "DriverConfig": {"Options": {"type": "x"}}}},
            {"TmpfsOptions": {"SizeBytes": "x", "Mode": -1, "Options": [[1], "exec"]}},
        )
    ],
    "LogConfig": [
        {"Type": kind, "Config": {name: value}}
        for kind in ("", "json-file", "local", "syslog", "journald", "none", "x")
        for name in ("max-size", "max-file", "tag", "mode", "labels-regex", "syslog-address", "x")
        for value in ("", "-1", "x", "{{.Name", "(", "unix://", "udp://[", "9" * 30)
    ],
    "Binds": [["/:/d:x"], ["a:b"], [":"], ["v:/d:ro,rw"], ["/../..:/d"], ["v/../x:/d"], [""]],
    "VolumesFrom": [["keep:x"], ["nobody"], [":"], ["keep:ro,ro"]],
    "Tmpfs": [{"/t": "frob"}, {"t": ""}, {"/t": "size=x"}, {"/": "size=1k"}],
    "PortBindings": [{"80/tcp": [{"HostPort": "x"}]}, {"x": None}, {"80": [{"HostIp": "x"}]}],
}
"""HostConfig values that are nearly right."""


@pytest.mark.parametrize("key", NESTED)
def test_values_that_are_nearly_right_are_refused_or_meant(clean_lab: Lab, key: str) -> None:
    lab = clean_lab
    lab.ok("run", "-d", "--name", "keep", "-v", "/data", "busybox", "sleep", "1d")
    before = _world(lab)
    for value in NESTED[key]:
        body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {key: value}}
        status, answer = lab.request("POST", "/containers/create", body)
        what = f"{key}: {json.dumps(value)} → {status} {str(answer)[:300]}"
        # 503: a name that reads like a registry's, which nobody can look up here.
        assert status < 500 or status in (501, 503), what + lab.log()
        if status == 201:
            started, answer2 = lab.request("POST", f"/containers/{answer['Id']}/start")
            assert started < 500 or "mount" in answer2["message"], what + str(answer2)
            removed = lab.request("DELETE", f"/containers/{answer['Id']}?force=1&v=1")[0]
            assert removed == 204, what
        else:
            assert answer["message"], what
    assert _world(lab) == before
    lab.ok("volume", "prune", "-af")


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(1024), b"\x1f\x8b" + bytes(50), b"\x28\xb5\x2f\xfd" + bytes(50), b"x" * 5000],
)
def test_bodies_that_are_no_archives_change_nothing(clean_lab: Lab, data: bytes) -> None:
    lab = clean_lab
    lab.ok("run", "-d", "--name", "keep", "busybox", "sleep", "1d")
    before = _world(lab)
    for method, path in (
        ("PUT", "/containers/keep/archive?path=/tmp"),
        ("POST", "/images/create?fromSrc=-"),
        ("POST", "/images/load"),
        ("POST", "/build?q=1"),
    ):
        connection = _Connection(lab.paths.docker_socket)
        connection.request(method, path, data, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        assert answer.status < 500, f"{method} {path}: {answer.status} {text}{lab.log()}"
        assert "Traceback" not in text
    lab.ok("image", "prune", "-f")
    assert _world(lab) == before
    assert lab.ok("exec", "keep", "ls", "/tmp") == ""


def _world(lab: Lab) -> Any:
    """What must not change: the container that was there, and the images."""
    [keep] = [c for c in json.loads(_get(lab, "/containers/json?all=1")) if "/keep" in c["Names"]]
    return keep["Id"], keep["State"], _get(lab, "/images/json")


def _get(lab: Lab, path: str) -> str:
    status, found = lab.request("GET", path)
    assert status == 200
    return json.dumps(found)


_MAKERS = ("/auth", "/images/create", "/volumes/create", "/v1/boxes", "/v1/host/exec")


def _is_meaningful(method: str, path: str) -> bool:
    """Requests that are not nonsense: they would wait for a long time or rightly change `keep`."""
    bare = path.partition("?")[0]
    return (
        (method in ("POST", "DELETE") and "/keep" in bare)
        or (method == "DELETE" and bare.startswith("/images/"))
        or (method == "POST" and bare in _MAKERS)
        or bare.startswith("/events")
        or bare.endswith(("prune", "/tag", "/push", "/load"))
    )


@pytest.mark.parametrize("which", ["docker", "lab"])
def test_random_requests_are_refused_in_words(clean_lab: Lab, which: str) -> None:
    print(f"LABKIT_TEST_SEED={SEED}")
    lab = clean_lab
    lab.ok("run", "-d", "--name", "keep", "busybox", "sleep", "1d")
    before = _world(lab)
    dice = random.Random(SEED)
    routes = ROUTES if which == "docker" else LAB_ROUTES
    made = 0
    for method, path, body in _requests(dice, 600, routes):
        if _is_meaningful(method, path):
            continue
        status, answer = lab.request(method, path, body, lab=which == "lab")
        what = f"{method} {path} {json.dumps(body)[:600]} → {status} {str(answer)[:400]}"
        # 503: a name that reads like a registry's, which nobody can look up here.
        assert status < 500 or status in (501, 503), what + lab.log()
        if status == 201 and path.startswith("/containers/create"):
            made += 1
            assert lab.request("DELETE", f"/containers/{answer['Id']}?force=1")[0] == 204, what
        elif status >= 400 and method != "HEAD":
            assert isinstance(answer, dict), what
            assert answer["message"], what
            assert "Traceback" not in answer["message"], what
    assert _world(lab) == before
    assert len(json.loads(_get(lab, "/containers/json?all=1"))) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + bytes(200),
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: d\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -5\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 99999999999\r\n\r\n{",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /containers/keep/attach HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\n\r\nearly",
    ],
)
def test_what_is_not_http_costs_nothing(clean_lab: Lab, data: bytes) -> None:
    for path in (clean_lab.paths.docker_socket, clean_lab.paths.lab_socket):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert b"Traceback" not in client.recv(65536)
    assert clean_lab.request("GET", "/_ping")[0] == 200

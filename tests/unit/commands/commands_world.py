"""What the fake engine of the command tests has: containers, images, networks, volumes."""

from __future__ import annotations

import socket
from typing import Any

from commands_fake import Answer, FakeEngine, Request, frame

WEB = "1" * 12 + "a" * 52
DB = "2" * 12 + "b" * 52
ALPINE = "sha256:" + "c" * 64
DIGEST = "sha256:" + "d" * 64
CREATED = 1700000000

LISTING: list[dict[str, Any]] = [
    {
        "Id": WEB,
        "Names": ["/web", "/db/alias"],
        "Image": "nginx:1.25",
        "ImageID": ALPINE,
        "Command": "/docker-entrypoint.sh nginx -g 'daemon off;'",
        "Created": CREATED,
        "Ports": [
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
            {"PrivatePort": 444, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
        ],
        "Labels": {"com.example.role": "front", "a": "b"},
        "State": "running",
        "Status": "Up 2 hours",
        "SizeRw": 1095,
        "SizeRootFs": 187654321,
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {"Networks": {"bridge": {}}},
        "Mounts": [
            {"Type": "volume", "Name": "v" * 64, "Driver": "local", "Destination": "/data"},
            {"Type": "bind", "Source": "/srv/www", "Destination": "/www"},
        ],
    },
    {
        "Id": DB,
        "Names": ["/db"],
        "Image": ALPINE,
        "ImageID": ALPINE,
        "Command": 'sh -c "é\n"',
        "Created": CREATED - 86400 * 400,
        "Ports": [],
        "Labels": {},
        "State": "exited",
        "Status": "Exited (0) 3 minutes ago",
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {"none": {}}},
        "Mounts": [],
    },
]

DETAILS: dict[str, Any] = {
    "Id": WEB,
    "Created": "2026-01-02T03:04:05.678901234Z",
    "Path": "nginx",
    "Args": ["-g", "daemon off;"],
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 4242,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2026-01-02T03:04:06.1Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
    },
    "Image": ALPINE,
    "Name": "/web",
    "RestartCount": 0,
    "Driver": "overlay2",
    "Platform": "linux",
    "HostConfig": {"NetworkMode": "bridge", "Memory": 67108864, "Binds": ["/srv:/srv"]},
    "Mounts": [
        {
            "Type": "bind",
            "Source": "/srv/www",
            "Destination": "/www",
            "Mode": "ro",
            "RW": False,
            "Propagation": "rprivate",
        }
    ],
    "Config": {
        "Hostname": "111111111111",
        "Tty": False,
        "OpenStdin": False,
        "Env": ["PATH=/bin", "A=<b>&c"],
        "Cmd": ["nginx"],
        "Image": "nginx:1.25",
        "Labels": {"com.example.role": "front", "a": "b"},
    },
    "NetworkSettings": {
        "Ports": {
            "80/tcp": [
                {"HostIp": "0.0.0.0", "HostPort": "8080"},
                {"HostIp": "::", "HostPort": "8080"},
            ],
            "443/tcp": None,
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        },
        "IPAddress": "172.17.0.2",
        "Networks": {
            "bridge": {"IPAddress": "172.17.0.2", "Gateway": "172.17.0.1", "IPPrefixLen": 16}
        },
    },
}

IMAGES: list[dict[str, Any]] = [
    {
        "Id": ALPINE,
        "ParentId": "",
        "RepoTags": ["alpine:latest", "alpine:3.19"],
        "RepoDigests": [f"alpine@{DIGEST}"],
        "Created": CREATED,
        "Size": 7377853,
        "SharedSize": -1,
        "Labels": None,
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "9" * 64,
        "ParentId": "",
        "RepoTags": ["localhost:5000/me/app:v1"],
        "RepoDigests": [],
        "Created": CREATED + 500,
        "Size": 123456789,
        "SharedSize": -1,
        "Labels": None,
        "Containers": -1,
    },
    {
        "Id": "sha256:" + "e" * 64,
        "ParentId": "",
        "RepoTags": [],
        "RepoDigests": [],
        "Created": CREATED + 1000,
        "Size": 0,
        "SharedSize": -1,
        "Labels": {},
        "Containers": -1,
    },
]

HISTORY = [
    {
        "Id": ALPINE,
        "Created": CREATED,
        "CreatedBy": '/bin/sh -c #(nop)  CMD ["/bin/sh"]',
        "Tags": ["alpine:latest"],
        "Size": 0,
        "Comment": "",
    },
    {
        "Id": "<missing>",
        "Created": CREATED - 1,
        "CreatedBy": "/bin/sh -c #(nop) ADD file:ff3112828967e8004 in / and a lot more of text",
        "Tags": None,
        "Size": 7377853,
        "Comment": "buildkit.dockerfile.v0",
    },
]

NETWORKS = [
    {
        "Name": name,
        "Id": digit * 64,
        "Created": "2026-01-02T03:04:05.678901234Z",
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": True,
        "EnableIPv6": False,
        "Internal": False,
        "Labels": {},
        "Options": {},
        "Containers": {},
    }
    for name, digit, driver in (
        ("net10", "5", "bridge"),
        ("host", "6", "host"),
        ("net9", "7", "bridge"),
        ("bridge", "8", "bridge"),
    )
]

VOLUMES = {
    "Volumes": [
        {
            "CreatedAt": "2026-01-02T03:04:05Z",
            "Driver": "local",
            "Labels": {"x": "y"},
            "Mountpoint": f"/var/lib/docker/volumes/{name}/_data",
            "Name": name,
            "Options": None,
            "Scope": "local",
        }
        for name in ("data", "cache2", "cache10")
    ],
    "Warnings": None,
}

PULL: list[dict[str, Any]] = [
    {"status": "Pulling from library/alpine", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "4abcf2066143"},
    {
        "status": "Downloading",
        "progressDetail": {"current": 1000, "total": 3400000},
        "progress": "[>      ]",
        "id": "4abcf2066143",
    },
    {"status": "Verifying Checksum", "progressDetail": {}, "id": "4abcf2066143"},
    {"status": "Pull complete", "progressDetail": {}, "id": "4abcf2066143"},
    {"status": f"Digest: {DIGEST}"},
    {"status": "Status: Downloaded newer image for alpine:latest"},
]


def missing(kind: str) -> Any:
    def answer(request: Request) -> Answer:
        name = request.path.split("/")[2]
        return Answer(404, {"message": f"No such {kind}: {name}"})

    return answer


def pruned(key: str, names: list[Any]) -> dict[str, Any]:
    return {key: names, "SpaceReclaimed": 12345}


EVENTS: list[dict[str, Any]] = [
    {
        "status": "start",
        "id": WEB,
        "from": "nginx",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": WEB, "Attributes": {"image": "nginx", "name": "web", "b": "<c>"}},
        "scope": "local",
        "time": CREATED,
        "timeNano": CREATED * 1000000000 + 123456789,
    },
    {
        "Type": "network",
        "Action": "connect",
        "Actor": {"ID": "n", "Attributes": {}},
        "scope": "local",
        "time": CREATED + 1,
        "timeNano": (CREATED + 1) * 1000000000,
    },
]

USAGE: dict[str, Any] = {
    "LayersSize": 7377853,
    "Images": [
        {**IMAGES[0], "Containers": 1, "SharedSize": 100},
        {**IMAGES[2], "Containers": 0, "SharedSize": 0},
    ],
    "Containers": LISTING,
    "Volumes": [
        {**VOLUMES["Volumes"][0], "UsageData": {"RefCount": 1, "Size": 1000}},
        {**VOLUMES["Volumes"][1], "UsageData": {"RefCount": 0, "Size": 500}},
    ],
    "BuildCache": [
        {
            "ID": "abcdefghijklmnopqrstuvwxyz",
            "Parents": [],
            "Type": "regular",
            "Description": "x",
            "InUse": False,
            "Shared": False,
            "Size": 77,
            "CreatedAt": "2023-11-14T22:13:20Z",
            "LastUsedAt": None,
            "UsageCount": 1,
        }
    ],
}

STATS: dict[str, Any] = {
    "read": "2026-01-01T00:00:01Z",
    "preread": "2026-01-01T00:00:00Z",
    "pids_stats": {"current": 3},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 4096},
            {"major": 8, "minor": 0, "op": "Write", "value": 8192},
        ]
    },
    "cpu_stats": {
        "cpu_usage": {"total_usage": 300000000},
        "system_cpu_usage": 20000000000,
        "online_cpus": 2,
    },
    "precpu_stats": {
        "cpu_usage": {"total_usage": 100000000},
        "system_cpu_usage": 18000000000,
        "online_cpus": 2,
    },
    "memory_stats": {
        "usage": 10000000,
        "limit": 8340000000,
        "stats": {"inactive_file": 1000000},
    },
    "name": "/web",
    "id": WEB,
    "networks": {"eth0": {"rx_bytes": 1000, "tx_bytes": 2000}},
}


def session(*frames: tuple[int, bytes], echo: bool = False) -> Answer:
    """An attach that writes frames, after sending stdin back when `echo`."""

    def talk(connection: socket.socket) -> None:
        if echo:
            data = b""
            while piece := connection.recv(4096):
                data += piece
            connection.sendall(frame(1, data.upper()))
        for item in frames:
            connection.sendall(frame(*item))

    return Answer(hijack=talk)


def world() -> FakeEngine:
    """A fake engine with all of the above."""
    engine = FakeEngine()
    on = engine.on
    on("GET", "/containers/[^/]+/json", missing("container"))
    on("POST", "/containers/[^/]+/.*", missing("container"))
    on("DELETE", "/containers/[^/]+", missing("container"))
    on("GET", "/images/.+/json", missing("image"))
    on(
        "GET",
        "/networks/[^/]+",
        lambda r: Answer(404, {"message": f"network {r.path[10:]} not found"}),
    )
    on(
        "GET",
        "/volumes/[^/]+",
        lambda r: Answer(404, {"message": f"get {r.path[9:]}: no such volume"}),
    )
    on("GET", "/plugins/.*", lambda r: Answer(404, {"message": "plugin not found"}))
    on("GET", "/info", {"ID": "x", "Swarm": {"LocalNodeState": "inactive"}, "OSType": "linux"})
    on("GET", "/containers/json", LISTING)
    on("GET", f"/containers/(web|{WEB}|1+)/json", DETAILS)
    on(
        "POST",
        f"/containers/(web|{WEB})/(start|stop|restart|kill|pause|unpause|rename|resize)",
        Answer(204),
    )
    on("POST", f"/containers/(web|{WEB})/update", {"Warnings": ["no swap here"]})
    on("DELETE", "/containers/web", Answer(204))
    on("POST", f"/containers/(web|{WEB})/wait", {"StatusCode": 3})
    on("POST", f"/containers/(web|{WEB})/attach", attached)
    on("GET", f"/containers/{WEB}/logs", Answer(frames=[(1, b"one\n"), (2, b"two\n")]))
    on(
        "GET",
        "/containers/web/top",
        {
            "Titles": ["UID", "PID", "CMD"],
            "Processes": [
                ["root", "1", "sleep 1d"],
                ["root", "12345678", "a command that is long"],
            ],
        },
    )
    on(
        "GET",
        "/containers/web/changes",
        [{"Path": "/a", "Kind": 0}, {"Path": "/a/b", "Kind": 1}, {"Path": "/c", "Kind": 2}],
    )
    on("POST", "/containers/create", create)
    on("POST", "/containers/web/exec", Answer(201, {"Id": "e" * 64}))
    talk = session((1, b"hello\n"), (2, b"oops\n"))
    on("POST", "/exec/e+/start", lambda r: Answer(200) if r.json["Detach"] else talk)
    on("GET", "/exec/e+/json", {"ID": "e" * 64, "Running": False, "ExitCode": 7})
    on("POST", "/exec/e+/resize", Answer(200))
    on("GET", "/images/json", IMAGES)
    on(
        "GET",
        "/images/alpine/json",
        {
            "Id": ALPINE,
            "RepoTags": ["alpine:latest"],
            "Config": {"Env": ["A=b"], "Labels": None, "Volumes": {"/data": {}}},
            "Size": 7377853,
        },
    )
    on("GET", "/images/alpine/history", HISTORY)
    on("POST", "/images/create", Answer(lines=PULL))
    on("POST", "/images/alpine/tag", Answer(201))
    on("DELETE", "/images/alpine", [{"Untagged": "alpine:latest"}, {"Deleted": ALPINE}])
    on("DELETE", "/images/nope", Answer(404, {"message": "No such image: nope:latest"}))
    on("GET", "/networks", NETWORKS)
    on("GET", "/networks/bridge", NETWORKS[3])
    on("GET", "/volumes", VOLUMES)
    on("GET", "/volumes/data", VOLUMES["Volumes"][0])
    on("POST", "/containers/prune", pruned("ContainersDeleted", ["a", "b"]))
    deleted = [{"Untagged": "x:1"}, {"Deleted": "sha256:zz"}]
    on("POST", "/images/prune", pruned("ImagesDeleted", deleted))
    on("POST", "/networks/prune", {"NetworksDeleted": ["n1"]})
    on("POST", "/volumes/prune", pruned("VolumesDeleted", ["v1"]))
    on("POST", "/build/prune", pruned("CachesDeleted", []))
    on("POST", "/networks/create", Answer(201, {"Id": "9" * 64, "Warning": ""}))
    on("POST", "/networks/bridge/(dis)?connect", Answer(200))
    on("DELETE", "/networks/bridge", Answer(204))
    on("POST", "/volumes/create", lambda r: Answer(201, {"Name": r.json.get("Name") or "anon"}))
    on("DELETE", "/volumes/data", Answer(204))
    on("DELETE", "/(networks|volumes)/nope", Answer(404, {"message": "no such thing"}))
    on("GET", "/events", Answer(lines=EVENTS))
    on("GET", "/system/df", USAGE)
    on("GET", "/containers/web/stats", STATS)
    on("POST", "/commit", Answer(201, {"Id": ALPINE}))
    on("GET", "/images/search", SEARCH)
    on("POST", "/images/.*/push", Answer(lines=PUSH))
    on("POST", "/images/load", Answer(lines=[{"stream": "Loaded image: x:t\n"}]))
    on(
        "GET",
        "/images/get",
        Answer(raw=b"tar of images", headers={"Content-Type": "application/x-tar"}),
    )
    on(
        "GET",
        "/containers/web/export",
        Answer(raw=b"tar of files", headers={"Content-Type": "application/x-tar"}),
    )
    return engine


SEARCH = [
    {"name": "b", "description": "x" * 60, "star_count": 3, "is_official": False},
    {"name": "a", "description": "y\nz", "star_count": 10, "is_official": True},
]
PUSH: list[dict[str, Any]] = [
    {"status": "The push refers to repository [docker.io/me/x]"},
    {"status": "Preparing", "progressDetail": {}, "id": "4abcf2066143"},
    {"status": "Pushed", "progressDetail": {}, "id": "4abcf2066143"},
    {"status": f"latest: digest: {DIGEST} size: 528"},
    {"progressDetail": {}, "aux": {"Tag": "latest", "Digest": DIGEST, "Size": 528}},
]


def attached(request: Request) -> Answer:
    """An attach that sends only what was asked for."""
    frames = [(1, b"out\n")] if "stdout" in request.query else []
    frames += [(2, b"err\n")] if "stderr" in request.query else []
    return session(*frames, echo="stdin" in request.query)


def create(request: Request) -> Answer:
    image = request.json["Image"]
    if image == "missing":
        return Answer(404, {"message": "No such image: missing:latest"})
    if image == "conflict":
        return Answer(409, {"message": 'Conflict. The container name "/x" is already in use.'})
    return Answer(201, {"Id": WEB, "Warnings": ["Careful."] if image == "warn" else []})

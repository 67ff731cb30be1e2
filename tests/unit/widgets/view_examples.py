"""Recorded answers of the lab's API: two boxes' worth of lessons and a container."""

from __future__ import annotations

from typing import Any

HOST = {
    "mnt": 4026532448,
    "pid": 4026531836,
    "ipc": 4026531839,
    "uts": 4026531838,
    "net": 4026532451,
    "cgroup": 4026531835,
    "user": 4026531837,
}


def _process(
    pid_: int,
    ppid: int,
    command: str,
    owner: dict[str, str],
    inside: int | None = None,
    user_: str = "root",
    **namespaces: int,
) -> dict[str, Any]:
    return {
        "pid": pid_,
        "ppid": ppid,
        "command": command.split()[0],
        "args": command.split(),
        "user": user_,
        "owner": owner,
        "pids": [pid_] if inside is None else [pid_, inside],
        "namespaces": {**HOST, **namespaces},
    }


WEB = {"kind": "container", "id": "9f2c4c0d7a11" * 5, "name": "web", "image": "busybox:latest"}
SIDE = {"kind": "container", "id": "77aa12bb34cc" * 5, "name": "sidecar", "image": "alpine:3.20"}
BOX = {"kind": "box", "id": "b1", "name": "mine", "image": ""}
OWN = {kind: 4026532500 + n for n, kind in enumerate(HOST)}
SIDE_OWN = {**{kind: 4026532600 + n for n, kind in enumerate(HOST)}, "net": OWN["net"]}
MACHINE = {"mnt": 4026531840, "net": 4026531992}


def confinement_example() -> dict[str, Any]:
    """What GET /v1/containers/web/confinement says of a container with limits."""
    return {
        "pid": 905,
        "capabilities": {
            "inheritable": [],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "bounding": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": [],
        },
        "no_new_privs": True,
        "seccomp": {"mode": "filter", "filters": 1},
        "uid": 0,
        "gid": 0,
        "uid_map": [{"inside": 0, "outside": 0, "count": 4294967295}],
        "gid_map": [{"inside": 0, "outside": 0, "count": 4294967295}],
        "masked": ["/proc/kcore", "/sys/firmware"],
        "readonly": ["/proc/sys"],
        "cgroup": {
            "version": 2,
            "controllers": ["cpu", "memory", "pids"],
            "memory": {
                "used_bytes": 16 << 20,
                "limit_bytes": 64 << 20,
                "hits": 3,
                "oom_kills": 1,
            },
            "pids": {"used": 2, "limit": 0},
            "cpu": {
                "used_ns": 5,
                "read_at_ns": 9,
                "limit_cpus": 0.5,
                "periods": 10,
                "throttled_periods": 4,
            },
        },
    }


def namespaces_example() -> dict[str, Any]:
    """GET /v1/views/namespaces while a box and two containers run."""
    own = {kind: inode for kind, inode in OWN.items() if kind != "user"}
    side = {kind: inode for kind, inode in SIDE_OWN.items() if kind != "user"}
    return {
        "host": {"name": "default", "namespaces": HOST},
        "others": 163,
        "capabilities": {
            "all": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_ADMIN"],
            "default": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        },
        "confinement": {f"container:{WEB['id']}": confinement_example()},
        "taken_at_ns": 1,
        "processes": [
            _process(1, 0, "/sbin/init", {"kind": "host", "id": "", "name": ""}, **MACHINE),
            _process(812, 1, "labkitd", {"kind": "labkit", "id": "", "name": ""}, **MACHINE),
            _process(815, 812, "labkit-anchor default", {"kind": "anchor", "id": "", "name": ""}),
            _process(
                902, 812, "labkit-shim run 9f2c4c0d7a11", {"kind": "shim", "id": "", "name": ""}
            ),
            _process(
                930, 812, "labkit-shim run 77aa12bb34cc", {"kind": "shim", "id": "", "name": ""}
            ),
            _process(
                905,
                902,
                "sh -c trap 'exit 0' TERM; while :; do wget -qO- http://quotes.example/one; "
                "sleep 5; done",
                WEB,
                1,
                **own,
            ),
            _process(911, 905, "sleep 5", WEB, 7, **own),
            _process(933, 930, "nc -lk -p 8080", SIDE, 1, user_="1000", **side),
            _process(840, 812, "labkit-box mine", BOX),
            _process(841, 840, "sh", BOX, 1, uts=4026532700, pid=4026532701),
        ],
    }


LIFECYCLE = {
    "states": ["created", "running", "paused", "restarting", "removing", "exited", "dead"],
    "transitions": [
        {"from": source, "to": target, "action": action}
        for source, target, action in [
            (None, "created", "create"),
            ("created", "running", "start"),
            ("exited", "running", "start"),
            ("restarting", "running", "start"),
            ("created", "created", "start-failed"),
            ("exited", "exited", "start-failed"),
            ("restarting", "exited", "start-failed"),
            ("running", "paused", "pause"),
            ("paused", "running", "unpause"),
            ("running", "exited", "die"),
            ("paused", "exited", "die"),
            ("running", "restarting", "die-restart"),
            ("paused", "restarting", "die-restart"),
            ("restarting", "exited", "give-up"),
            ("created", "removing", "remove"),
            ("exited", "removing", "remove"),
            ("dead", "removing", "remove"),
            ("removing", "dead", "remove-failed"),
        ]
    ],
    "containers": [
        {
            "id": "9f2c4c0d7a11" * 5,
            "name": "quotes",
            "state": "running",
            "status": "Up 3 minutes",
            "exit_code": 0,
            "history": [
                {"state": "created", "at_ns": 1_700_000_000_000_000_000, "action": "create"},
                {"state": "running", "at_ns": 1_700_000_000_350_000_000, "action": "start"},
            ],
        },
        {
            "id": "5b1d3c0d7a11" * 5,
            "name": "bold_hopper",
            "state": "exited",
            "status": "Exited (137) 2 minutes ago",
            "exit_code": 137,
            "history": [
                {"state": "created", "at_ns": 1_700_000_000_000_000_000, "action": "create"},
                {"state": "running", "at_ns": 1_700_000_000_350_000_000, "action": "start"},
                {"state": "exited", "at_ns": 1_700_000_012_350_000_000, "action": "die"},
                {"state": "running", "at_ns": 1_700_000_020_000_000_000, "action": "start"},
                {"state": "exited", "at_ns": 1_700_000_030_100_000_000, "action": "die"},
            ],
        },
        {
            "id": "771d3c0d7a11" * 5,
            "name": "fresh",
            "state": "created",
            "status": "Created",
            "exit_code": 0,
            "history": [
                {"state": "created", "at_ns": 1_700_000_040_000_000_000, "action": "create"},
            ],
        },
    ],
}


def timeline_steps() -> list[dict[str, Any]]:
    """Steps of a start as the daemon reports them (nanoseconds of CLOCK_MONOTONIC)."""
    rows = [
        ("daemon", "prepare", "", "the engine reads the image's users, builds the spec", 900),
        ("shim", "enter the lab host", "setns()", "mnt namespace of the anchor", 30),
        ("shim", "prepare log and socket", "openat(), bind(), listen()", "json.log", 90),
        ("shim", "create namespaces", "clone3()", "mnt pid ipc uts net", 430),
        ("child", "join cgroups", 'write("tasks", "0")', "8 hierarchies", 200),
        ("child", "set host name", "sethostname()", "9f2c4c0d7a11", 3),
        ("child", "bring up loopback", "ioctl(SIOCSIFFLAGS)", "lo, 127.0.0.1", 40),
        ("child", "detach mount propagation", 'mount("/", MS_REC|MS_PRIVATE)', "", 12),
        ("child", "mount overlay root", 'mount("overlay")', "1 lower, 1 upper", 110),
        ("child", "mount /proc", 'mount("proc")', "", 21),
        (
            "child",
            "mask paths",
            'open_tree("/dev/null"), move_mount()',
            "10 paths such as /proc/kcore",
            60,
        ),
        (
            "child",
            "pivot_root",
            'pivot_root(".", "."), umount2(MNT_DETACH)',
            "the old root is gone",
            55,
        ),
        ("child", "drop capabilities", "capset()", "14 remain", 2),
        (
            "child",
            "load seccomp filter",
            "seccomp(SECCOMP_SET_MODE_FILTER)",
            "214 BPF instructions",
            48,
        ),
        ("child", "exec", "execve()", "/bin/true", 320),
    ]
    steps, at = [], 1_000_000_000
    for by, name, call, detail, took_us in rows:
        end = at + took_us * 1000
        steps.append(
            {
                "name": name,
                "call": call,
                "detail": detail,
                "start_ns": at,
                "end_ns": end,
                "by": by,
                "error": 0,
            }
        )
        at = end + 4000
    return steps

"""What a notebook may ask of a box, and which part of it the daemon does.

Most primitives go to the box's own process unchanged. Three need more: id maps depend on
who runs the lab, limits are given in the API's units, and a root file system is unpacked from an
image.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labkit.base.errors import InvalidParameter, LabkitError, NotFound, Unavailable
from labkit.daemon.processes import proc_field, read_proc

if TYPE_CHECKING:
    from labkit.daemon.boxes import Box
    from labkit.daemon.lab import Lab
    from labkit.host.isolation.box import BoxReply

__all__ = ["perform"]

Json = dict[str, Any]

_TEXT, _NUMBER, _FLAG, _WORDS, _TABLE = str, (int, float), bool, list, dict
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "unshare": {"kinds": _WORDS},
    "chroot": {"path": _TEXT},
    "chdir": {"path": _TEXT},
    "mkdir": {"path": _TEXT, "mode": int},
    "write_file": {"path": _TEXT, "text": _TEXT},
    "read_file": {"path": _TEXT},
    "symlink": {"target": _TEXT, "path": _TEXT},
    "mount": {
        "source": _TEXT,
        "target": _TEXT,
        "fstype": _TEXT,
        "flags": _WORDS,
        "data": _TEXT,
    },
    "umount": {"target": _TEXT, "detach": _FLAG},
    "pivot_root": {"new_root": _TEXT, "put_old": _TEXT},
    "sethostname": {"name": _TEXT},
    "lo_up": {},
    "map_ids": {"uid": int, "gid": int},
    "cgroup": {"limits": _TABLE},
    "rootfs": {"image": _TEXT},
    "run": {"argv": _WORDS, "env": _TABLE, "stdin": _TEXT, "timeout_s": _NUMBER},
    "spawn": {"argv": _WORDS, "env": _TABLE},
    "kill": {"pid": int, "signal": int},
    "info": {},
}
_RUN_S_MAX = 60.0
_ID_MAX = 65535
_FIRST_OUTSIDE_ID = 100_000


def _checked(op: str, args: Json) -> Json:
    """`args` with the types that `op` wants. Raises InvalidParameter otherwise."""
    known = _ARGUMENTS.get(op)
    if known is None:
        raise InvalidParameter(
            f"a box knows no primitive {op[:40]!r}",
            hint="it knows: " + ", ".join(sorted(_ARGUMENTS)),
        )
    for name, value in args.items():
        wanted = known.get(name)
        if wanted is None:
            raise InvalidParameter(f"{op} takes no argument {name[:40]!r}")
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise InvalidParameter(f"{op}: {name} has the wrong type ({type(value).__name__})")
        if wanted is list and not all(isinstance(word, str) for word in value):
            raise InvalidParameter(f"{op}: {name} must be a list of strings")
    if op in ("run", "spawn"):
        _check_command(op, args)
    return args


def _check_command(op: str, args: Json) -> None:
    if not args.get("argv"):
        raise InvalidParameter(f"{op}: argv must be a list of strings that begins with a command")
    if not all(isinstance(value, str) for value in args.get("env", {}).values()):
        raise InvalidParameter(f"{op}: env must be an object of strings")
    if op == "run":
        args["timeout_s"] = min(max(float(args.get("timeout_s", 20.0)), 0.1), _RUN_S_MAX)


def _failure(number: int, message: str, hint: str = "") -> Json:
    return {
        "ok": False,
        "result": {},
        "steps": [],
        "errno": number,
        "error": message,
        "hint": hint,
    }


def _success(result: Json) -> Json:
    return {"ok": True, "result": result, "steps": [], "errno": 0, "error": "", "hint": ""}


def _as_text(value: object) -> object:
    """Output is bytes; what is no text in it shows as U+FFFD."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _answer(reply: BoxReply) -> Json:
    return {
        "ok": reply.ok,
        "result": {name: _as_text(value) for name, value in reply.result.items()},
        "steps": [asdict(step) for step in reply.steps],
        "errno": reply.errno,
        "error": reply.message,
        "hint": reply.hint,
    }


async def perform(lab: Lab, box: Box, op: str, args: Json) -> Json:
    """Carry out one primitive; refusals of the kernel are answers, not exceptions.

    Raises InvalidParameter for a primitive that does not exist or wrong arguments, NotFound when
    the box has ended.
    """
    args = _checked(op, dict(args))
    async with box.lock:
        if box not in lab.boxes.living():
            raise NotFound(f"No such box: {box.name}", hint="box = Box() makes a new one")
        special = _SPECIAL.get(op)
        if special is not None:
            try:
                return await special(lab, box, args)
            except OSError as error:
                return _failure(error.errno or 0, f"{op}: {error.strerror}")
            except (InvalidParameter, Unavailable):
                raise
            except LabkitError as error:
                return _failure(0, error.message, error.hint or "")
        if op == "pivot_root":
            args = {"new": args.get("new_root", ""), "old": args.get("put_old", "")}
        if op == "chroot":
            args["chdir"] = False  # chroot(2) alone: the way out of it is what the lesson shows
        reply = await box.process.call(op, **args)
        if op == "unshare" and "pid" in args.get("kinds", ()):
            lab.boxes.note_pids()
        return _answer(reply)


async def _map_ids(lab: Lab, box: Box, args: Json) -> Json:
    """Root of the machine lends the box a range of unused ids; an ordinary user only has the one
    that the lab's user namespace gives, its own."""
    uid, gid = int(args.get("uid", 0)), int(args.get("gid", 0))
    if not (0 <= uid <= _ID_MAX and 0 <= gid <= _ID_MAX):
        raise InvalidParameter(f"map_ids: ids go from 0 to {_ID_MAX}")
    if lab.mode == "rootful" and lab.ground.probe.initial_userns:
        uids = gids = [[0, _FIRST_OUTSIDE_ID, _ID_MAX + 1]]
    else:
        uids, gids = [[uid, os.geteuid(), 1]], [[gid, os.getegid(), 1]]
    mapped = await box.process.call("map_ids", uids=uids, gids=gids)
    steps = list(mapped.steps)
    # The process keeps its ids until it changes them; unmapped, they show as 65534 (nobody).
    for op, value in (("setgid", gid), ("setuid", uid)):
        if mapped.ok:
            mapped = await box.process.call(op, **{op.removeprefix("set"): value})
            steps += mapped.steps
    return {**_answer(mapped), "steps": [asdict(step) for step in steps]}


async def _cgroup(_: Lab, box: Box, args: Json) -> Json:
    """Put the box into a group of its own with these limits, or change them."""
    numbers: dict[str, int] = {}
    for name, value in args.get("limits", {}).items():
        if name not in ("memory_bytes", "pids", "nano_cpus") or not isinstance(value, int):
            raise InvalidParameter(f"cgroup: unknown limit {str(name)[:40]!r}")
        if isinstance(value, bool) or not 0 < value < 1 << 62:
            raise InvalidParameter(f"cgroup: {name} must be a positive number")
        numbers[name] = value
    cpus = numbers.get("nano_cpus", 0)
    reply = await box.process.call(
        "cgroup",
        memory=numbers.get("memory_bytes", 0),
        pids=numbers.get("pids", 0),
        cpus=f"{cpus // 10**9}.{cpus % 10**9:09d}" if cpus else 0,
    )
    return _answer(reply)


async def _rootfs(lab: Lab, box: Box, args: Json) -> Json:
    """A fresh copy of an image's files, below the lab host's /var/lib/docker."""
    from labkit.host.image.copytree import copy_stack

    name = str(args.get("image", "busybox"))
    try:
        image = await asyncio.to_thread(lab.images.get, name)
    except NotFound:
        async for _ in await lab.engine.image_pull(name):
            pass
        image = await asyncio.to_thread(lab.images.get, name)

    def work() -> str:
        folder = lab.boxes.folder(box.id)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        target = folder / f"rootfs-{sum(1 for _ in folder.iterdir())}"
        target.mkdir(mode=0o755)
        copy_stack(lab.images.layer_paths(image)[::-1], target)
        return "/var/lib/docker/" + str(target.relative_to(lab.paths.host_data(lab.node)))

    return _success({"path": await asyncio.to_thread(work)})


async def _run(_: Lab, box: Box, args: Json) -> Json:
    """Run a command to its end. One that cannot be started is an outcome as in a shell, 127 or
    126 with a sentence on stderr, and no failure of the box."""
    reply = await box.process.call("run", **args)
    answer = _answer(reply)
    if not reply.ok and answer["result"].get("exit_code") in (126, 127):
        answer["result"]["stderr"] += f"{reply.message}\n"
        answer["ok"] = True
    return answer


async def _spawn(_: Lab, box: Box, args: Json) -> Json:
    """Start a command and leave it; `pid` as the machine counts."""
    reply = await box.process.call("spawn", **args)
    answer = _answer(reply)
    if reply.ok:
        inner = int(str(reply.result["inner_pid"]))
        answer["result"]["pid"] = await asyncio.to_thread(_machine_pid, box, inner)
    return answer


def _machine_pid(box: Box, inner: int) -> int:
    """The machine's number of the process that the box knows as `inner` (NSpid, proc(5))."""
    for pid in box.process.pids():
        numbers = proc_field(read_proc(pid, "status"), "NSpid")
        if numbers and int(numbers[-1]) == inner and pid != box.pid:
            return pid
    return inner


_SPECIAL: dict[str, Callable[[Lab, Box, Json], Awaitable[Json]]] = {
    "map_ids": _map_ids,
    "cgroup": _cgroup,
    "rootfs": _rootfs,
    "run": _run,
    "spawn": _spawn,
}

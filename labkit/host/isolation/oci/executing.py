"""`labkit-oci exec`: what the process is, then starting it and, unless detached, waiting for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.isolation.oci.bundle import process_from
from labkit.host.isolation.oci.console import Terminal, send_master
from labkit.host.isolation.oci.inside import check_runs, launch_inside, read_process
from labkit.host.isolation.oci.lifecycle import write_pid_file
from labkit.host.isolation.oci.records import Record
from labkit.host.isolation.oci.words import Words

__all__ = ["execute"]

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def execute(record: Record, words: Words, warn: Callable[[str], None]) -> int:
    """Run it; its exit code, or 0 when it was only started."""
    _refuse(words)
    check_runs(record, ignore_paused=words.has("ignore-paused"))
    config = record.config()
    data = _process(config, words)
    detached, console = words.has("detach"), words.get("console-socket")
    terminal = bool(data.get("terminal"))
    if detached and terminal and not console:
        raise InvalidParameter(
            "cannot allocate tty if runc will detach without setting console socket"
        )
    if console and not (detached and terminal):
        raise InvalidParameter("cannot use console socket if runc will not detach or allocate tty")
    process = process_from(data, config.get("linux") or {})
    waiter = None
    if not detached:
        from labkit.host.isolation.oci.foreground import Waiter, become_subreaper

        become_subreaper()
        waiter = Waiter()
    launched = launch_inside(record, process, keep=int(words.get("preserve-fds", "0") or 0))
    for sentence in launched.warnings:
        warn(sentence)
    write_pid_file(words.get("pid-file"), launched.pid)
    if launched.master >= 0 and console:
        send_master(console, launched.master)
        os.close(launched.master)
    if waiter is None:
        return 0
    if launched.master < 0:
        return waiter.wait(launched.pid)
    with Terminal(launched.master) as joined:
        return waiter.wait(launched.pid, joined)


def _refuse(words: Words) -> None:
    for name, reason in (
        ("process-label", "there is no SELinux here"),
        ("apparmor", "profiles are the container's own"),
        ("cgroup", "a process joins the container's own group"),
    ):
        if words.get(name):
            raise Unsupported(f"--{name} is refused: {reason}")


def _process(config: Mapping[str, Any], words: Words) -> Mapping[str, Any]:
    """The file that --process names, or the container's own process with other words."""
    if words.get("process"):
        return read_process(words.get("process"))
    if len(words.arguments) < 2:
        raise InvalidParameter("process args cannot be empty")
    data = dict(config["process"])
    data["args"] = words.arguments[1:]
    data["terminal"] = words.has("tty")
    data["cwd"] = words.get("cwd") or data["cwd"]
    data["env"] = [*(data.get("env") or ()), *words.all("env")]
    data["noNewPrivileges"] = words.has("no-new-privs") or data.get("noNewPrivileges")
    if words.all("cap"):
        data["capabilities"] = _with_capabilities(data.get("capabilities"), words.all("cap"))
    user = dict(data.get("user") or {})
    if words.get("user"):
        user |= _user(words.get("user"))
    if words.all("additional-gids"):
        user["additionalGids"] = [_id(text) for text in words.all("additional-gids")]
    data["user"] = user
    return data


def _user(text: str) -> dict[str, int]:
    uid, _, gid = text.partition(":")
    return {"uid": _id(uid), **({"gid": _id(gid)} if gid else {})}


def _id(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 0x7FFFFFFF:
        raise InvalidParameter(f"invalid id {text!r}: numbers only, from 0 to 2147483647")
    return int(text)


def _with_capabilities(old: Mapping[str, Any] | None, more: list[str]) -> dict[str, list[str]]:
    names = [n if n.startswith("CAP_") else f"CAP_{n}" for n in (each.upper() for each in more)]
    sets = {key: list((old or {}).get(key) or ()) for key in _SETS}
    for key in ("bounding", "effective", "permitted"):
        sets[key] += [name for name in names if name not in sets[key]]
    return sets

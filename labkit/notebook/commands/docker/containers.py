"""Commands that change or look at existing containers, one request each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker.create_options import parse_restart
from labkit.notebook.commands.docker.listing import natural
from labkit.notebook.commands.formatting import tabulate

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = [
    "diff",
    "kill",
    "pause",
    "port",
    "remove",
    "rename",
    "restart",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
]


def _each(call: Call, names: Sequence[str], act: Callable[[str], str | None]) -> int:
    """Act on all names at once; print, in their order, what comes back or the error.

    At once, because each `stop` may take its ten seconds. Returns 1 if any failed.
    """
    failed = 0
    for outcome in _outcomes(names, act):
        try:
            text = outcome()
        except LabkitError as error:
            call.surface.err(getattr(error, "sentence", error.message) + "\n")
            failed = 1
            continue
        if text is not None:
            call.surface.out(f"{text}\n")
    return failed


def _outcomes(
    names: Sequence[str], act: Callable[[str], str | None]
) -> Iterator[Callable[[], str | None]]:
    if len(names) == 1:
        yield lambda: act(names[0])
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(max_workers=min(len(names), 50))
    try:
        for future in [pool.submit(act, name) for name in names]:
            yield future.result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _post(call: Call, action: str, query: dict[str, Any] | None = None) -> int:
    def act(name: str) -> str:
        call.client.request("POST", f"/containers/{name}/{action}", query=query)
        return name

    return _each(call, call.args, act)


def _stop_query(call: Call) -> dict[str, Any]:
    seconds = call.flags["timeout"] if call.flags.given("timeout") else None
    if call.flags.given("time"):
        if call.flags.given("timeout"):
            raise CommandError("conflicting options: cannot specify both --timeout and --time")
        seconds = call.flags["time"]
    return {"t": seconds, "signal": call.flags["signal"] or None}


def stop(call: Call) -> int:
    """Ask containers to end; kill them after a grace period."""
    return _post(call, "stop", _stop_query(call))


def restart(call: Call) -> int:
    """Stop and start containers."""
    return _post(call, "restart", _stop_query(call))


def kill(call: Call) -> int:
    """Send a signal to containers."""
    return _post(call, "kill", {"signal": call.flags["signal"] or None})


def pause(call: Call) -> int:
    """Freeze containers."""
    return _post(call, "pause")


def unpause(call: Call) -> int:
    """Let frozen containers go on."""
    return _post(call, "unpause")


def rename(call: Call) -> int:
    """Give a container another name."""
    old, new = (text.strip() for text in call.args)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        call.client.request("POST", f"/containers/{old}/rename", query={"name": new})
    except LabkitError as error:
        call.surface.err(getattr(error, "sentence", error.message) + "\n")
        raise CommandError(
            f"Error: failed to rename container named {old}", hint=error.hint
        ) from None
    return 0


def remove(call: Call) -> int:
    """Remove containers."""
    query = {
        "force": call.flags["force"],
        "v": call.flags["volumes"],
        "link": call.flags["link"],
    }

    def act(name: str) -> str | None:
        name = name.strip("/")
        if not name:
            raise CommandError("Container name cannot be empty")
        try:
            call.client.request("DELETE", f"/containers/{name}", query=query)
        except LabkitError as error:
            if call.flags["force"] and getattr(error, "status", 0) == 404:
                call.surface.err(getattr(error, "sentence", error.message) + "\n")
                return None
            raise
        return name

    return _each(call, call.args, act)


def wait(call: Call) -> int:
    """Wait until containers end and print their exit codes."""

    def act(name: str) -> str:
        with call.client.open("POST", f"/containers/{name}/wait") as waiting:
            for answer in waiting.json_lines():
                error = (answer.get("Error") or {}).get("Message")
                if error:
                    raise CommandError(error)
                return str(answer["StatusCode"])
        raise CommandError(f"the engine ended without the exit code of {name}")

    return _each(call, call.args, act)


def top(call: Call) -> None:
    """The processes of a container."""
    query = {"ps_args": " ".join(call.args[1:]) or None}
    found = call.client.request("GET", f"/containers/{call.args[0]}/top", query=query).json()
    lines = ["\t".join(found["Titles"])]
    lines += ["\t".join(process) for process in found["Processes"] or ()]
    # The client's columns here are 20 wide with one blank between them.
    call.surface.out(tabulate("\n".join([*lines, ""]), min_width=20, padding=3))


def diff(call: Call) -> None:
    """What changed in a container's files."""
    name = call.args[0]
    if not name:
        raise CommandError("Container name cannot be empty")
    changes = call.client.request("GET", f"/containers/{name}/changes").json() or []
    letters = {0: "C", 1: "A", 2: "D"}
    for change in changes:
        call.surface.out(f"{letters.get(change['Kind'], '?')} {change['Path']}\n")


def port(call: Call) -> None:
    """Where ports of a container are published."""
    found = call.client.request("GET", f"/containers/{call.args[0]}/json").json()
    ports = (found.get("NetworkSettings") or {}).get("Ports") or {}
    if len(call.args) > 1:
        wanted = call.args[1]
        number, slash, protocol = wanted.partition("/")
        if not number.isdecimal() or int(number) > 65535:
            raise CommandError(
                f"Error: invalid port ({wanted}): strconv.ParseUint: "
                f'parsing "{number}": invalid syntax'
            )
        key = f"{number}/{protocol if slash else 'tcp'}"
        bindings = ports.get(key)
        if not bindings:
            raise CommandError(f"Error: No public port '{wanted}' published for {call.args[0]}")
        lines = [_address(binding) for binding in bindings]
    else:
        lines = [
            f"{key} -> {_address(binding)}"
            for key, bindings in ports.items()
            for binding in bindings or ()
        ]
    if lines:
        lines.sort(key=natural)
        call.surface.out("\n".join(lines) + "\n")


def _address(binding: dict[str, str]) -> str:
    address = binding.get("HostIp", "")
    if ":" in address:
        address = f"[{address}]"
    return f"{address}:{binding.get('HostPort', '')}"


_UPDATE_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "cpu-shares": "CpuShares",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
    "cpus": "NanoCpus",
}


# What cannot be updated is sent empty.
_UNCHANGED: dict[str, Any] = {
    **dict.fromkeys(
        (
            *("BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps"),
            *("BlkioDeviceWriteIOps", "BlkioWeightDevice", "DeviceCgroupRules", "DeviceRequests"),
            *("Devices", "MemorySwappiness", "OomKillDisable", "Ulimits"),
        )
    ),
    **dict.fromkeys(("CpuCount", "CpuPercent", "IOMaximumBandwidth", "IOMaximumIOps"), 0),
    "CgroupParent": "",
}


def update(call: Call) -> int:
    """Change the limits of containers."""
    flags = call.flags
    if not flags.changed:
        raise CommandError("you must provide one or more flags when using this command")
    body: dict[str, Any] = {field: flags[flag] for flag, field in _UPDATE_FIELDS.items()}
    if not flags.given("pids-limit"):
        body["PidsLimit"] = None
    body |= _UNCHANGED
    body["RestartPolicy"] = parse_restart(flags["restart"])
    warnings: list[str] = []

    def act(name: str) -> str:
        answer = call.client.request("POST", f"/containers/{name}/update", json=body).json() or {}
        warnings.extend(answer.get("Warnings") or ())
        return name

    failed = _each(call, call.args, act)
    if warnings:
        call.surface.out("\n".join(warnings) + "\n")
    return failed

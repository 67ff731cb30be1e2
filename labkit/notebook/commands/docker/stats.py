"""`stats`: what containers use of CPU, memory, network and disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.base.ids import short_id
from labkit.base.quantities import format_binary_size, format_size
from labkit.notebook.commands.formatting import View, listing, show

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["sample_row", "stats"]

_VIEW = View(
    type_name="*container.statsContext",
    headings={
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    },
    table="{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t"
    "{{.BlockIO}}\t{{.PIDs}}",
)
_PAUSE_S = 1.0


def _cpu_percent(sample: Mapping[str, Any]) -> float:
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _at(now, "cpu_usage", "total_usage") - _at(before, "cpu_usage", "total_usage")
    system = _at(now, "system_cpu_usage") - _at(before, "system_cpu_usage")
    cpus = _at(now, "online_cpus") or len(_path(now, "cpu_usage", "percpu_usage") or ())
    return used / system * cpus * 100 if system > 0 and used > 0 else 0.0


def _path(data: Any, *keys: str) -> Any:
    for key in keys:
        data = (data or {}).get(key)
    return data


def _at(data: Any, *keys: str) -> int:
    return int(_path(data, *keys) or 0)


def _memory(sample: Mapping[str, Any]) -> tuple[int, int]:
    """Bytes in use without the file cache that can be dropped at once, and the limit."""
    memory = sample.get("memory_stats") or {}
    usage = _at(memory, "usage")
    for key in ("total_inactive_file", "inactive_file"):  # cgroup v1, then v2
        cache = _path(memory, "stats", key)
        if cache is not None and cache < usage:
            usage -= cache
            break
    return usage, _at(memory, "limit")


def sample_row(sample: Mapping[str, Any], asked: str, *, truncate: bool = True) -> dict[str, Any]:
    """The fields of one sample of /containers/X/stats."""
    identifier = sample.get("id") or ""
    memory, limit = _memory(sample)
    networks = (sample.get("networks") or {}).values()
    blocks = _path(sample, "blkio_stats", "io_service_bytes_recursive") or ()
    read = sum(b["value"] for b in blocks if b["op"][:1].lower() == "r")
    written = sum(b["value"] for b in blocks if b["op"][:1].lower() == "w")
    received = sum(n["rx_bytes"] for n in networks)
    sent = sum(n["tx_bytes"] for n in networks)
    if str(sample.get("read", "")).startswith("0001-"):
        return _blank(asked)  # the container does not run
    return {
        "Container": asked,
        "ID": short_id(identifier) if truncate else identifier,
        "Name": str(sample.get("name", "")).removeprefix("/"),
        "CPUPerc": f"{_cpu_percent(sample):.2f}%",
        "MemUsage": f"{format_binary_size(memory)} / {format_binary_size(limit)}",
        "MemPerc": f"{memory / limit * 100 if limit else 0.0:.2f}%",
        "NetIO": f"{format_size(received, digits=3)} / {format_size(sent, digits=3)}",
        "BlockIO": f"{format_size(read, digits=3)} / {format_size(written, digits=3)}",
        "PIDs": str(_at(sample, "pids_stats", "current")),
    }


def _blank(asked: str) -> dict[str, Any]:
    row = dict.fromkeys(("Name", "CPUPerc", "MemPerc", "NetIO", "BlockIO", "PIDs"), "--")
    return {**row, "Container": asked, "ID": "", "MemUsage": "-- / --"}


def _targets(call: Call) -> list[str]:
    if call.args:
        return list(call.args)
    rows = call.client.request("GET", "/containers/json", query={"all": call.flags["all"]}).json()
    return [short_id(row["Id"]) for row in rows or ()]


def _round(call: Call, names: Sequence[str]) -> tuple[list[dict[str, Any]], list[LabkitError]]:
    """One sample of every container; the engine compares each with one a moment earlier."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(name: str) -> dict[str, Any] | LabkitError:
        try:
            sample = call.client.request(
                "GET", f"/containers/{name}/stats", query={"stream": "0"}
            ).json()
        except LabkitError as error:
            return error
        return sample_row(sample, name, truncate=not call.flags["no-trunc"])

    if not names:
        return [], []
    with ThreadPoolExecutor(max_workers=min(len(names), 50)) as pool:
        outcomes = list(pool.map(ask, names))
    rows = [outcome for outcome in outcomes if isinstance(outcome, dict)]
    return rows, [outcome for outcome in outcomes if isinstance(outcome, LabkitError)]


def stats(call: Call) -> int:
    """Show resource usage once, or again and again until interrupted."""
    if call.flags["all"] and call.args:
        raise CommandError("only one of --all or a list of containers can be used")
    template = call.flags["format"]
    rows, errors = _round(call, _targets(call))
    if errors and call.args:
        raise CommandError("\n".join(getattr(error, "sentence", error.message) for error in errors))
    if call.flags["no-stream"]:
        show(call.surface, _VIEW, rows, template)
        return 0
    refresh = getattr(call.surface, "refresh", None)
    while True:
        table = listing(_VIEW, rows, template)
        if refresh is not None:
            if not refresh(table):
                return 0
        else:
            # Home, every line cleared to its end, then the rest of the screen.
            text = table.text.replace("\n", "\x1b[K\n")
            call.surface.out(f"\x1b[H{text}\x1b[J")
        time.sleep(_PAUSE_S)
        rows, _ = _round(call, _targets(call))

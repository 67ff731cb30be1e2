"""What `state`, `list` and `ps` print."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from labkit.base.errors import InvalidParameter, Unsupported
from labkit.host.isolation.oci.groups import members
from labkit.host.isolation.oci.records import STOPPED, Record, records

__all__ = ["list_text", "ps_text", "state_text"]


def _described(record: Record) -> dict[str, Any]:
    status = record.status()
    described = {
        "ociVersion": record.data["ociVersion"],
        "id": record.name,
        "pid": 0 if status == STOPPED else int(record.data.get("pid") or 0),
        "status": status,
        "bundle": record.data["bundle"],
        "rootfs": record.data["rootfs"],
        "created": record.data["created"],
        "owner": _owner(int(record.data.get("owner") or 0)),
    }
    if record.data.get("annotations"):
        described["annotations"] = record.data["annotations"]
    return described


def _owner(uid: int) -> str:
    if uid == 0:
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def state_text(record: Record) -> str:
    """The state as JSON, with runc's additions to the specification's keys."""
    return json.dumps(_described(record), indent=2)


def list_text(root: str, form: str, *, quiet: bool) -> str:
    """All containers: names, a table, or JSON."""
    found = [_described(record) for record in records(root)]
    if quiet:
        return "".join(f"{each['id']}\n" for each in found)
    if form == "json":
        return json.dumps(found)
    if form not in ("", "table"):
        raise InvalidParameter("invalid format option")
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    rows += [
        (e["id"], str(e["pid"]), e["status"], e["bundle"], e["created"], e["owner"] or "root")
        for e in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def ps_text(record: Record, form: str, options: Sequence[str]) -> str:
    """The container's processes: their pids as JSON, or what ps(1) says of them."""
    pids = members(record.data.get("groups") or {})
    if form == "json":
        return json.dumps(pids) + "\n"
    if form not in ("", "table"):
        raise InvalidParameter("invalid format option")
    try:
        shown = subprocess.run(
            ["ps", *(options or ("-ef",))], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise Unsupported(f"cannot run ps: {error.strerror}", hint="use --format json") from error
    lines = shown.stdout.splitlines()
    if shown.returncode != 0 or not lines:
        raise InvalidParameter(f"ps failed: {shown.stderr.strip()}")
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidParameter("couldn't find PID field in ps output")
    column = titles.index("PID")
    kept = [
        line for line in lines[1:] if line.split()[column : column + 1] in ([str(p)] for p in pids)
    ]
    return "\n".join([lines[0], *kept]) + "\n"

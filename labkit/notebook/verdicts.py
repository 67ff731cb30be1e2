"""What a container's seccomp filter does with one system call, asked of the daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["ask_verdict"]


def ask_verdict(
    client: LabClient, container: str, call: str, arguments: Sequence[str] = ()
) -> dict[str, Any]:
    """`{"allowed": bool, "text": a sentence}`. `arguments` are numbers as C writes them.

    Raises the daemon's errors: no such container, no such call.
    """
    path = f"/v1/containers/{container.replace('/', '')}/verdict"
    found = client.json("GET", path, query={"call": call, "arg": list(arguments)})
    return {"allowed": bool(found["allowed"]), "text": _sentence(found)}


def _sentence(found: dict[str, Any]) -> str:
    call = f"{found['call']} (number {found['number']})"
    if found["allowed"]:
        head = f"{call} passes"
    elif found["errno"]:
        head = f"{call} is refused with {found['errno']}"
    else:
        head = f"{call} ends the program ({found['action']})"
    steps = int(found["instructions"])
    cost = f", decided in {steps} instructions" if steps else ""
    return f"{head}: {found['because']}{cost}"

"""Why a process could not be started, in the words Docker's clients look for.

The exit code of `docker run` is decided by the text: see StartFailure. Where Docker names runc, the
sentence names labkit; the rest is what clients match on.
"""

from __future__ import annotations

import errno
import os

from labkit.base.errors import StartFailure
from labkit.host.isolation.spec import Step

__all__ = ["ContainerStartFailure", "failure_from", "sentence"]

_CONTAINER = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: "
    "labkit create failed: unable to start container process: error during container init: "
)
_EXEC = "OCI runtime exec failed: exec failed: unable to start container process: "

_MISMATCH = (
    "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host "
    "path exists and is the expected type"
)

_HINTS = {
    "mount": "the left side of -v is a path on the lab host, the right side one in the container",
    "find program": "the image has no such program; `docker run --entrypoint sh IMAGE` if it has a "
    "shell, or check the spelling",
    "stat program": "the path is looked up inside the container, not on your machine",
    "change directory": "the working directory must exist inside the container",
    "change user": "this lab's user namespace has no such id: install newuidmap and newgidmap "
    "(Debian package uidmap) and give yourself a range in /etc/subuid and /etc/subgid",
    "start the process": "raise --memory: the limit also counts what starting a container takes",
}


class ContainerStartFailure(StartFailure):
    """StartFailure with the steps that had been taken, the failed one last."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.steps: tuple[Step, ...] = ()


def _reason(number: int) -> str:
    return os.strerror(number)[:1].lower() + os.strerror(number)[1:]


def sentence(step: str, number: int, detail: str) -> str:
    """What went wrong in one step of a start, as Docker and runc say it."""
    reason = _reason(number)
    if step == "find program":
        return f'exec: "{detail}": executable file not found in $PATH'
    if step == "stat program":
        return f'exec: "{detail}": stat {detail}: {reason}'
    if step == "exec" and number in (errno.EACCES, errno.EISDIR):
        return f'exec: "{detail}": {reason}'
    if step == "exec":
        return f"exec {detail}: {reason}"
    if step == "change directory":
        if number == errno.EXDEV:
            return f"{detail} -- possible container breakout detected"
        return f'chdir to cwd ("{detail}") set in config.json failed: {reason}'
    if step == "mount":
        target, _, what = detail.partition("\x1f")
        source, _, why = what.partition(": ") if what.startswith("/") else (what, "", "")
        cause = f"{why}: {reason}" if why else reason
        return f'error mounting "{source}" to rootfs at "{target}": {cause}'
    return f"{step}: {detail}: {reason}"


def failure_from(
    status: int, text: bytes, steps: tuple[Step, ...], *, is_exec: bool
) -> ContainerStartFailure:
    """The error for a shim's FAILED event or refused RELEASE (`text`: step NUL object)."""
    step, _, detail = text.rstrip(b"\0").decode("utf-8", "replace").partition("\0")
    number = -status
    prefix = _EXEC if is_exec else _CONTAINER
    # The daemon's own addition to what the runtime says.
    mismatch = f": {_MISMATCH}" if number == errno.ENOTDIR and step == "mount" else ""
    failure = ContainerStartFailure(
        f"{prefix}{sentence(step, number, detail)}: unknown{mismatch}", hint=_HINTS.get(step)
    )
    failure.steps = steps
    return failure

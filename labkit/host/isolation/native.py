"""The few calls into the C core (native/core.h), with Python's errors and types."""

from __future__ import annotations

import importlib
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from labkit.base.errors import SystemFailure, Unsupported

__all__ = [
    "Program",
    "audit_arch",
    "log_frames",
    "shim_path",
    "spawn",
    "syscall_name",
    "syscall_number",
]


@cache
def _core() -> Any:
    try:
        return importlib.import_module("labkit.host.isolation._core")
    except ImportError as error:
        raise Unsupported(
            f"labkit's native core is not built: {error}",
            hint="run `make setup` in the source tree, or `pip install .`",
        ) from error


def shim_path() -> Path:
    """The installed labkit-shim; LABKIT_SHIM names another one."""
    override = os.environ.get("LABKIT_SHIM")
    if override:
        return Path(override)
    found = importlib.resources.files("labkit.host.isolation") / "bin" / "labkit-shim"
    return Path(str(found))


def syscall_number(name: str) -> int | None:
    """The number of a system call on this machine, None when its headers do not know it."""
    number = int(_core().lib.lk_syscall_number(name.encode("ascii", "replace")))
    return number if number >= 0 else None


def syscall_name(number: int) -> str | None:
    """The other way round."""
    core = _core()
    found = core.lib.lk_syscall_name(number)
    return None if found == core.ffi.NULL else core.ffi.string(found).decode("ascii")


def audit_arch() -> int:
    """The AUDIT_ARCH_ constant that seccomp filters compare with."""
    return int(_core().lib.lk_audit_arch())


def log_frames(
    block: bytes, *, stdout: bool, stderr: bool, raw: bool, timestamps: bool
) -> tuple[bytes, int]:
    """Whole lines of a json-file log as Docker's log stream; other threads run meanwhile.

    Returns the stream and how many bytes of `block` it is of: all, or those before the first line
    that is not written as our shim writes them.
    """
    core = _core()
    # The bits of core.h.
    flags = stdout * 1 | stderr * 2 | raw * 4 | timestamps * 8
    out = bytearray(len(block))
    taken = core.ffi.new("size_t *")
    size = core.lib.lk_log_frames(
        core.ffi.from_buffer(block), len(block), core.ffi.from_buffer(out), flags, taken
    )
    return bytes(memoryview(out)[:size]), int(taken[0])


class Program:
    """labkit-shim as a sealed memory file.

    Shims, and the code that runs inside a container until its own program takes over, are executed
    from here: nobody can write to the file behind /proc/PID/exe, whatever their privilege
    (CVE-2019-5736), and an upgrade of the package does not disturb what runs. One copy serves all
    shims, which therefore share its pages.
    """

    def __init__(self, path: Path | None = None) -> None:
        source = path or shim_path()
        fd = int(_core().lib.lk_sealed_copy(os.fsencode(source)))
        if fd < 0:
            raise SystemFailure(
                f"cannot load {source}: {os.strerror(-fd)}",
                hint="reinstall labkit; its native core belongs beside its Python files",
            )
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def spawn(
    program: Program, argv: Sequence[str], fds: Sequence[int], env: Mapping[str, str] | None = None
) -> int:
    """Start one of labkit-shim's programs; fds[i] becomes its descriptor 3+i. Returns its pid.

    The caller stands still for the moment until it has executed (vfork), a fraction of a
    millisecond however large the process is.
    """
    core = _core()
    ffi = core.ffi
    texts = [ffi.new("char[]", os.fsencode(each)) for each in argv]
    variables = [ffi.new("char[]", os.fsencode(f"{k}={v}")) for k, v in (env or {}).items()]
    pid = ffi.new("int *")
    status = int(
        core.lib.lk_spawn(
            program.fd,
            ffi.new("char *[]", [*texts, ffi.NULL]),
            ffi.new("char *[]", [*variables, ffi.NULL]),
            ffi.new("int[]", list(fds)),
            len(fds),
            pid,
        )
    )
    if status < 0:
        raise SystemFailure(f"cannot start a shim: {os.strerror(-status)}")
    return int(pid[0])

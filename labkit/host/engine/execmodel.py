"""One further process of a container: what was asked for, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from labkit.host.engine.container import Container
from labkit.host.engine.ports import ShimPort
from labkit.host.engine.wire import BOOL, INT, STRING, STRSLICE, list_of, wire

__all__ = ["FOLDER_PREFIX", "Exec", "ExecConfig", "ExecStart", "folder_name"]

FOLDER_PREFIX = "exec-"


def folder_name(exec_id: str) -> str:
    """The name, in its container's folder, of an exec's own folder."""
    return f"{FOLDER_PREFIX}{exec_id[:16]}"


@dataclass(frozen=True)
class ExecConfig:
    """The body of POST /containers/X/exec."""

    user: str = wire("User", STRING, "")
    privileged: bool = wire("Privileged", BOOL, False)
    tty: bool = wire("Tty", BOOL, False)
    console_size: tuple[int, ...] | None = wire("ConsoleSize", list_of(INT))
    attach_stdin: bool = wire("AttachStdin", BOOL, False)
    attach_stderr: bool = wire("AttachStderr", BOOL, False)
    attach_stdout: bool = wire("AttachStdout", BOOL, False)
    detach_keys: str = wire("DetachKeys", STRING, "")
    env: tuple[str, ...] | None = wire("Env", list_of(STRING))
    working_dir: str = wire("WorkingDir", STRING, "")
    cmd: tuple[str, ...] | None = wire("Cmd", STRSLICE)


@dataclass(frozen=True)
class ExecStart:
    """The body of POST /exec/ID/start."""

    detach: bool = wire("Detach", BOOL, False)
    tty: bool = wire("Tty", BOOL, False)
    console_size: tuple[int, ...] | None = wire("ConsoleSize", list_of(INT))


@dataclass(eq=False, slots=True)
class Exec:
    """One further process of a container."""

    id: str
    container: Container
    config: ExecConfig
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    shim: ShimPort | None = None
    started_at_ns: int = 0
    began_ns: int = 0
    """Monotonic, when the engine began to start it."""

    @property
    def words(self) -> str:
        """The command as events show it."""
        return " ".join(self.config.cmd or ())

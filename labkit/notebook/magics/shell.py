"""Lines that sh runs: pipelines, redirections, `&&`, `$(…)`, and commands in the background.

A folder with one program, `docker`, is put first on PATH: inside such a line `docker` is the
notebook's own, at the same engine, with the chapter's label on what it makes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Protocol

__all__ = ["environment", "popen", "run_shell", "send_signal"]

_CHUNK = 1 << 16
_lock = threading.Lock()
_folder: Path | None = None
_folder_pid = 0


class _Sink(Protocol):
    def out_bytes(self, data: bytes) -> None: ...

    def err_bytes(self, data: bytes) -> None: ...


def _programs() -> Path:
    """The folder holding our `docker`; made once per process and removed at its end."""
    global _folder, _folder_pid
    with _lock:
        if _folder is None or _folder_pid != os.getpid() or not _folder.is_dir():
            _folder, _folder_pid = Path(tempfile.mkdtemp(prefix="labkit-bin-")), os.getpid()
            root = str(Path(__file__).resolve().parents[3])
            # -P: a docker.py or random.py beside the notebook must not be imported instead.
            code = (
                f"import sys; sys.path.append({root!r}); "
                "from labkit.notebook.magics.shim import main; sys.exit(main())"
            )
            program = _folder / "docker"
            program.write_text(
                f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c {shlex.quote(code)} "$@"\n'
            )
            program.chmod(0o700)
            atexit.register(_remove, _folder, os.getpid())
        return _folder


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def environment() -> dict[str, str]:
    """The environment of a line that sh runs."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{_programs()}{os.pathsep}{path}"}


def popen(script: str, *, stdin: int, stderr: int) -> subprocess.Popen[bytes]:
    """`sh -c script` in a session of its own, its output in a pipe."""
    return subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment(),
        start_new_session=True,
    )


def send_signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the whole line; a line that has ended is left alone."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def run_shell(script: str, sink: _Sink, *, stdin: bytes | None = None) -> int:
    """Run a line, passing output on as it comes; the exit status as sh gives it.

    The stop button reaches the line as SIGINT; pressed three times it is SIGKILL. Raises
    KeyboardInterrupt after the line has ended, so that the rest of the cell does not run.
    """
    process = popen(
        script,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    feeder = None
    if stdin is not None:
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        feeder.start()
    interrupts = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, sink.out_bytes)
        selector.register(process.stderr, selectors.EVENT_READ, sink.err_bytes)
        while selector.get_map():
            try:
                _pump(selector)
            except KeyboardInterrupt:
                interrupts += 1
                send_signal(process, signal.SIGINT if interrupts < 3 else signal.SIGKILL)
    code = process.wait()
    process.stdout.close()
    process.stderr.close()
    if feeder is not None:
        feeder.join(1.0)
    if interrupts:
        raise KeyboardInterrupt
    return code if code >= 0 else 128 - code


def _pump(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select():
        stream = key.fileobj
        assert not isinstance(stream, int)
        data = os.read(stream.fileno(), _CHUNK)
        if data:
            key.data(data)
        else:
            selector.unregister(stream)


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    stream: IO[bytes] | None = process.stdin
    assert stream is not None
    with contextlib.suppress(BrokenPipeError, OSError):
        stream.write(data)
    with contextlib.suppress(BrokenPipeError, OSError):
        stream.close()

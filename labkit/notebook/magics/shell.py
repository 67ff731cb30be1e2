"""Lines that sh runs: pipelines, redirections, `&&`, `$(…)`, and commands in the background.

A folder with one program, `docker`, is put first on PATH: inside such a line `docker` is the
notebook's own, at the same engine, with the chapter's label on what it makes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Protocol

from labkit.base.paths import LabPaths

__all__ = ["environment", "popen", "run_shell", "send_signal"]

_CHUNK = 1 << 16


class _Sink(Protocol):
    def out_bytes(self, data: bytes) -> None: ...

    def err_bytes(self, data: bytes) -> None: ...


def _programs() -> Path:
    """The folder holding our `docker`, below the lab's run folder; made when it is missing.

    Its name comes from its content, so that kernels of two Pythons do not overwrite each other's.
    """
    root = str(Path(__file__).resolve().parents[3])
    # -P: a docker.py or random.py beside the notebook must not be imported instead.
    code = (
        f"import sys; sys.path.append({root!r}); "
        "from labkit.notebook.magics.shim import main; sys.exit(main())"
    )
    text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -c {shlex.quote(code)} "$@"\n'
    paths = LabPaths.from_environment()
    folder = paths.run / "bin" / hashlib.sha256(text.encode()).hexdigest()[:8]
    program = folder / "docker"
    if not program.exists():
        paths.prepare()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = folder / f".docker-{os.getpid()}-{threading.get_ident()}"
        draft.write_text(text)
        draft.chmod(0o700)
        draft.replace(program)
    return folder


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

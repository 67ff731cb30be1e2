"""Commands in the background: each is a line that sh runs, its output kept up to a bound."""

from __future__ import annotations

import atexit
import codecs
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

from labkit.base.errors import NotFound
from labkit.notebook.magics.shell import popen, send_signal

__all__ = ["Job", "Jobs"]

_KEPT_CHARACTERS = 64_000
_CHUNK = 1 << 16
_GRACE_S = 2.0


class Job:
    """One command. `text` is the end of its output, `state` running, stopping, stopped or ended."""

    def __init__(self, number: int, title: str, script: str, stdin: bytes | None) -> None:
        self.number = number
        self.title = title
        self.started_at = time.time()
        self.ended_at: float | None = None
        self.code: int | None = None
        self.text = ""
        self.characters = 0
        self._asked_to_stop = False
        self._changed = threading.Condition()
        self._listeners: list[Callable[[Job], None]] = []
        self._pid = os.getpid()
        self._process = popen(
            script,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if stdin is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(stdin)
                self._process.stdin.close()
        self._reader = threading.Thread(target=self._read, name=f"labkit-job-{number}", daemon=True)
        self._reader.start()

    @property
    def state(self) -> str:
        if self.code is None:
            return "stopping" if self._asked_to_stop else "running"
        return "stopped" if self._asked_to_stop else "ended"

    def on_change(self, listener: Callable[[Job], None]) -> None:
        """Call `listener` from the reading thread, at most some times a second, and at the end."""
        self._listeners.append(listener)

    def _read(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        told_at = 0.0
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while data := os.read(descriptor, _CHUNK):
            piece = decoder.decode(data)
            with self._changed:
                self.characters += len(piece)
                self.text = (self.text + piece)[-_KEPT_CHARACTERS:]
                self._changed.notify_all()
            # Reading in gulps keeps a chatty command from waking the browser for every line.
            if (now := time.monotonic()) - told_at >= 0.2:
                told_at = now
                self._tell()
            time.sleep(0.05)
        code = self._process.wait()
        self._process.stdout.close()
        with self._changed:
            self.code = code if code >= 0 else 128 - code
            self.ended_at = time.time()
            self._changed.notify_all()
        self._tell()

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener(self)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code, or None when it still runs after `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.code is not None, timeout_s)
        return self.code

    def wait_for(self, word: str, timeout_s: float = 10.0) -> bool:
        """Wait until the output holds `word`; whether it does."""
        with self._changed:
            self._changed.wait_for(lambda: word in self.text or self.code is not None, timeout_s)
        return word in self.text

    def stop(self, *, wait_s: float = _GRACE_S + 3.0) -> None:
        """Interrupt it, as ctrl-C would; end it when it does not listen. Waits `wait_s` seconds."""
        if self.code is None and self._pid == os.getpid():
            if not self._asked_to_stop:
                self._asked_to_stop = True
                self._tell()
                threading.Thread(target=self._end, daemon=True).start()
            self.wait(wait_s)

    def kill(self) -> None:
        """End it at once."""
        if self._pid == os.getpid():
            send_signal(self._process, signal.SIGKILL)

    def _end(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            send_signal(self._process, number)
            if self.wait(_GRACE_S) is not None:
                return

    def __repr__(self) -> str:
        ending = "" if self.code is None else f", exit code {self.code}"
        return f"[{self.number}] {self.state}{ending}: {self.title}"


class Jobs:
    """All jobs of one kernel. They end with it."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        # A client that is killed leaves its container running, as a closed terminal would.
        atexit.register(self.stop_all, wait_s=1.0, kill=True)

    def start(self, title: str, script: str, *, stdin: bytes | None = None) -> Job:
        """Start a line of sh."""
        number = len(self._jobs) + 1
        job = self._jobs[number] = Job(number, title, script, stdin)
        return job

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def get(self, number: str) -> Job:
        """The job of that number. Raises NotFound."""
        job = self._jobs.get(int(number)) if number.isdecimal() else None
        if job is None:
            raise NotFound(f"no job {number}", hint="%lab jobs lists them")
        return job

    def stop_all(self, *, wait_s: float = 5.0, kill: bool = False) -> None:
        """Stop whatever still runs; with `kill` nothing survives the `wait_s` seconds."""
        running = [job for job in self if job.code is None]
        for job in running:
            job.stop(wait_s=0.0)
        deadline = time.monotonic() + wait_s
        for job in running:
            if job.wait(max(0.0, deadline - time.monotonic())) is None and kill:
                job.kill()

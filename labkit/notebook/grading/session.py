"""The outside of a shell: sends it cells, gathers what they give, and trusts none of it."""

from __future__ import annotations

import codecs
import json
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from labkit.notebook.grading.outputs import CellOutputs

__all__ = ["CellOutcome", "Ending", "ShellSession"]

Ending = Literal["", "timeout", "died", "left", "garbage", "cancelled"]
_MAX_LINE = 16 << 20
_READ = 1 << 16
_POLL_S = 0.25


@dataclass(slots=True)
class CellOutcome:
    """What one cell gave. `ending` is not empty when the shell cannot go on.

    `timeout`: the cell took too long; `died`: the process is gone; `left`: the cell ended the
    notebook with exit; `garbage`: something else than a shell spoke on the control socket.
    """

    outputs: list[dict[str, Any]]
    ok: bool
    count: int | None
    ending: Ending = ""
    dropped_bytes: int = 0
    seconds: float = 0.0


@dataclass
class ShellSession:
    """A running shell. `control` speaks JSON lines; `out` and `err` carry raw bytes.

    `cancelled` is asked a few times a second, so that an interrupt need not wait for a cell.
    """

    control: socket.socket
    out: int
    err: int
    output_bytes: int
    cancelled: Callable[[], bool] = lambda: False
    trips: list[tuple[str, str]] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _number: int = 0

    def run(self, source: str, timeout_s: float | None) -> CellOutcome:
        """Execute one cell and wait until it is done, at most `timeout_s` seconds."""
        self._number += 1
        start = time.monotonic()
        outputs = CellOutputs(self.output_bytes)
        request = json.dumps({"op": "run", "n": self._number, "source": source}).encode() + b"\n"
        self.control.settimeout(10)
        try:
            self.control.sendall(request)
        except OSError:
            outputs.error("DeadKernelError", "the shell is gone", [])
            return CellOutcome(outputs.finished(), False, None, "died")
        done, ending = self._gather(outputs, None if timeout_s is None else start + timeout_s)
        self._drain_raw(outputs)
        if ending == "timeout":
            outputs.error("CellTimeoutError", f"the cell ran longer than {timeout_s:g} s", [])
        elif ending == "died":
            outputs.error("DeadKernelError", "the process that runs the cells ended", [])
        outcome = CellOutcome(
            outputs=[],
            ok=bool(done.get("ok")),
            count=done.get("count") if isinstance(done.get("count"), int) else None,
            ending=ending or ("left" if done.get("leaving") else ""),
        )
        written = done.get("written", 0)
        if isinstance(written, int) and written > self.output_bytes:
            # The shell itself stopped sending at the bound and only counted.
            outputs.dropped_bytes += written - self.output_bytes
        outcome.dropped_bytes = outputs.dropped_bytes
        outcome.outputs = outputs.finished()
        outcome.seconds = time.monotonic() - start
        return outcome

    def close(self) -> None:
        self.control.close()
        for descriptor in (self.out, self.err):
            if descriptor >= 0:
                os.close(descriptor)
        self.out = self.err = -1

    def _gather(
        self, outputs: CellOutputs, deadline: float | None
    ) -> tuple[dict[str, Any], Ending]:
        raw = {
            self.out: ("stdout", codecs.getincrementaldecoder("utf-8")("replace")),
            self.err: ("stderr", codecs.getincrementaldecoder("utf-8")("replace")),
        }
        control = self.control.fileno()
        while True:
            for line in self._lines():
                message = _parse(line)
                if message is None:
                    return {}, "garbage"
                if message["t"] == "done" and message.get("n") == self._number:
                    return message, ""
                self._take(message, outputs)
            if len(self._buffer) > _MAX_LINE:
                return {}, "garbage"
            wait = _POLL_S if deadline is None else min(_POLL_S, deadline - time.monotonic())
            if wait <= 0:
                return {}, "timeout"
            if self.cancelled():
                return {}, "cancelled"
            ready, _, _ = select.select([control, *raw], [], [], wait)
            for descriptor in ready:
                if descriptor == control:
                    if not self._receive():
                        return {}, "died"
                    continue
                name, decoder = raw[descriptor]
                data = os.read(descriptor, _READ)
                if not data:
                    del raw[descriptor]
                outputs.stream(name, decoder.decode(data))

    def _receive(self) -> bool:
        try:
            data = self.control.recv(_READ)
        except OSError:
            return False
        self._buffer += data
        return bool(data)

    def _lines(self) -> list[bytes]:
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        return [bytes(line) for line in lines]

    def _take(self, message: dict[str, Any], outputs: CellOutputs) -> None:
        kind = message["t"]
        if kind == "stream" and message.get("name") in ("stdout", "stderr"):
            outputs.stream(str(message["name"]), str(message.get("text", "")))
        elif kind == "display":
            outputs.display(message)
        elif kind == "result":
            outputs.result(message)
        elif kind == "error":
            lines = message.get("traceback")
            outputs.error(
                str(message.get("ename")),
                str(message.get("evalue")),
                [str(line) for line in lines] if isinstance(lines, list) else [],
            )
        elif kind == "clear":
            outputs.clear(wait=bool(message.get("wait")))
        elif kind == "trip" and len(self.trips) < 1000:
            self.trips.append((str(message.get("kind")), str(message.get("detail"))[:300]))

    def _drain_raw(self, outputs: CellOutputs) -> None:
        """What child processes wrote just before the cell ended is still in the pipes."""
        for descriptor, name in ((self.out, "stdout"), (self.err, "stderr")):
            total = 0
            while total < _MAX_LINE and select.select([descriptor], [], [], 0)[0]:
                data = os.read(descriptor, _READ)
                if not data:
                    break
                total += len(data)
                outputs.stream(name, data.decode("utf-8", "replace"))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("t"), str):
        return None
    return message

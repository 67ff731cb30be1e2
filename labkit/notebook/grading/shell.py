"""The process that executes a notebook's cells: an IPython shell without a kernel around it.

`prepare` builds the shell once, in the zygote; each fork calls `serve` with a connected socket
and answers one JSON line per request:

    in   {"op": "run", "n": 3, "source": "…"}
    out  {"t": "stream", "name": "stdout", "text": "…"}, {"t": "display", …}, {"t": "result", …},
         {"t": "error", …}, {"t": "clear", …}, {"t": "trip", …}, {"t": "done", "n": 3, …}

What arrives on descriptors 1 and 2 (child processes, C code) is read by the other side.
Whoever reads these lines must not trust them: the notebook's code lives in this process.
"""

from __future__ import annotations

# mypy: allow-untyped-calls
import builtins
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from labkit.notebook.grading.tripwire import watch

__all__ = ["LabShell", "prepare", "serve"]

_FLUSH_AT = 8192


class _Channel:
    """The sending half. One for the whole process: the display classes find it here."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._lock = threading.RLock()
        self._owner = 0

    def open(self, connection: socket.socket) -> None:
        self._socket = connection
        self._owner = os.getpid()

    def send(self, message: dict[str, Any]) -> None:
        if self._socket is None or os.getpid() != self._owner:
            return  # in a child that a cell forked, the descriptor may be another file by now
        try:
            data = json.dumps(message, default=repr).encode("utf-8", "replace") + b"\n"
        except (ValueError, RecursionError) as error:
            data = (
                json.dumps({"t": "stream", "name": "stderr", "text": f"{error}\n"}).encode() + b"\n"
            )
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError:
                os._exit(0)  # nobody listens any more


_channel = _Channel()


class _Stream(io.TextIOBase):
    """sys.stdout or sys.stderr: sends text, at most `limit` characters a cell."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._pending: list[str] = []
        self._pending_size = 0
        self._lock = threading.RLock()
        self.limit = 0
        self.written = 0
        self.buffer = io.FileIO(descriptor, "wb", closefd=False)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            room = self.limit - self.written
            self.written += len(text)
            if room > 0:
                self._pending.append(text[:room])
                self._pending_size += min(len(text), room)
                if self._pending_size >= _FLUSH_AT:
                    self.flush()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._pending:
                text = "".join(self._pending)
                self._pending, self._pending_size = [], 0
                _channel.send({"t": "stream", "name": self._name, "text": text})

    def begin(self, limit: int) -> None:
        """Start counting for a new cell."""
        with self._lock:
            self.limit, self.written = limit, 0


class _Publisher(DisplayPublisher):
    def publish(
        self,
        data: Any,
        metadata: Any = None,
        source: Any = None,  # noqa: ARG002 - IPython's signature
        *,
        transient: Any = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        _flush()
        _channel.send(
            {
                "t": "display",
                "data": _plain(data),
                "metadata": metadata or {},
                "transient": transient or {},
                "update": bool(update),
            }
        )

    def clear_output(self, wait: bool = False) -> None:
        _flush()
        _channel.send({"t": "clear", "wait": bool(wait)})


class _Hook(DisplayHook):
    def __call__(self, result: object = None) -> None:
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        data, metadata = self.compute_format_data(result)
        self.update_user_ns(result)
        self.fill_exec_result(result)
        if data:
            _flush()
            _channel.send(
                {
                    "t": "result",
                    "data": _plain(data),
                    "metadata": metadata or {},
                    "count": self.prompt_count,
                }
            )


class LabShell(InteractiveShell):
    """An InteractiveShell whose outputs go to the channel."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_Hook)
    leaving = False
    noticed: Callable[[str, str], None] | None = None

    def system(self, cmd: str) -> None:
        """`!cmd`. pexpect starts it in a child of its own, which no audit event shows."""
        if self.noticed is not None:
            self.noticed("command", cmd)
        self.system_piped(cmd)

    def ask_exit(self) -> None:
        """`exit` and `quit` end the notebook, as they end a kernel."""
        self.leaving = True

    def _showtraceback(self, etype: Any, evalue: Any, stb: list[str]) -> None:
        _flush()
        name = etype.__name__ if isinstance(etype, type) else str(etype)
        _channel.send(
            {"t": "error", "ename": name, "evalue": str(evalue), "traceback": [str(x) for x in stb]}
        )

    def init_history(self) -> None:
        """Keep no history on disk: its thread would not survive the fork."""
        self.config.HistoryManager.enabled = False
        super().init_history()


def prepare() -> LabShell:
    """Build the shell. Call once, before forking, with no thread running."""
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.cache_size = 100
    config.InteractiveShell.autocall = 0
    shell: LabShell = LabShell.instance(config=config)
    # A first cell loads what IPython loads lazily; the forks inherit it.
    for name in ("asyncio", "pexpect", "subprocess", "getpass"):
        importlib.import_module(name)
    # Nothing that awaits: an event loop's descriptors do not survive the fork.
    for source in ("None", "1/0"):
        shell.run_cell(source, store_history=False, silent=True)
    shell.execution_count = 1
    return shell


def serve(
    shell: LabShell, connection: socket.socket, *, output_bytes: int, tripwires: bool
) -> None:
    """Answer requests on `connection` until it closes. Ends the process."""
    out, err = _Stream("stdout", 1), _Stream("stderr", 2)
    sys.stdout, sys.stderr = out, err
    sys.__stdout__, sys.__stderr__ = out, err  # type: ignore[misc, assignment]
    _channel.open(connection)
    builtins.input = _refuse_input
    import getpass

    getpass.getpass = _refuse_input
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0:1] = (
        [os.getcwd()]
        if sys.path and sys.path[0] in ("", os.getcwd())
        else [
            os.getcwd(),
            *sys.path[:1],
        ]
    )
    if tripwires:
        shell.noticed = watch(
            lambda kind, detail: _channel.send({"t": "trip", "kind": kind, "detail": detail})
        )
    owner = os.getpid()
    with connection.makefile("rb") as requests:
        for line in requests:
            request = json.loads(line)
            if request["op"] == "run":
                _run(shell, request, (out, err), output_bytes)
            # A cell that forked and fell through must not answer in its parent's name.
            if os.getpid() != owner:
                os._exit(0)
    os._exit(0)


def _run(
    shell: LabShell, request: dict[str, Any], streams: tuple[_Stream, _Stream], limit: int
) -> None:
    for stream in streams:
        stream.begin(limit)
    owner = os.getpid()
    count = shell.execution_count
    ok = False
    try:
        ok = bool(shell.run_cell(request["source"], store_history=True).success)
    except KeyboardInterrupt:
        _channel.send({"t": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []})
    if os.getpid() != owner:
        os._exit(0)
    _flush()
    _channel.send(
        {
            "t": "done",
            "n": request["n"],
            "count": count,
            "ok": ok,
            "leaving": bool(shell.leaving),
            "written": sum(stream.written for stream in streams),
        }
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Stream):
            stream.flush()


def _refuse_input(prompt: object = "", *_: object, **__: object) -> str:
    raise StdinNotImplementedError(
        f"this notebook asks a question ({str(prompt).strip()!r}), and nobody is there to answer: "
        "set the value in a cell instead"
    )


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Mime data as JSON can carry it: bytes (images) become base64 text."""
    import base64

    plain: dict[str, Any] = {}
    for kind, value in data.items():
        plain[kind] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    return plain

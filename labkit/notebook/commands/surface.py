"""Where a command's output goes and its questions come from.

A command never prints: it speaks to a `Surface`, which is a terminal, a notebook cell, or a test's
memory. What `out` and `err` receive is what Docker's client writes to stdout and stderr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, runtime_checkable

__all__ = ["BufferSurface", "Surface", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """A listing: `text` is exactly what Docker's client prints (with its newlines), `columns` and
    `rows` the same cells, `records` the fields by template name (`{{.Names}}`), one per row."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text: str
    records: list[dict[str, Any]] = field(default_factory=list)


@runtime_checkable
class Surface(Protocol):
    """One place to write to. Methods are called from one thread at a time."""

    @property
    def stdin(self) -> BinaryIO | None:
        """What `-i` and `-` read; None where there is none."""

    @property
    def is_terminal(self) -> bool:
        """Whether stdin and stdout are a terminal that can be made raw (`-t`)."""

    @property
    def interactive(self) -> bool:
        """Whether somebody can answer a question."""

    def out(self, text: str) -> None: ...

    def err(self, text: str) -> None: ...

    def out_bytes(self, data: bytes) -> None: ...

    def err_bytes(self, data: bytes) -> None: ...

    def table(self, table: Table) -> None:
        """A listing; at least its text goes to stdout."""

    def progress(self, message: Mapping[str, Any]) -> None:
        """One JSON line of a pull, push, build or load, as the engine sent it.

        `"stderr": True` is added where Docker's client writes it to stderr (during `run`).
        """

    def ask(self, question: str, *, flag: str) -> str:
        """The answer to a question without its newline; `flag` is what answers it in advance.

        Raises CommandError naming that flag where nobody can answer.
        """


class BufferSurface:
    """Keeps everything in memory: for tests, `$(docker …)`, and callers that want the text."""

    def __init__(self, *, stdin: BinaryIO | None = None, answers: list[str] | None = None) -> None:
        self.stdin = stdin
        self.is_terminal = False
        self.interactive = answers is not None
        self.tables: list[Table] = []
        self.hints: list[str] = []
        self._answers = list(answers or [])
        self._out = bytearray()
        self._err = bytearray()

    @property
    def stdout(self) -> str:
        return self._out.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self._err.decode(errors="replace")

    @property
    def stdout_bytes(self) -> bytes:
        return bytes(self._out)

    def out(self, text: str) -> None:
        self._out += text.encode(errors="surrogateescape")

    def err(self, text: str) -> None:
        self._err += text.encode(errors="surrogateescape")

    def out_bytes(self, data: bytes) -> None:
        self._out += data

    def err_bytes(self, data: bytes) -> None:
        self._err += data

    def table(self, table: Table) -> None:
        self.tables.append(table)
        self.out(table.text)

    def progress(self, message: Mapping[str, Any]) -> None:
        from labkit.notebook.commands.progress import plain_line

        (self.err if message.get("stderr") else self.out)(plain_line(message))

    def hint(self, text: str) -> None:
        self.hints.append(text)

    def ask(self, question: str, *, flag: str) -> str:
        from labkit.base.errors import CommandError

        self.out(question)
        if not self._answers:
            raise CommandError(f"nobody can answer here; use {flag}", 1)
        return self._answers.pop(0)

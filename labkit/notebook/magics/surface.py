"""A notebook cell as the place a command writes to.

Text streams live to the cell's stdout and stderr; a listing becomes an HTML table whose text twin
is what Docker's client prints; a pull becomes one bar per layer. When the magic's value is
assigned, stdout and listings are kept instead of shown; errors are shown either way.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, BinaryIO

from labkit.base.errors import CommandError
from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.layers import LayerBars, StepBar
from labkit.notebook.magics.results import Lines, Rows
from labkit.notebook.magics.stream import BoundedText
from labkit.notebook.magics.style import with_style
from labkit.notebook.magics.tables import table_html

if TYPE_CHECKING:
    from labkit.notebook.magics.statschart import StatsChart

__all__ = ["NotebookSurface", "as_code", "show"]

_LAST_CHARACTERS = 500
_KEPT_CHARACTERS = 32_000_000
_REDRAW_EVERY_S = 0.1


def show(
    text: str, html: str | None = None, *, name: str | None = None, update: bool = False
) -> None:
    """Display one output with its text twin; with `name` it can be replaced later."""
    from IPython.display import display

    data = {"text/plain": text}
    if html is not None:
        data["text/html"] = html
    if name is None:
        display(data, raw=True)  # type: ignore[no-untyped-call]
    else:
        display(data, raw=True, display_id=name, update=update)  # type: ignore[no-untyped-call]


class NotebookSurface:
    """See `labkit.notebook.commands.surface.Surface`. `keep` holds stdout back for the caller."""

    is_terminal = False
    # How a command is written here, for what to try next.
    program = "%docker"

    def __init__(
        self,
        *,
        stdin: BinaryIO | None = None,
        keep: bool = False,
        can_ask: Callable[[], bool] = lambda: False,
        display: Callable[..., None] = show,
    ) -> None:
        self.stdin = stdin
        self.keep = keep
        self._can_ask = can_ask
        self._display = display
        self._tables: list[Table] = []
        self._kept: list[str] = []
        self._kept_characters = 0
        self._kept_cut = 0
        self._err_text: list[str] = []
        self._last: str | None = None
        self._last_out = ""
        self.hinted = False
        self._note_name: str | None = None
        self._out = BoundedText(self._to_stdout, self._note)
        self._err = BoundedText(self._to_stderr, self._note)
        self._bars: LayerBars | None = None
        self._bars_name = ""
        self._bars_drawn_at = 0.0
        self._chart: StatsChart | None = None
        self._chart_name = ""
        self._steps = StepBar()
        self._steps_name = ""

    @property
    def interactive(self) -> bool:
        return self._can_ask()

    @property
    def said(self) -> str:
        """What stderr got, and the last line of stdout (where an exec's failure stands)."""
        return "".join(self._err_text) + self._last_out

    # -- text ----------------------------------------------------------------------------------

    def out(self, text: str) -> None:
        self._end_bars()
        self._last_out = text[-_LAST_CHARACTERS:]
        if self.keep:
            self._keep_text(text)
        else:
            self._out.feed(text)

    def out_bytes(self, data: bytes) -> None:
        self._end_bars()
        self._last_out = data[-_LAST_CHARACTERS:].decode(errors="replace")
        if self.keep:
            self._keep_text(data.decode(errors="replace"))
        else:
            self._out.feed_bytes(data)

    def err(self, text: str) -> None:
        self._end_bars()
        if len(self._err_text) < 1000:
            self._err_text.append(text)
        self._err.feed(text)

    def err_bytes(self, data: bytes) -> None:
        self._end_bars()
        if len(self._err_text) < 1000:
            self._err_text.append(data.decode(errors="replace"))
        self._err.feed_bytes(data)

    def hint(self, text: str) -> None:
        """What to try after an error."""
        self.hinted = True
        self._flush()
        self._display(
            f"try next: {text}",
            with_style(f"<span class='lk-next'><b>try next:</b> {as_code(text)}</span>"),
        )

    def _keep_text(self, text: str) -> None:
        room = _KEPT_CHARACTERS - self._kept_characters
        self._kept.append(text[:room])
        self._kept_characters += min(room, len(text))
        self._kept_cut += max(0, len(text) - room)

    def _to_stdout(self, text: str) -> None:
        self._write("stdout", text)

    def _to_stderr(self, text: str) -> None:
        self._write("stderr", text)

    def _write(self, name: str, text: str) -> None:
        # The kernel buffers each stream for itself; flushing at a change keeps them in order.
        if self._last not in (None, name):
            self._flush()
        self._last = name
        getattr(sys, name).write(text)

    def _flush(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()

    def _note(self, text: str) -> None:
        """One line that moves while output is being left out."""
        fresh = self._note_name is None
        if self._note_name is None:
            self._flush()
            self._note_name = f"labkit-{uuid.uuid4().hex}"
        html = with_style(f"<span class='lk-note'>{escape(text)}</span>")
        self._display(text, html, name=self._note_name, update=not fresh)

    # -- listings, progress, questions ---------------------------------------------------------

    def table(self, table: Table) -> None:
        self._end_bars()
        if self.keep:
            self._tables.append(table)
            return
        self._flush()
        self._last = None
        self._display(table.text, table_html(table))

    def refresh(self, table: Table) -> bool:
        """Another state of a listing that goes on until it is stopped; whether to go on.

        Where nobody could stop it, it is shown once.
        """
        self._end_bars()
        if self.keep or not self.interactive:
            self.table(table)
            if not self.keep:
                self._note("shown once: nobody could stop it here")
            return False
        fresh = self._chart is None
        if self._chart is None:
            from labkit.notebook.magics.statschart import StatsChart

            self._flush()
            self._chart = StatsChart()
            self._chart_name = f"labkit-{uuid.uuid4().hex}"
        self._chart.feed(table)
        self._display(self._chart.text, self._chart.html(), name=self._chart_name, update=not fresh)
        return True

    def progress(self, message: Mapping[str, Any]) -> None:
        if "stream" in message and not message.get("id"):
            # A build's own words: they belong to the text of the cell, where they stay in order.
            self._build_words(str(message["stream"]), bool(message.get("stderr")))
            return
        if self._bars is None:
            self._bars = LayerBars()
            self._bars_name = ""
        self._bars.feed(message)
        now = time.monotonic()
        if not self.keep and now - self._bars_drawn_at >= _REDRAW_EVERY_S:
            self._bars_drawn_at = now
            self._draw_bars()

    def _build_words(self, text: str, is_error: bool) -> None:
        if not self.keep and self._steps.feed(text):
            fresh = not self._steps_name
            if fresh:
                self._flush()
                self._steps_name = f"labkit-{uuid.uuid4().hex}"
            self._display("", self._steps.html(), name=self._steps_name, update=not fresh)
        (self.err if is_error else self.out)(text)

    def _draw_bars(self) -> None:
        assert self._bars is not None
        fresh = not self._bars_name
        if fresh:
            self._flush()
            self._bars_name = f"labkit-{uuid.uuid4().hex}"
        self._display(self._bars.text, self._bars.html(), name=self._bars_name, update=not fresh)

    def _end_bars(self) -> None:
        if self._bars is None:
            return
        if self.keep:
            self._keep_text(self._bars.text)
        else:
            self._draw_bars()
        self._bars = None

    def ask(self, question: str, *, flag: str) -> str:
        return self._ask(question, flag, input)

    def _ask(self, question: str, flag: str, read: Callable[[str], str]) -> str:
        self._end_bars()
        self._flush()
        refusal = CommandError(
            f"nobody can answer the question {question.strip()!r} here",
            1,
            hint=f"answer it in the command: {flag}",
        )
        if not self._can_ask():
            raise refusal
        try:
            return read(question)
        except (EOFError, NotImplementedError) as error:
            raise refusal from error

    def ask_secret(self, question: str, *, flag: str) -> str:
        """Like `ask`, and what is typed is not shown."""
        import getpass

        return self._ask(question, flag, getpass.getpass)

    # -- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Show what is still held back."""
        self._end_bars()
        self._out.close()
        self._err.close()

    def result(self, exit_code: int) -> Rows | Lines:
        """What an assignment gets: the rows of one listing, or the lines of the output."""
        if self._kept_cut:
            self.err(f"[{self._kept_cut} characters of the output were not kept]\n")
        text = "".join(self._kept)
        if len(self._tables) == 1 and not text:
            return Rows(self._tables[0])
        text = "".join(table.text for table in self._tables) + text
        return Lines(text, stderr="".join(self._err_text), exit_code=exit_code)


def as_code(text: str) -> str:
    """Escaped text in which `this` is set as code."""
    pieces = escape(text, quote=False).split("`")
    if len(pieces) % 2 == 0:
        return "`".join(pieces)
    return "".join(f"<code>{piece}</code>" if i % 2 else piece for i, piece in enumerate(pieces))

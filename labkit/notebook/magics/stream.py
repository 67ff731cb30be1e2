"""A cell's text output, bounded: a container that prints 100 MB must not take the browser along.

The beginning is shown as it comes; after that only a count moves, and at the end the last lines
follow. What was left out is said in words, with the command that shows all of it.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable

from labkit.base.quantities import format_size

__all__ = ["HEAD_CHARACTERS", "HEAD_LINES", "TAIL_CHARACTERS", "BoundedText"]

HEAD_CHARACTERS = 400_000
HEAD_LINES = 4_000
TAIL_CHARACTERS = 16_000
_NOTE_EVERY_S = 0.5


class BoundedText:
    """Passes text on to `write` up to a bound and keeps the end for `close`.

    `note` is told from time to time how much was left out so far.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        note: Callable[[str], object] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._note = note
        self._clock = clock
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = HEAD_CHARACTERS
        self._lines_left = HEAD_LINES
        self._cut_characters = 0
        self._cut_lines = 0
        self._tail = ""
        self._noted_at = 0.0

    @property
    def is_cut(self) -> bool:
        """Whether something was left out."""
        return self._cut_characters > len(self._tail)

    def feed_bytes(self, data: bytes) -> None:
        """UTF-8 that may be split anywhere; bytes that are none are shown as U+FFFD."""
        self.feed(self._decoder.decode(data))

    def feed(self, text: str) -> None:
        """More output."""
        if not text:
            return
        head = ""
        if self._left > 0:
            head, text = self._split(text)
            self._write(head)
        if text:
            self._cut_characters += len(text)
            self._cut_lines += text.count("\n")
            self._tail = (self._tail + text)[-TAIL_CHARACTERS:]
            self._say_progress()

    def _split(self, text: str) -> tuple[str, str]:
        """What still fits, and the rest."""
        end = min(len(text), self._left)
        lines = text.count("\n", 0, end)
        if lines >= self._lines_left:
            at = -1
            for _ in range(self._lines_left):
                at = text.index("\n", at + 1)
            end, lines = at + 1, self._lines_left
        self._lines_left -= lines
        self._left -= end
        if self._lines_left == 0:
            self._left = 0
        return text[:end], text[end:]

    def _say_progress(self) -> None:
        now = self._clock()
        if self._note is not None and now - self._noted_at >= _NOTE_EVERY_S:
            self._noted_at = now
            self._note(f"… {format_size(self._cut_characters)} more so far, not shown")

    def close(self) -> None:
        """Show the end and say what was left out."""
        self.feed(self._decoder.decode(b"", final=True))
        if not self._cut_characters:
            return
        if not self.is_cut:
            self._write(self._tail)
            return
        tail = self._tail.partition("\n")[2] or self._tail
        cut = self._cut_characters - len(tail)
        lines = max(0, self._cut_lines - tail.count("\n"))
        said = f"{format_size(cut)} ({lines} lines) of output not shown here"
        if self._note is not None:
            self._note(f"… {said}")
        self._write(f"\n[… {said}; all of it: end the line with  > file  or  | tail -n 50 …]\n")
        self._write(tail)

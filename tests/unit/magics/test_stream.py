"""Output is bounded, and says what it left out."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from labkit.notebook.magics.stream import HEAD_CHARACTERS, HEAD_LINES, TAIL_CHARACTERS, BoundedText


def through(*pieces: str) -> str:
    shown: list[str] = []
    stream = BoundedText(shown.append)
    for piece in pieces:
        stream.feed(piece)
    stream.close()
    return "".join(shown)


@given(st.lists(st.text(max_size=50), max_size=30))
def test_little_output_passes_unchanged(pieces: list[str]) -> None:
    assert through(*pieces) == "".join(pieces)


@given(st.text(max_size=60), st.integers(1, 5))
def test_characters_may_be_split_between_reads(text: str, step: int) -> None:
    shown: list[str] = []
    stream = BoundedText(shown.append)
    data = text.encode(errors="replace")
    for start in range(0, len(data), step):
        stream.feed_bytes(data[start : start + step])
    stream.close()
    assert "".join(shown) == data.decode()


def test_much_output_shows_its_beginning_its_end_and_what_is_missing() -> None:
    lines = [f"line {number}\n" for number in range(100_000)]
    shown = through(*lines)
    assert shown.startswith("line 0\nline 1\n")
    assert shown.endswith("line 99999\n")
    assert "not shown here" in shown
    assert "> file" in shown
    assert shown.count("\n") < HEAD_LINES + 2_000


def test_just_over_the_bound_nothing_is_lost() -> None:
    text = "x" * (HEAD_CHARACTERS + TAIL_CHARACTERS)
    assert through(text) == text
    text = "y\n" * (HEAD_LINES + 10)
    assert through(text) == text


def test_a_hundred_megabytes_stay_small_in_memory() -> None:
    notes: list[str] = []
    written = 0

    def write(text: str) -> None:
        nonlocal written
        written += len(text)

    stream = BoundedText(write, notes.append)
    chunk = b"0123456789abcde\n" * 4096
    tracemalloc.start()
    for _ in range(100_000_000 // len(chunk)):
        stream.feed_bytes(chunk)
    stream.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written < HEAD_CHARACTERS + TAIL_CHARACTERS + 1000
    assert peak < 3_000_000
    assert notes[-1].startswith("… ")
    assert "MB" in notes[-1]

"""Log records into frames: the C core beside json.loads, on good lines and on broken ones."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from labkit.host.isolation.native import log_frames

TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from('ab"\\\n\r\t\x01/\u2028\u00e9\U0001f600'),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)
STREAMS = st.sampled_from(["stdout", "stderr"])
TIME = "2024-05-01T10:00:00.5Z"


def line(text: str, stream: str, *, ascii_only: bool = False) -> bytes:
    record = {"log": text, "stream": stream, "time": TIME}
    return json.dumps(record, ensure_ascii=ascii_only, separators=(",", ":")).encode() + b"\n"


def framed(text: str, stream: str) -> bytes:
    data = text.encode()
    return bytes([1 if stream == "stdout" else 2, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def both(block: bytes, *, raw: bool = False, timestamps: bool = False) -> tuple[bytes, int]:
    return log_frames(block, stdout=True, stderr=True, raw=raw, timestamps=timestamps)


@given(st.lists(st.tuples(TEXTS, STREAMS, st.booleans()), max_size=6))
def test_every_record_becomes_what_json_would_make_of_it(
    rows: list[tuple[str, str, bool]],
) -> None:
    block = b"".join(line(text, stream, ascii_only=plain) for text, stream, plain in rows)
    frames = b"".join(framed(text, stream) for text, stream, _ in rows)
    assert both(block) == (frames, len(block))
    assert both(block, raw=True)[0] == "".join(text for text, _, _ in rows).encode()
    stamp = "2024-05-01T10:00:00.500000000Z "
    timed = b"".join(framed(stamp + text, stream) for text, stream, _ in rows)
    assert both(block, timestamps=True)[0] == timed
    only = log_frames(block, stdout=False, stderr=True, raw=True, timestamps=False)[0]
    assert only == "".join(text for text, stream, _ in rows if stream == "stderr").encode()


@given(TEXTS, STREAMS, st.binary(max_size=30), st.integers(0, 80), st.booleans())
def test_broken_bytes_never_give_more_than_they_were(
    text: str, stream: str, noise: bytes, where: int, timestamps: bool
) -> None:
    good = line(text, stream)
    block = good[:where] + noise + good[where + len(noise) :]
    found, taken = both(block, timestamps=timestamps)
    assert len(found) <= len(block)
    assert 0 <= taken <= len(block)


def test_a_line_written_by_somebody_else_is_left_to_the_caller() -> None:
    first, other = line("a\n", "stdout"), b'{"stream":"stdout","log":"b\\n"}\n'
    assert both(first + other) == (framed("a\n", "stdout"), len(first))


def test_an_unfinished_line_waits_for_its_end() -> None:
    first = line("a\n", "stdout")
    assert both(first + b'{"log":"b') == (framed("a\n", "stdout"), len(first))

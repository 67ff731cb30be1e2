from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter
from labkit.daemon.docker_api.detach import DEFAULT_KEYS, DetachKeys, parse_keys


def test_keys_are_read_as_docker_writes_them() -> None:
    assert parse_keys(None) == parse_keys("") == DEFAULT_KEYS == b"\x10\x11"
    assert parse_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse_keys("a,ctrl-@,ctrl-[,ctrl-_") == b"a\x00\x1b\x1f"


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,,b", "ctrl-P", "é"])
def test_keys_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Invalid detach keys"):
        parse_keys(text)


def test_the_sequence_detaches_and_what_only_began_like_it_is_passed_on() -> None:
    keys = DetachKeys(DEFAULT_KEYS)
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"c\x10\x10") == (b"\x10c\x10", False)
    assert keys.feed(b"\x11rest") == (b"", True)


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=40), st.integers(1, 7))
def test_input_is_cut_at_the_first_occurrence_however_it_arrives(
    sequence: bytes, data: bytes, size: int
) -> None:
    keys, passed, detached = DetachKeys(sequence), b"", False
    for start in range(0, len(data), size):
        part, detached = keys.feed(data[start : start + size])
        passed += part
        if detached:
            break
    end = data.find(sequence)
    assert detached == (end >= 0)
    if detached:
        assert passed == data[:end]
    else:
        assert data.startswith(passed)
        assert sequence.startswith(data[len(passed) :])

"""Amounts are read and printed as Docker's client does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.errors import InvalidParameter
from labkit.base.quantities import (
    format_age,
    format_binary_size,
    format_duration,
    format_size,
    parse_bytes,
    parse_cpus,
    parse_duration_ns,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64mb", 64 << 20),
        ("1.5g", 3 << 29),
        ("10KiB", 10 << 10),
        ("1 k", 1024),
    ],
)
def test_a_size_is_read_in_powers_of_1024(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "m", "-1m", "1x", "1.2.3k", "1mm", "9" * 30, "0x10", "1e3"])
def test_nonsense_is_no_size(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size"):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "expected"), [("1.5", 1_500_000_000), ("0.000000001", 1)])
def test_cpus_are_billionths(text: str, expected: int) -> None:
    assert parse_cpus(text) == expected


@pytest.mark.parametrize("text", ["x", "", "nan", "inf", "0.0000000001"])
def test_nonsense_is_no_number_of_cpus(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("300ms", 300_000_000),
        ("1h30m", 5_400_000_000_000),
        ("-1.5s", -1_500_000_000),
        (".5s", 500_000_000),
        ("1µs", 1_000),
    ],
)
def test_durations_follow_go(text: str, expected: int) -> None:
    assert parse_duration_ns(text) == expected


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1h-2m", "9999999999h", "."])
def test_nonsense_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidParameter, match="duration"):
        parse_duration_ns(text)


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_a_printed_duration_reads_back_as_itself(nanoseconds: int) -> None:
    assert parse_duration_ns(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (4_261_234, "4.261MB"), (77_800_000, "77.8MB")],
)
def test_sizes_are_printed_in_decimal_units(count: int, expected: str) -> None:
    assert format_size(count) == expected


def test_memory_is_printed_in_binary_units() -> None:
    assert format_binary_size(2_038_000) == "1.944MiB"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (47 * 3600, "47 hours"),
        (3 * 86400, "3 days"),
        (21 * 86400, "3 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_ages_are_words(seconds: float, expected: str) -> None:
    assert format_age(seconds) == expected

"""A forgotten loop must not fill a student's disk; who asks for Docker's default gets it."""

from __future__ import annotations

import pytest

from labkit.base.errors import InvalidParameter
from labkit.host.engine.hostconfig import LogConfig
from labkit.host.engine.validate import LOG_FUSE, log_limits


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, LOG_FUSE),
        ({"max-size": "-1"}, (-1, 1)),
        ({"max-size": "10m"}, (10 << 20, 1)),
        ({"max-size": "10m", "max-file": "3"}, (10 << 20, 3)),
        ({"labels": "a"}, LOG_FUSE),
    ],
)
def test_a_log_is_bounded_unless_asked_otherwise(
    options: dict[str, str], expected: tuple[int, int]
) -> None:
    assert log_limits(LogConfig(type="json-file", config=options)) == expected


def test_several_files_without_a_size_are_no_more_than_the_fuse() -> None:
    assert log_limits(LogConfig(type="json-file", config={"max-file": "3"})) == LOG_FUSE


def test_no_files_at_all_make_no_sense() -> None:
    with pytest.raises(InvalidParameter, match="max-file cannot be less than 1"):
        log_limits(LogConfig(type="json-file", config={"max-file": "0"}))

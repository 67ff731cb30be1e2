from __future__ import annotations

import logging

import pytest

from labkit.daemon.logs import Redactor


@pytest.mark.parametrize(
    "text",
    [
        "X-Registry-Auth: eyJ1c2VyIjoi",
        '{"password":"eyJ1c2VyIjoi"}',
        "Authorization: Bearer eyJ1c2VyIjoi",
        "token=eyJ1c2VyIjoi",
    ],
)
def test_secrets_never_reach_the_log(text: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "asked %s", (text,), None)
    assert Redactor().filter(record)
    assert "eyJ" not in record.getMessage()
    assert "***" in record.getMessage()


def test_ordinary_words_are_left_alone() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "container %s started", ("web",), None)
    Redactor().filter(record)
    assert record.getMessage() == "container web started"

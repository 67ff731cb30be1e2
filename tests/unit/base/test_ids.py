"""Identifiers look like Docker's and never like a number."""

from __future__ import annotations

from labkit.base.ids import is_id_prefix, new_id, short_id


def test_an_id_is_64_hexadecimal_digits_and_never_all_decimal_in_front() -> None:
    for _ in range(500):
        identifier = new_id()
        assert len(identifier) == 64
        assert is_id_prefix(identifier)
        assert not short_id(identifier).isdecimal()


def test_a_short_id_forgets_the_algorithm() -> None:
    assert short_id("sha256:" + "ab" * 32) == "abababababab"


def test_a_name_is_no_id() -> None:
    assert not is_id_prefix("web")
    assert not is_id_prefix("")

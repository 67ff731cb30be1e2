"""One cell's outputs: merged, updated, cleared and bounded as a front end would show them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from labkit.base.errors import InvalidParameter, NotFound, SystemFailure, Unavailable
from labkit.notebook.grading.answers import parse_answers
from labkit.notebook.grading.outputs import CellOutputs
from labkit.notebook.grading.wire import Api, connect_address, connect_unix


def test_neighbouring_text_of_one_stream_is_one_output() -> None:
    outputs = CellOutputs(100)
    outputs.stream("stdout", "a")
    outputs.stream("stdout", "b")
    outputs.stream("stderr", "c")
    assert [(one["name"], one["text"]) for one in outputs.finished()] == [
        ("stdout", "ab"),
        ("stderr", "c"),
    ]


def test_what_is_over_the_bound_is_counted_not_kept() -> None:
    outputs = CellOutputs(10)
    for _ in range(1000):
        outputs.stream("stdout", "x" * 1000)
    outputs.display({"data": {"text/html": "y" * 100}})
    assert outputs.dropped_bytes > 999_990
    shown = outputs.finished()
    assert shown[0]["text"] == "x" * 10
    assert "more bytes of output were not kept" in shown[-1]["text"]


def test_an_update_replaces_the_display_of_the_same_id() -> None:
    outputs = CellOutputs(1000)
    first: dict[str, Any] = {"data": {"text/plain": "0 %"}, "transient": {"display_id": "p"}}
    outputs.display(first)
    outputs.display({**first, "data": {"text/plain": "100 %"}, "update": True})
    [shown] = outputs.finished()
    assert shown["data"] == {"text/plain": "100 %"}
    assert "_id" not in shown


def test_clear_waits_for_the_next_output_when_asked() -> None:
    outputs = CellOutputs(1000)
    outputs.stream("stdout", "old")
    outputs.clear(wait=True)
    assert len(outputs.items) == 1
    outputs.stream("stdout", "new")
    assert [one["text"] for one in outputs.finished()] == ["new"]


def test_nonsense_instead_of_a_display_is_an_empty_one() -> None:
    outputs = CellOutputs(1000)
    outputs.display({"data": "text", "metadata": [1], "transient": None})
    assert outputs.finished()[0]["data"] == {}


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b"\xff", b"[" * 90_000, b"1" * (2 << 20)])
def test_unusable_answers_are_no_answers(data: bytes) -> None:
    assert parse_answers(data) == {}


Served = Callable[..., Api]


@pytest.fixture
def served() -> Iterator[Served]:
    """Makes an Api whose next connections each answer with the given bytes."""
    kept: list[socket.socket] = []

    def make(*answers: bytes) -> Api:
        left = list(answers)

        def connect() -> socket.socket:
            mine, theirs = socket.socketpair()
            theirs.sendall(left.pop(0))
            theirs.shutdown(socket.SHUT_WR)
            kept.append(theirs)
            return mine

        return Api(connect, max_bytes=1000)

    yield make
    for one in kept:
        one.close()


def answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_an_answer_is_decoded(served: Served) -> None:
    assert served(answer("200 OK", b'{"a": 1}')).get("/x") == {"a": 1}


def test_several_documents_in_one_answer(served: Served) -> None:
    assert served(answer("200 OK", b'{"a": 1}\n{"b": 2}\n')).lines("/x") == [{"a": 1}, {"b": 2}]


def test_a_refusal_keeps_its_words(served: Served) -> None:
    with pytest.raises(NotFound, match="No such container: web"):
        served(answer("404 Not Found", b'{"message": "No such container: web"}')).get("/x")


def test_hostile_answers_are_refused(served: Served) -> None:
    with pytest.raises(SystemFailure, match="larger than"):
        served(answer("200 OK", b"x" * 5000)).get("/x")
    with pytest.raises(Unavailable):
        served(b"not http at all\r\n\r\n").get("/x")
    with pytest.raises(SystemFailure, match="not JSON"):
        served(answer("200 OK", b"<html>")).get("/x")


def test_a_socket_that_is_not_there_says_how_to_start_the_lab() -> None:
    with pytest.raises(Unavailable, match="cannot reach the lab") as caught:
        Api(partial(connect_unix, "/nowhere/docker.sock")).get("/x")
    assert caught.value.hint == "start it with: labkit up"


def test_an_address_of_no_known_kind_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        connect_address("ftp://x:1")

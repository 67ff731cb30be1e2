"""A client that answers from a table and notes what it was asked."""

from __future__ import annotations

from typing import Any

from labkit.base.errors import NotFound


class Answer:
    def __init__(self, value: Any) -> None:
        self.value = value

    def json(self) -> Any:
        return self.value


class FakeClient:
    """`answers` maps (method, path) to JSON or to an exception."""

    def __init__(self, answers: dict[tuple[str, str], Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.address = "unix:///nowhere"

    def _answer(self, method: str, path: str, arguments: dict[str, Any]) -> Any:
        self.asked.append((method, path, arguments))
        if (method, path) not in self.answers:
            raise NotFound(f"no {path} here")
        value = self.answers[method, path]
        if isinstance(value, Exception):
            raise value
        return value

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        return Answer(self._answer(method, path, arguments))

    open = request

    def json(self, method: str, path: str, body: Any = None, **arguments: Any) -> Any:
        return self._answer(method, path, {"body": body, **arguments})

    def stream(self, method: str, path: str, **arguments: Any) -> Any:
        yield from self._answer(method, path, arguments)

    def hijack(self, path: str, **arguments: Any) -> Any:
        return self._answer("POST", path, arguments)

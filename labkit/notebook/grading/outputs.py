"""One cell's outputs as nbformat keeps them, within a bound."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["CellOutputs"]

_MAX_ITEMS = 500


class CellOutputs:
    """Collects messages of a shell into a list of nbformat outputs.

    `limit` bytes are kept in all; what comes after is counted in `dropped_bytes`.
    """

    def __init__(self, limit: int) -> None:
        self.items: list[dict[str, Any]] = []
        self.dropped_bytes = 0
        self._left = limit
        self._clear_next = False

    def stream(self, name: str, text: str) -> None:
        """Text on `stdout` or `stderr`; neighbours of the same name become one output."""
        text = self._take(text)
        if not text:
            return
        self._clear_if_due()
        if self.items and self.items[-1].get("name") == name:
            self.items[-1]["text"] += text
        else:
            self._append({"output_type": "stream", "name": name, "text": text})

    def display(self, message: dict[str, Any]) -> None:
        """A display, or the update of an earlier one with the same display_id."""
        data, metadata = _mapping(message.get("data")), _mapping(message.get("metadata"))
        display_id = _mapping(message.get("transient")).get("display_id")
        if not self._fits(data):
            return
        if message.get("update"):
            for item in self.items:
                if display_id is not None and item.get("_id") == display_id:
                    item["data"], item["metadata"] = data, metadata
            return
        self._clear_if_due()
        self._append(
            {
                "output_type": "display_data",
                "data": data,
                "metadata": metadata,
                "_id": display_id,
            }
        )

    def result(self, message: dict[str, Any]) -> None:
        data = _mapping(message.get("data"))
        if self._fits(data):
            self._clear_if_due()
            self._append(
                {
                    "output_type": "execute_result",
                    "data": data,
                    "metadata": _mapping(message.get("metadata")),
                    "execution_count": message.get("count"),
                }
            )

    def error(self, name: str, value: str, traceback: list[str]) -> None:
        self._clear_if_due()
        self._append(
            {
                "output_type": "error",
                "ename": name[:200],
                "evalue": value[:20_000],
                # papermill shows nothing but these lines.
                "traceback": [line[:20_000] for line in traceback[:200]] or [f"{name}: {value}"],
            }
        )

    def clear(self, *, wait: bool) -> None:
        if wait:
            self._clear_next = True
        else:
            self.items.clear()

    def finished(self) -> list[dict[str, Any]]:
        """The outputs, with a last word when some were dropped."""
        if self.dropped_bytes:
            self.items.append(
                {
                    "output_type": "stream",
                    "name": "stderr",
                    "text": f"\n… {self.dropped_bytes:,} more bytes of output were not kept\n",
                }
            )
            self.dropped_bytes = 0
        for item in self.items:
            item.pop("_id", None)
        return self.items

    def _append(self, item: dict[str, Any]) -> None:
        if len(self.items) < _MAX_ITEMS:
            self.items.append(item)
        else:
            self.dropped_bytes += 1

    def _take(self, text: str) -> str:
        kept = text[: self._left]
        self._left -= len(kept)
        self.dropped_bytes += len(text) - len(kept)
        return kept

    def _fits(self, data: dict[str, Any]) -> bool:
        size = len(json.dumps(data, default=str))
        if size > self._left:
            self.dropped_bytes += size
            return False
        self._left -= size
        return True

    def _clear_if_due(self) -> None:
        if self._clear_next:
            self.items.clear()
            self._clear_next = False


def _mapping(value: object) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}

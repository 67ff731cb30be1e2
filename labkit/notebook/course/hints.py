"""Hints, one at a time: each call for the same exercise gives the next one."""

from __future__ import annotations

from labkit.notebook.course import answers

__all__ = ["next_hint"]

_KEY = "hints-shown:"


def next_hint(exercise: str, hints: list[str], *, again: bool = False) -> str:
    """The next hint of `exercise`, with its number; the last one stays once it is reached.

    `again` shows the one that was shown last without moving on.
    """
    if not hints:
        return "This exercise has no hints: everything needed is in the chapter."
    found = answers.load().get(_KEY + exercise, 0)
    shown = found if isinstance(found, int) and 0 <= found <= len(hints) else 0
    if not (again and shown) and shown < len(hints):
        shown += 1
        answers.store(_KEY + exercise, shown)
    text = f"Hint {shown} of {len(hints)}: {hints[shown - 1]}"
    return text if shown < len(hints) else text + "\n(That was the last one.)"

"""Command grammars: one source for magics, the terminal, completion and reference pages."""

from __future__ import annotations

__all__: list[str] = []

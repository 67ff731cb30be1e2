"""Where quotations and substitutions of a shell line end."""

from __future__ import annotations

from labkit.base.errors import InvalidParameter

__all__ = ["GrammarError", "closing_parenthesis", "open_quote"]


class GrammarError(InvalidParameter):
    """The line cannot be read: an open quote, a missing parenthesis, a `&` in the middle."""

    exit_code = 2  # what sh answers to a syntax error


def open_quote(mark: str) -> GrammarError:
    """The error for a quotation begun with `mark` and never closed."""
    return GrammarError(
        f"unexpected end of the line while looking for the closing {mark}",
        hint=f"close the quotation with {mark}, or write \\{mark} for the character itself",
    )


def closing_parenthesis(text: str, at: int) -> int:
    """The place of the `)` that closes a `$(` whose inside begins at `at`."""
    depth = 1
    while at < len(text):
        here = text[at]
        if here == "\\":
            at += 1
        elif here == "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise open_quote("'")
            at = end
        elif here == '"':
            at = _closing_double(text, at + 1)
        elif here == "(":
            depth += 1
        elif here == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise GrammarError(
        "unexpected end of the line while looking for the closing )",
        hint="`$(command)` is replaced by what the command prints",
    )


def _closing_double(text: str, at: int) -> int:
    """The place of the `"` that ends a quotation whose inside begins at `at`."""
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == '"':
            return at
        at = closing_parenthesis(text, at + 2) + 1 if text.startswith("$(", at) else at + 1
    raise open_quote('"')

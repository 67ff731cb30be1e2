"""Which files of a context `.dockerignore` leaves out.

Both ends read it: the client, which sends only what is left, and the builder, for clients that
send everything. Patterns are Go's filepath.Match with `**` for any number of folders; a later line
overrides an earlier one; `!` takes back in. A pattern that matches a folder leaves out all below.
Reference: "Build context", ".dockerignore files".
"""

from __future__ import annotations

import posixpath
import re

from labkit.base.errors import InvalidParameter

__all__ = ["IgnoreRules", "pattern_to_regex"]


def pattern_to_regex(pattern: str, *, deep: bool = True) -> re.Pattern[str]:
    """A path pattern as a regular expression for whole paths; `deep` allows `**`.

    Raises InvalidParameter with Go's `syntax error in pattern`.
    """
    out, at = "", 0
    while at < len(pattern):
        character = pattern[at]
        if character == "*":
            if deep and pattern.startswith("**", at):
                at += 2
                if pattern.startswith("/", at):
                    at += 1
                    out += "(?:.*/)?"
                else:
                    out += ".*"
                continue
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[":
            piece, at = _range(pattern, at)
            out += piece
            continue
        elif character == "\\":
            at += 1
            if at >= len(pattern):
                raise InvalidParameter("syntax error in pattern")
            out += re.escape(pattern[at])
        else:
            out += re.escape(character)
        at += 1
    try:
        return re.compile(out + r"\Z", re.DOTALL)
    except re.error:
        raise InvalidParameter("syntax error in pattern") from None


def _range(pattern: str, at: int) -> tuple[str, int]:
    """A `[a-z]` or `[^a]`, and where it ends."""
    at += 1
    out = "["
    if pattern[at : at + 1] == "^":
        out += "^"
        at += 1
    first = True
    while True:
        if at >= len(pattern):
            raise InvalidParameter("syntax error in pattern")
        character = pattern[at]
        if character == "]" and not first:
            return out + "]", at + 1
        first = False
        if character == "\\":
            at += 1
            if at >= len(pattern):
                raise InvalidParameter("syntax error in pattern")
            character = pattern[at]
            out += "\\" + character if not character.isalnum() else character
        elif character == "-":
            # Two of them would be an operator to re, and are a range and its end to Go.
            out += "\\-" if out.endswith("-") else "-"
        else:
            out += "\\" + character if not character.isalnum() else character
        at += 1


class IgnoreRules:
    """The lines of one .dockerignore."""

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        self._exceptions: list[str] = []
        for line in text.removeprefix("\ufeff").splitlines():
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            negated = pattern.startswith("!")
            pattern = pattern[1:].strip() if negated else pattern
            if not pattern:
                raise InvalidParameter(
                    'error reading .dockerignore: illegal exclusion pattern: "!"'
                )
            pattern = posixpath.normpath(pattern).lstrip("/")
            if pattern in ("", "."):
                continue
            self.add(pattern, negated=negated)

    def add(self, pattern: str, *, negated: bool) -> None:
        """One more rule, which overrides those before it."""
        self._rules.append((pattern_to_regex(pattern), not negated))
        if negated:
            self._exceptions.append(pattern)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excludes(self, path: str) -> bool:
        """Whether the file or folder at `path` (relative, no leading slash) is left out."""
        parts = path.split("/")
        excluded = False
        for regex, leaves_out in self._rules:
            if excluded == leaves_out:
                continue
            if any(regex.match("/".join(parts[:length])) for length in range(len(parts), 0, -1)):
                excluded = leaves_out
        return excluded

    def may_hold_exceptions(self, folder: str) -> bool:
        """Whether something below an excluded folder may be taken back in.

        As in Docker's client, an exception counts by its text: `!a/b/c` opens `a` and `a/b`, and
        `!**/c` opens nothing that is excluded as a whole.
        """
        return any(f"{pattern}/".startswith(f"{folder}/") for pattern in self._exceptions)

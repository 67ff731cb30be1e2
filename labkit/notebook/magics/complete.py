"""The Tab key behind a magic: subcommands, flags, containers, images, views."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.notebook.magics.line import Notebook

__all__ = ["candidates", "install", "uninstall"]

_MAGIC = re.compile(r"(?:^|=\s*)\s*%{1,2}(docker|lab|explain)\b([^\n]*)\Z")
_LAST_WORD = re.compile(r"(\S*)\Z")


def candidates(notebook: Notebook, before_cursor: str) -> tuple[str, list[tuple[str, str]]] | None:
    """What could stand at the cursor as (text typed so far, [(word, explanation)]).

    None where the line is none of ours. Failures (no daemon, half a quotation) give no words:
    the Tab key must never print an error.
    """
    match = _MAGIC.search(before_cursor.rpartition("\n")[2])
    if match is None or not match[2][:1].isspace():
        return None
    magic, rest = match[1], match[2]
    last = _LAST_WORD.search(rest)
    assert last is not None
    current = last[1]
    words = rest[: last.start()].split()
    if magic == "lab" and words in (["open"], ["verdict"]):
        return current, _docker(notebook, ["top"], current)  # the name of a running container
    if magic == "lab":
        return current, _lab(words, current)
    if magic == "explain":
        if not words:
            return current, [("docker", "command")] if "docker".startswith(current) else []
        words = words[1:]
    return current, _docker(notebook, words, current)


def _lab(words: list[str], current: str) -> list[tuple[str, str]]:
    from labkit.notebook.magics.lab import SUBCOMMANDS
    from labkit.notebook.widgets import VIEWS

    if not words:
        found = [(name, "command") for name in SUBCOMMANDS]
    elif words == ["view"]:
        found = [(name, "view") for name in VIEWS]
    elif words == ["jobs"]:
        found = [("stop", "command")]
    else:
        found = []
    return [(name, text) for name, text in found if name.startswith(current)]


def _docker(notebook: Notebook, words: list[str], current: str) -> list[tuple[str, str]]:
    from labkit.base.errors import LabkitError
    from labkit.notebook.commands.docker import complete

    try:
        found = complete(words, current, client=notebook.session.docker())
    except (LabkitError, OSError, ValueError):
        return []
    return [(one.text, one.kind) for one in found]


def _matcher(get_notebook: Callable[[], Notebook]) -> Callable[..., Any]:
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[untyped-decorator]
    def labkit_matcher(context: Any) -> dict[str, Any]:
        before = context.full_text[: _offset(context)]
        if "%" not in before:
            return {"completions": []}
        found = candidates(get_notebook(), before)
        if found is None:
            return {"completions": []}
        current, words = found
        if not words:
            if not current or current[0] in "./~" or "/" in current:
                return {"completions": []}  # perhaps a file, which IPython knows about
            words = [(current, "")]  # nothing of ours, and nothing of Python's would fit
        return {
            "completions": [SimpleCompletion(word, type=text or "docker") for word, text in words],
            "matched_fragment": current,
            # Python's own guesses about `run` or file names would only be in the way. The type
            # stands in a narrow column of the pop-up: one word.
            "suppress": True,
        }

    matcher: Callable[..., Any] = labkit_matcher
    return matcher


def _offset(context: Any) -> int:
    """The cursor's place in the whole cell."""
    lines = context.full_text.split("\n")
    return sum(len(line) + 1 for line in lines[: context.cursor_line]) + int(
        context.cursor_position
    )


def install(shell: Any, get_notebook: Callable[[], Notebook]) -> Callable[..., Any]:
    """Add our matcher to the shell's completer; the matcher, for `uninstall`."""
    matcher = _matcher(get_notebook)
    shell.Completer.custom_matchers.append(matcher)
    return matcher


def uninstall(shell: Any, matcher: Callable[..., Any]) -> None:
    """Take it away again."""
    matchers = shell.Completer.custom_matchers
    if matcher in matchers:
        matchers.remove(matcher)

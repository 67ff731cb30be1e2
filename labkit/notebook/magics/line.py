"""From a magic's line to a result: the part that `%docker` and `%host` share.

A failure is said in Docker's words on stderr, with what to try next and the exit code; it never
raises. Only the stop button does, because the rest of the cell must not run after it.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NoReturn

from labkit.base.errors import LabkitError
from labkit.notebook.commands.surface import BufferSurface
from labkit.notebook.magics.grammar import Line, parse, substitute_text
from labkit.notebook.magics.results import Lines, Rows
from labkit.notebook.magics.session import Session
from labkit.notebook.magics.shell import run_shell
from labkit.notebook.magics.style import note_html
from labkit.notebook.magics.surface import NotebookSurface, show

__all__ = ["Interrupted", "Notebook", "docker_main"]

_INTERRUPTED = 130
_PATIENCE_S = 1.5


class Interrupted(KeyboardInterrupt):
    """The stop button was pressed. Shown as one line; the cell ends here."""

    def _render_traceback_(self) -> list[str]:
        return ["interrupted: the signal went to the command; the kernel lives on"]


def docker_main(words: list[str] | tuple[str, ...], client: Any, surface: Any) -> int:
    """Docker's command line in this process."""
    from pathlib import Path

    from labkit.notebook.commands.docker import main

    return main(list(words), client=client, surface=surface, cwd=Path.cwd())


class Notebook:
    """The kernel that magics run in: its variables, its stdin, its lab."""

    def __init__(self, shell: Any, session: Session) -> None:
        self.shell = shell
        self.session = session

    @property
    def namespace(self) -> Mapping[str, object]:
        """The notebook's variables."""
        return self.shell.user_ns if self.shell is not None else {}

    def can_ask(self) -> bool:
        """Whether this run of the cell allows input: not under papermill."""
        kernel = getattr(self.shell, "kernel", None)
        if kernel is not None:
            return bool(getattr(kernel, "_allow_stdin", False))
        return sys.stdin is not None and sys.stdin.isatty()

    def parse(self, text: str) -> Line:
        """Read a line with this notebook's variables and commands."""
        return parse(text, namespace=self.namespace, run=self.substitute)

    def substitute(self, command: str) -> str:
        """What `$(command)` is replaced by: its stdout. Its stderr is shown."""
        if command == "pwd":
            return os.getcwd()
        line = self.parse(command)
        surface = BufferSurface()
        if line.words[:1] == ("docker",) and not line.tail:
            docker_main(line.words[1:], self.session.docker(), surface)
        else:
            run_shell(substitute_text(command, self.namespace), surface)
        if surface.stderr:
            sys.stderr.write(surface.stderr)
        return surface.stdout

    def guard(
        self,
        work: Callable[[NotebookSurface], int],
        *,
        keep: bool,
        stdin: bytes | None = None,
    ) -> Rows | Lines | None:
        """Run `work` on a surface; show how it ended; hand back its value when it is kept."""
        from io import BytesIO

        surface = NotebookSurface(
            stdin=None if stdin is None else BytesIO(stdin), keep=keep, can_ask=self.can_ask
        )
        interrupts: list[int] = []
        try:
            with _counting_interrupts(interrupts):
                code = work(surface)
        except LabkitError as error:
            surface.err(f"{error.message}\n")
            if error.hint:
                surface.hint(error.hint)
            code = error.exit_code
        except KeyboardInterrupt:
            surface.close()
            self._remember(_INTERRUPTED)
            _stop()
        surface.close()
        self._remember(code)
        if interrupts:
            _stop()  # the command has dealt with it; what follows in the cell must not run
        if code:
            self._advise(surface)
            show(f"exit code {code}", note_html(f"exit code <b>{code}</b>", bad=True))
        return surface.result(code) if keep else None

    def _advise(self, surface: NotebookSurface) -> None:
        """Say what to try next where the command itself did not."""
        if surface.hinted:
            return
        from labkit.notebook.magics.advice import advise

        advice = advise(surface.said, self._names)
        if advice is not None:
            surface.hint(advice)

    def _names(self, kind: str) -> list[str]:
        """Existing names to compare a misspelt one with; none when the lab does not answer."""
        from labkit.notebook.magics.complete import candidates

        if kind == "catalog":
            with contextlib.suppress(LabkitError, OSError, KeyError, TypeError):
                found = self.session.lab().json("GET", "/v1/catalog")
                return [str(one["name"]) if isinstance(one, Mapping) else str(one) for one in found]
            return []
        lines = {
            "containers": ["%docker logs "],
            "images": ["%docker run "],
            "commands": ["%docker "],
            "all": ["%docker logs ", "%docker run "],
        }
        words: list[str] = []
        for line in lines.get(kind, []):
            found_there = candidates(self, line)
            words += [word for word, _ in found_there[1]] if found_there else []
        return words

    def _remember(self, code: int) -> None:
        if self.shell is not None:
            self.shell.user_ns["_exit_code"] = code


@contextlib.contextmanager
def _counting_interrupts(seen: list[int]) -> Iterator[None]:
    """Note each SIGINT before whoever handles it now does: a command may handle it silently."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if not patience:
            # The copied context attributes the remark to this cell.
            context = contextvars.copy_context()
            patience.append(threading.Timer(_PATIENCE_S, context.run, [_say_it_goes_on]))
            patience[0].daemon = True
            patience[0].start()
        handler(number, frame)

    patience: list[threading.Timer] = []
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for timer in patience:
            timer.cancel()


def _say_it_goes_on() -> None:
    text = (
        "the signal was sent, and the command goes on: a container’s first process ignores "
        "signals it has no handler for. Stop once more to leave it running, or wait."
    )
    show(text, note_html(text))


def _stop() -> NoReturn:
    raise Interrupted from None

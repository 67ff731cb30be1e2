"""The grammar of a magic's line (design.md 16): a small, predictable piece of sh.

    %docker run -d --name web busybox sleep 1d   # words, quotes, a comment
    %docker rm -f $(docker ps -aq)               command substitution, split at blanks
    %docker logs {name}                          a Python variable of the notebook
    %docker inspect -f '{{json .State}}' web     Go templates arrive whole
    %docker ps -a | grep Exited                  from the first | < > && ; on, sh takes over
    %docker logs -f web &                        in the background

Three rules differ from sh on purpose. `{name}` is a Python variable where, and only where, `name`
is an identifier the notebook has defined; it behaves like `$name` in sh (split at blanks unless in
double quotes, never read as syntax again). `{{…}}` is one piece, blanks included. `$NAME` is
replaced only when the environment has NAME, so that `"for i in 1 2; do echo $i; done"` reaches
the container.

Nothing here runs a command: `$(…)` is handed to a callback.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from labkit.notebook.magics.quotes import GrammarError, closing_parenthesis, open_quote

__all__ = ["GrammarError", "Line", "parse", "substitute_text"]

_BLANKS = " \t\r"
_IDENTIFIER = re.compile(r"\{(\w+)\}")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", re.ASCII)


@dataclass(frozen=True, slots=True)
class Line:
    """One line, read.

    `words` is the first command, everything replaced. `tail` begins with the operator that hands
    the rest to sh (empty when there is none); Python variables in it are already replaced and
    quoted, `$(…)` and `$NAME` are left to sh. `background` is a final `&`.
    """

    words: tuple[str, ...]
    tail: str = ""
    background: bool = False

    def script(self, program: Iterable[str] = ()) -> str:
        """The whole line as sh text, with `program` put before the first word."""
        head = shlex.join([*program, *self.words])
        return f"{head} {self.tail}" if self.tail else head


def parse(
    text: str,
    *,
    namespace: Mapping[str, object] | None = None,
    run: Callable[[str], str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Line:
    """Read one line.

    `namespace` holds the notebook's variables, `run` returns the output of the command inside
    `$(…)`, `environ` defaults to the process environment. Raises GrammarError.
    """
    reader = _Reader(text, namespace or {}, run, os.environ if environ is None else environ)
    return reader.line()


def substitute_text(text: str, namespace: Mapping[str, object]) -> str:
    """sh text with only `{name}` replaced (and quoted); everything else is left to sh."""
    return _Reader(text, namespace, None, {}).rest(stop_at_comment=False)[0]


class _Reader:
    """One pass from left to right. `words` are finished words, `word` the one being read."""

    def __init__(
        self,
        text: str,
        namespace: Mapping[str, object],
        run: Callable[[str], str] | None,
        environ: Mapping[str, str],
    ) -> None:
        self.text = text
        self.at = 0
        self.namespace = namespace
        self.run = run
        self.environ = environ
        self.words: list[str] = []
        self.word: str | None = None  # None: between words; "": an empty word ('')
        self.quoted = False  # a quoted word of digits before `>` is not a descriptor

    # -- the first command: words --------------------------------------------------------------

    def line(self) -> Line:
        """Words up to an operator, then the tail."""
        while self.at < len(self.text):
            here = self.text[self.at]
            if here in _BLANKS:
                self._finish()
                self.at += 1
            elif here == "#" and self.word is None:
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif here in "|<>;&\n":
                return self._operator(here)
            else:
                self._piece(here)
        self._finish()
        return Line(tuple(self.words))

    def _operator(self, here: str) -> Line:
        start = self.at
        if here in "<>" and self.word is not None and self.word.isdigit() and not self.quoted:
            start -= len(self.word)  # `2>&1`: the digits belong to sh
            self.word = None
        self._finish()
        if here == "&" and self.text[start : start + 2] not in ("&&", "&>"):
            self._expect_end(start + 1)
            return Line(tuple(self.words), background=True)
        if here == "\n" and not self.text[start:].strip():
            return Line(tuple(self.words))
        self.at = start
        tail, background = self.rest()
        tail = tail.strip(_BLANKS)
        return Line(tuple(self.words), "" if tail == ";" else tail, background)

    def _expect_end(self, after: int) -> None:
        rest = self.text[after:]
        if rest.strip() and not re.match(r"\s+#", rest):
            raise GrammarError(
                "`&` can only stand at the end of the line",
                hint="put it last to run the line in the background, or quote it: '&'",
            )

    def _piece(self, here: str) -> None:
        """One character, quotation or substitution of the word being read."""
        if here == "'":
            self._append(self._single(), quoted=True)
        elif here == '"':
            self._double()
        elif here == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            if following not in ("", "\n"):
                self._append(following, quoted=True)
        elif here == "$" or here == "`":
            self._dollar()
        elif here == "{":
            self._brace()
        elif here == "~" and self.word is None and self._tilde_stands_alone():
            self._append(os.path.expanduser("~"))
            self.at += 1
        else:
            self._append(here)
            self.at += 1

    def _tilde_stands_alone(self) -> bool:
        return self.text[self.at + 1 : self.at + 2] in ("", "/", " ", "\t")

    def _append(self, piece: str, *, quoted: bool = False) -> None:
        self.word = (self.word or "") + piece
        self.quoted = self.quoted or quoted

    def _finish(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
        self.word, self.quoted = None, False

    def _split(self, value: str) -> None:
        """Append an unquoted substitution: split at blanks, as sh does."""
        fields = value.split()
        if not fields:
            return
        if value[0].isspace():
            self._finish()
        for number, piece in enumerate(fields):
            if number:
                self._finish()
            self._append(piece, quoted=True)
        if value[-1].isspace():
            self._finish()

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise open_quote("'")
        piece = self.text[self.at + 1 : end]
        self.at = end + 1
        return piece

    def _double(self) -> None:
        self._append("", quoted=True)
        self.at += 1
        template = 0  # depth of {{…}}: nothing is replaced inside
        while self.at < len(self.text):
            here = self.text[self.at]
            pair = self.text[self.at : self.at + 2]
            if here == '"':
                self.at += 1
                return
            if pair in ("{{", "}}"):
                template = max(0, template + (1 if pair == "{{" else -1))
                self._append(pair)
                self.at += 2
            elif here == "\\":
                self._escape_in_double(pair[1:])
            elif template == 0 and here in "$`":
                self._dollar(split=False)
            elif template == 0 and here == "{":
                self._brace(split=False)
            else:
                self._append(here)
                self.at += 1
        raise open_quote('"')

    def _escape_in_double(self, following: str) -> None:
        if following in ("$", "`", '"', "\\"):
            self._append(following)
        elif following != "\n":
            self._append("\\" + following)
        self.at += 2

    # -- substitutions -------------------------------------------------------------------------

    def _put(self, value: str, *, split: bool) -> None:
        if split:
            self._split(value)
        else:
            self._append(value)

    def _dollar(self, *, split: bool = True) -> None:
        command = self._command_text()
        if command is not None:
            if self.run is None:
                raise GrammarError(f"no command can be run here: $({command})")
            self._put(self.run(command).rstrip("\n"), split=split)
            return
        match = _VARIABLE.match(self.text, self.at)
        name = str(match[1] or match[2]) if match else ""
        if match and name in self.environ:
            self.at = match.end()
            self._put(self.environ[name], split=split)
        else:
            end = match.end() if match else self.at + 1
            self._append(self.text[self.at : end])
            self.at = end

    def _command_text(self) -> str | None:
        """The text inside `$(…)` or backticks at the present place, stepping behind it."""
        if self.text.startswith("$(", self.at):
            end = closing_parenthesis(self.text, self.at + 2)
            inner = self.text[self.at + 2 : end]
        elif self.text.startswith("`", self.at):
            end = self.text.find("`", self.at + 1)
            if end < 0:
                raise open_quote("`")
            inner = self.text[self.at + 1 : end]
        else:
            return None
        self.at = end + 1
        return inner.strip()

    def _brace(self, *, split: bool = True) -> None:
        template = self._template()
        if template is not None:
            self._append(template)
            return
        fields = self._variable()
        if fields is None:
            self._append("{")
            self.at += 1
        elif isinstance(fields, str):
            self._put(fields, split=split)
        elif split:
            for number, piece in enumerate(fields):
                if number:
                    self._finish()
                self._append(piece, quoted=True)
        else:
            self._append(" ".join(fields))

    def _template(self) -> str | None:
        """`{{…}}` whole, or None."""
        if not self.text.startswith("{{", self.at):
            return None
        end = self.text.find("}}", self.at + 2)
        if end < 0:
            return None
        piece = self.text[self.at : end + 2]
        self.at = end + 2
        return piece

    def _variable(self) -> str | list[str] | None:
        """The value of `{name}`: a list gives one word per item; None: not a variable here."""
        match = _IDENTIFIER.match(self.text, self.at)
        if match is None or not match[1].isidentifier() or match[1] not in self.namespace:
            return None
        self.at = match.end()
        value = self.namespace[match[1]]
        if isinstance(value, list | tuple | set | frozenset):
            return [str(item) for item in value]
        return str(value)

    # -- what sh gets --------------------------------------------------------------------------

    def rest(self, *, stop_at_comment: bool = True) -> tuple[str, bool]:
        """From the present place to the end as sh text; and whether a final `&` stood there."""
        pieces: list[str] = []
        blank_before = True
        while self.at < len(self.text):
            here = self.text[self.at]
            if here == "#" and blank_before and stop_at_comment:
                break
            if here == "&" and stop_at_comment and self._is_background():
                self._expect_end(self.at + 1)
                return "".join(pieces), True
            pieces.append(self._rest_piece(here))
            blank_before = here.isspace()
        return "".join(pieces), False

    def _is_background(self) -> bool:
        before, after = self.text[self.at - 1 : self.at], self.text[self.at + 1 : self.at + 2]
        if before == "&" or after in ("&", ">"):
            return False
        return before not in ("<", ">", "|")  # `2>&1`, `<&3`, `|&`

    def _rest_piece(self, here: str) -> str:
        start = self.at
        if here == "'":
            self._single()
            return self.text[start : self.at]
        if here == '"':
            return self._rest_double()
        if here == "\\":
            self.at += 2
            return self.text[start : self.at]
        if here == "$" and self.text.startswith("$(", start):
            end = closing_parenthesis(self.text, start + 2)
            inner = substitute_text(self.text[start + 2 : end], self.namespace)
            self.at = end + 1
            return f"$({inner})"
        if here == "$" and self.text.startswith("${", start):
            self.at += 2  # `${name}` is sh's own
            return "${"
        if here == "{":
            template = self._template()
            if template is not None:
                return shlex.quote(template)
            fields = self._variable()
            if fields is not None:
                return shlex.join(fields.split() if isinstance(fields, str) else fields)
        self.at = start + 1
        return here

    def _rest_double(self) -> str:
        pieces = ['"']
        self.at += 1
        template = 0
        while self.at < len(self.text):
            start, here = self.at, self.text[self.at]
            pair = self.text[start : start + 2]
            if here == '"':
                self.at += 1
                return "".join([*pieces, '"'])
            if here == "\\" or pair in ("{{", "}}"):
                template = max(0, template + {"{{": 1, "}}": -1}.get(pair, 0))
                self.at += 2
                pieces.append(pair)
                continue
            if pair == "$(":
                end = closing_parenthesis(self.text, start + 2)
                pieces.append(f"$({substitute_text(self.text[start + 2 : end], self.namespace)})")
                self.at = end + 1
                continue
            fields = None
            if here == "{" and template == 0 and self.text[start - 1] != "$":
                fields = self._variable()
            if fields is None:
                self.at = start + 1
                pieces.append(here)
            else:
                joined = fields if isinstance(fields, str) else " ".join(fields)
                pieces.append(re.sub(r'([$`"\\])', r"\\\1", joined))
        raise open_quote('"')

"""What a kernel may ask the server's extension for, and the command that comes of it.

The one thing that can be asked for is labkit's own client: never a shell, never another program.
Words travel as a list and stay one; of the environment only what chooses an engine is taken over.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter

__all__ = ["ENVIRONMENT", "TerminalRequest", "read_request"]

ENVIRONMENT = frozenset(
    {
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS"),
        *("DOCKER_TLS_VERIFY", "LABKIT_HOME", "LABKIT_RUN", "LABKIT_CHAPTER"),
    }
)
_WORDS_MAX = 2_000
_CHARACTERS_MAX = 100_000
_CLIENT = "import sys; sys.path.append({root!r}); from labkit.notebook.magics.shim import main; "


@dataclass(frozen=True, slots=True)
class TerminalRequest:
    """One terminal to make. `words` are docker's, without `docker`; `cwd` is absolute;
    `detach_keys` is what leaves the session without ending it."""

    words: tuple[str, ...]
    cwd: str
    environment: Mapping[str, str] = field(default_factory=dict)
    detach_keys: str = "\x10\x11"

    @property
    def argv(self) -> list[str]:
        """The attached client, run by the server's own Python."""
        root = str(Path(__file__).resolve().parents[3])
        # -P: a docker.py or random.py in the notebook's folder must not be imported instead.
        code = _CLIENT.format(root=root) + "sys.exit(main())"
        return [sys.executable, "-P", "-c", code, *self.words]


def read_request(body: object) -> TerminalRequest:
    """A request's JSON, checked. Raises InvalidParameter naming what is wrong with it."""
    if not isinstance(body, dict):
        raise InvalidParameter("a terminal is asked for with a JSON object")
    return TerminalRequest(
        _words(body.get("words")),
        _folder(body.get("cwd")),
        _environment(body.get("environment") or {}),
        _keys(body.get("detach_keys", "\x10\x11")),
    )


def _words(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not found or not all(isinstance(w, str) for w in found):
        raise InvalidParameter("'words' must be a list of docker's words")
    if len(found) > _WORDS_MAX or sum(map(len, found)) > _CHARACTERS_MAX:
        raise InvalidParameter("'words' is too long for a command line")
    if any("\0" in word for word in found):
        raise InvalidParameter("'words' holds a zero byte, which no command line can")
    return tuple(found)


def _folder(found: object) -> str:
    if not isinstance(found, str) or "\0" in found or not Path(found).is_absolute():
        raise InvalidParameter("'cwd' must be an absolute folder")
    if not Path(found).is_dir():
        raise InvalidParameter(f"'cwd' is no folder: {found}")
    return found


def _environment(found: Any) -> dict[str, str]:
    if not isinstance(found, dict):
        raise InvalidParameter("'environment' must be an object")
    for name, value in found.items():
        if name not in ENVIRONMENT:
            raise InvalidParameter(
                f"'environment' may not set {name}", hint=f"only {', '.join(sorted(ENVIRONMENT))}"
            )
        if not isinstance(value, str) or "\0" in value:
            raise InvalidParameter(f"'environment': {name} must be text")
    return dict(found)


def _keys(found: object) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= 16:
        raise InvalidParameter("'detach_keys' must be one to sixteen characters")
    return found

"""The daemon's own log: LABKIT_HOME/labkitd.log, rotated, without secrets.

Records are single lines, so that `grep` and a reader's eye both work. Values that arrive in
credential headers or look like them are never written.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
from pathlib import Path

__all__ = ["Redactor", "start_logging"]

_BYTES_MAX = 2_000_000
_FILES_KEPT = 3
_SECRET = re.compile(
    r"(?i)(x-registry-auth|x-registry-config|authorization|password|passwd|secret|token|"
    r"identitytoken|api[_-]?key)(\"?\s*[:=]\s*\"?)(?:(?:basic|bearer)\s+)?[^\s\",}]+"
)


class Redactor(logging.Filter):
    """Replaces the values of credential-like names in every record by `***`."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        cleaned = _SECRET.sub(r"\1\2***", text)
        if cleaned != text:
            record.msg, record.args = cleaned, None
        return True


class _PrivateRotation(logging.handlers.RotatingFileHandler):
    """Creates each file with mode 0600 whatever the umask is."""

    def _open(self):  # type: ignore[no-untyped-def]  # the base class leaves it untyped
        return open(
            self.baseFilename,
            self.mode,
            encoding="utf-8",
            opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, 0o600),
        )


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


def start_logging(path: Path, *, level: str = "info", to_stderr: bool = False) -> None:
    """Send all records of `level` and above to `path`, and to stderr in the foreground."""
    handlers: list[logging.Handler] = [
        _PrivateRotation(path, maxBytes=_BYTES_MAX, backupCount=_FILES_KEPT, delay=False)
    ]
    if to_stderr:
        handlers.append(logging.StreamHandler())
    form = _OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in handlers:
        handler.setFormatter(form)
        handler.addFilter(Redactor())
        root.addHandler(handler)
    logging.getLogger("asyncio").setLevel(logging.WARNING)

"""Why the store refuses, and whether it happened all the same.

A *definite* error changed nothing and never will. After an *indefinite* one the command may have
been carried out, or may yet be: read before trying again, or let a Txn's compares decide.
"""

from __future__ import annotations

from labkit.base.errors import Conflict, InvalidParameter, LabkitError, NotFound, Unavailable

__all__ = [
    "Compacted",
    "FutureRevision",
    "Indefinite",
    "NoSuchLease",
    "Overtaken",
    "SessionExpired",
    "is_definite",
]


class Compacted(Conflict):
    """That revision is forgotten; list again and watch from the revision of the list."""

    definite = True


class FutureRevision(InvalidParameter):
    """That revision has not happened yet."""

    definite = True


class NoSuchLease(NotFound):
    """The lease has run out, was revoked, or never was."""

    definite = True


class SessionExpired(Conflict):
    """The store does not remember this client's last command: it cannot tell whether this one has
    happened. Read, then go on under another name."""

    definite = True


class Overtaken(Unavailable):
    """Another leader's command took the place of this one, which will never happen."""

    definite = True


class Indefinite(Unavailable):
    """Leadership changed while the command was on its way: it may have happened."""

    definite = False


def is_definite(error: LabkitError) -> bool:
    """Whether the error says that nothing happened and nothing will."""
    return bool(getattr(error, "definite", False))

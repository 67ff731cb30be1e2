"""The one exception tree of labkit.

    LabkitError
    ├── InvalidParameter   400  125   the request cannot mean anything
    ├── Unauthorized       401    1
    ├── Forbidden          403    1
    ├── NotFound           404    1
    ├── Conflict           409    1   the object's state forbids it now
    ├── NotModified        304    0   it was already so
    ├── Unavailable        503    1   cannot be reached or is not ready; retry may help
    ├── Unsupported        501    1   this machine or this version cannot do it
    ├── SystemFailure      500    1   the kernel or the disk refused
    │   └── StartFailure   400  125   a container's process could not be started
    └── CommandError         -   any  a command line ends with a message and an exit code

Each leaf maps to exactly one HTTP status and one default exit code of a command line.
A message names the operation, the object and the reason; `hint` is the next thing to try.
"""

from __future__ import annotations

__all__ = [
    "CommandError",
    "Conflict",
    "Forbidden",
    "InvalidParameter",
    "LabkitError",
    "NotFound",
    "NotModified",
    "StartFailure",
    "SystemFailure",
    "Unauthorized",
    "Unavailable",
    "Unsupported",
]


class LabkitError(Exception):
    """Root of the tree; never raised itself."""

    http_status: int = 500
    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InvalidParameter(LabkitError):
    """The request is malformed or contradicts itself."""

    http_status = 400
    exit_code = 125


class Unauthorized(LabkitError):
    """Credentials are missing or wrong."""

    http_status = 401


class Forbidden(LabkitError):
    """The request is understood and refused."""

    http_status = 403


class NotFound(LabkitError):
    """No object of that name or id."""

    http_status = 404


class NotModified(LabkitError):
    """The object already is in the state asked for."""

    http_status = 304
    exit_code = 0


class Conflict(LabkitError):
    """The object's present state or another object forbids the operation."""

    http_status = 409


class Unavailable(LabkitError):
    """The other side cannot be reached or is not ready."""

    http_status = 503


class Unsupported(LabkitError):
    """This machine, mode or version cannot do it; the message says which piece is missing."""

    http_status = 501


class SystemFailure(LabkitError):
    """The kernel, the file system or a peer process refused an operation."""

    http_status = 500


class StartFailure(SystemFailure):
    """A container's process could not be started.

    The text decides the exit code in Docker's client: `executable file not found` and
    `no such file or directory` give 127, `permission denied` gives 126, anything else 125.
    """

    http_status = 400
    exit_code = 125


class CommandError(LabkitError):
    """A command line ends here with `message` on stderr and `code` as its exit status."""

    def __init__(self, message: str, code: int = 1, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code

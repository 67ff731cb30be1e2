"""What an engine's refusal becomes: one leaf of the error tree per HTTP status."""

from __future__ import annotations

import http.client
import json

from labkit.base.errors import (
    Conflict,
    Forbidden,
    InvalidParameter,
    LabkitError,
    NotFound,
    NotModified,
    SystemFailure,
    Unauthorized,
    Unavailable,
    Unsupported,
)

__all__ = ["ApiError", "ConnectFailed", "api_error", "error_from"]


class ApiError(LabkitError):
    """The engine answered with an error; `status` is its HTTP status."""

    def __init__(self, message: str, status: int = 500, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status

    @property
    def sentence(self) -> str:
        """The line Docker's client prints for it."""
        return f"Error response from daemon: {self.message.strip()}"


class _ApiInvalid(ApiError, InvalidParameter):
    exit_code = 1


class _ApiUnauthorized(ApiError, Unauthorized):
    pass


class _ApiForbidden(ApiError, Forbidden):
    pass


class _ApiNotFound(ApiError, NotFound):
    pass


class _ApiConflict(ApiError, Conflict):
    pass


class _ApiNotModified(ApiError, NotModified):
    pass


class _ApiUnsupported(ApiError, Unsupported):
    pass


class _ApiUnavailable(ApiError, Unavailable):
    pass


class _ApiFailure(ApiError, SystemFailure):
    pass


_BY_STATUS: dict[int, type[ApiError]] = {
    304: _ApiNotModified,
    400: _ApiInvalid,
    401: _ApiUnauthorized,
    403: _ApiForbidden,
    404: _ApiNotFound,
    409: _ApiConflict,
    501: _ApiUnsupported,
    503: _ApiUnavailable,
}


def api_error(status: int, message: str, *, hint: str | None = None) -> ApiError:
    """The leaf of the error tree for an HTTP status."""
    return _BY_STATUS.get(status, _ApiFailure)(message, status, hint=hint)


class ConnectFailed(Unavailable):
    """Nothing answers at the address; the message is that of Docker's client."""


def error_from(status: int, body: bytes) -> ApiError:
    """The error that an answer with this status and body means."""
    hint = None
    try:
        answer = json.loads(body)
        message = answer["message"]
        hint = answer.get("hint")
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace").strip()
        message = message or f"request returned {http.client.responses.get(status, status)}"
    return api_error(status, str(message), hint=hint)

"""The specification's error codes (distribution-spec 1.1, "Error Codes") as one exception."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["CODES", "RegistryError"]

CODES: Mapping[str, tuple[int, str]] = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "BLOB_UPLOAD_INVALID": (400, "blob upload invalid"),
    "BLOB_UPLOAD_UNKNOWN": (404, "blob upload unknown to registry"),
    "DENIED": (403, "requested access to the resource is denied"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "MANIFEST_BLOB_UNKNOWN": (400, "blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown"),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "PAGINATION_NUMBER_INVALID": (400, "invalid number of results requested"),
    "RANGE_INVALID": (416, "invalid content range"),
    "SIZE_INVALID": (400, "provided length did not match content length"),
    "TAG_INVALID": (400, "manifest tag did not match URI"),
    "UNAUTHORIZED": (401, "authentication required"),
    "UNKNOWN": (500, "unknown error"),
    "UNSUPPORTED": (405, "The operation is unsupported."),
}
"""Code: (HTTP status, message)."""


class RegistryError(Exception):
    """One refusal; `headers` go with the answer (a challenge, the range an upload stands at)."""

    def __init__(
        self,
        code: str,
        detail: Any = None,
        *,
        message: str = "",
        status: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        usual_status, usual_message = CODES[code]
        super().__init__(f"{code}: {message or usual_message}")
        self.code = code
        self.status = status or usual_status
        self.message = message or usual_message
        self.detail = detail
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error document."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return json.dumps({"errors": [error]}, separators=(",", ":")).encode() + b"\n"

"""Basic authentication against an htpasswd file (bcrypt entries, as `htpasswd -B` writes them)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from pathlib import Path

import bcrypt

from labkit.base.errors import InvalidParameter

__all__ = ["Accounts"]

_MARKS = ("$2a$", "$2b$", "$2y$")
_PASSWORD_BYTES_MAX = 72
"""bcrypt looks at no more; the library refuses longer ones rather than cut them."""
_REMEMBERED_MAX = 256


class Accounts:
    """Who may use the registry. The file is read again when it changes."""

    def __init__(self, path: Path, realm: str = "Registry Realm") -> None:
        self._path = path
        self.challenge = f'Basic realm="{realm}"'
        self._hashes: dict[str, bytes] = {}
        self._stamp: tuple[int, int] = (0, 0)
        # bcrypt is slow by design; a pull asks many times. What was right once is remembered
        # under a key of this process, never as text.
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._nobody = bcrypt.hashpw(secrets.token_hex(8).encode(), bcrypt.gensalt(10))
        self._load()

    def _load(self) -> None:
        """Raises InvalidParameter naming the line that is no bcrypt entry."""
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            lines = self._path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidParameter(
                f"cannot read the password file {self._path}: {error}",
                hint="htpasswd -Bbn USER PASSWORD writes one",
            ) from error
        hashes: dict[str, bytes] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            user, _, hashed = line.strip().partition(":")
            if not user or not hashed.startswith(_MARKS):
                raise InvalidParameter(
                    f"{self._path}, line {number}: only bcrypt entries are supported",
                    hint="htpasswd needs -B",
                )
            hashes[user] = hashed.encode()
        self._hashes, self._stamp = hashes, stamp
        self._right.clear()

    async def is_allowed(self, header: str) -> bool:
        """Whether an Authorization header names a user and that user's password."""
        scheme, _, packed = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            text = base64.b64decode(packed.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        user, _, password = text.partition(":")
        await asyncio.to_thread(self._load)
        hashed = self._hashes.get(user, self._nobody)
        key = hmac.digest(self._key, hashed + b"\0" + text.encode(), hashlib.sha256)
        if key in self._right:
            return True
        # An unknown user costs the same time as a wrong password.
        right = await asyncio.to_thread(_fits, password.encode(), hashed)
        if not right or user not in self._hashes:
            return False
        if len(self._right) >= _REMEMBERED_MAX:
            self._right.clear()
        self._right.add(key)
        return True


def _fits(password: bytes, hashed: bytes) -> bool:
    if len(password) > _PASSWORD_BYTES_MAX:
        return False
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False

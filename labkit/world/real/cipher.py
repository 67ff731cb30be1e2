"""Sealing records with a key: AES-256-GCM, from the `cryptography` package."""

from __future__ import annotations

import os

from labkit.base.errors import InvalidParameter

__all__ = ["KEY_BYTES", "AesGcm"]

KEY_BYTES = 32
_NONCE_BYTES = 12


class AesGcm:
    """Seals and opens bytes; whoever changes a sealed record, or has another key, is noticed."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """Raises InvalidParameter for a key of another length."""
        if len(key) != KEY_BYTES:
            raise InvalidParameter(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher = AESGCM(key)

    def seal(self, plain: bytes) -> bytes:
        """A fresh random nonce, then the sealed bytes."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, None)

    def open(self, sealed: bytes) -> bytes:
        """The plain bytes. Raises InvalidParameter when the key does not fit or bytes changed."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError):
            raise InvalidParameter(
                "cannot open a sealed record: the key does not fit, or the record was changed",
                hint="unlock with the key that `swarm unlock-key` printed",
            ) from None

    @staticmethod
    def new_key() -> bytes:
        """A random key."""
        return os.urandom(KEY_BYTES)

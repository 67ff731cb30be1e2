"""The keys that leave a terminal without ending its container: ctrl-p ctrl-q unless told."""

from __future__ import annotations

from labkit.base.errors import InvalidParameter

__all__ = ["DEFAULT_KEYS", "DetachKeys", "parse_keys"]

DEFAULT_KEYS = b"\x10\x11"

_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str | None) -> bytes:
    """The byte sequence of `ctrl-a,b` notation (docker attach --detach-keys).

    Raises InvalidParameter for a key that does not exist.
    """
    if not text:
        return DEFAULT_KEYS
    keys = bytearray()
    for word in text.split(","):
        control = word.removeprefix("ctrl-")
        if control != word and len(control) == 1 and "a" <= control <= "z":
            keys.append(ord(control) - ord("a") + 1)
        elif control != word and control in _SPECIAL:
            keys.append(_SPECIAL[control])
        elif len(word) == 1 and word.isascii():
            keys.append(ord(word))
        else:
            raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


class DetachKeys:
    """Watches typed bytes for the sequence; what only began like it is passed on unchanged."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Bytes to pass on, and whether the sequence is complete (the rest is dropped)."""
        passed = bytearray()
        for byte in data:
            while True:
                if byte == self._keys[self._seen]:
                    self._seen += 1
                    break
                if not self._seen:
                    passed.append(byte)
                    break
                # Not the sequence after all, but a later byte may have begun it anew.
                held = self._keys[: self._seen]
                self._seen = self._longest_start(held[1:])
                passed += held[: len(held) - self._seen]
            if self._seen == len(self._keys):
                return bytes(passed), True
        return bytes(passed), False

    def _longest_start(self, held: bytes) -> int:
        for length in range(len(held), 0, -1):
            if held[-length:] == self._keys[:length]:
                return length
        return 0

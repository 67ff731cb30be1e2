"""The three hashes of a layer, kept apart.

- *digest*: sha256 of the blob as it travels, usually compressed (the registry's word);
- *diff-id*: sha256 of the same layer uncompressed (what an image's config lists);
- *chain-id*: the hash of a stack of diff-ids, which identifies a layer together with all
  below it (OCI image specification, config.md, "Layer ChainID").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

__all__ = ["EMPTY_DIGEST", "canonical_json", "chain_ids", "digest_of", "hex_of"]

EMPTY_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def digest_of(data: bytes) -> str:
    """`sha256:…` of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hex_of(digest: str) -> str:
    """The 64 digits of a sha256 digest; raises ValueError for anything else."""
    algorithm, _, encoded = digest.partition(":")
    if (
        algorithm != "sha256"
        or len(encoded) != 64
        or any(character not in "0123456789abcdef" for character in encoded)
    ):
        raise ValueError(f"not a sha256 digest: {digest!r}")
    return encoded


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain-id of each layer, bottom first: chain(0) = diff(0), then H(chain + ' ' + diff)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digest_of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no blanks, so that equal values have equal digests."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

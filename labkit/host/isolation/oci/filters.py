"""Compiled system-call filters, kept from one start to the next.

An engine sends the same profile of some hundred lines with every container; compiling it takes
longer than everything else that a start does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["compiled", "keep_in"]

_FORMAT = "1"
_folder = ""


def keep_in(folder: str) -> None:
    """Where compiled filters may be kept: a folder that nobody else can write to."""
    global _folder
    _folder = folder


def compiled(profile: Mapping[str, Any], capabilities: Iterable[str]) -> bytes | None:
    """The filter for linux.seccomp. Raises InvalidParameter for a profile that means nothing."""
    text = json.dumps(profile, sort_keys=True)
    # The kernel and this program decide with the profile what comes out.
    about = (_FORMAT, os.uname().release, os.uname().machine, *sorted(capabilities), text)
    name = f"filter-{hashlib.sha256(chr(0).join(about).encode()).hexdigest()[:32]}"
    if _folder:
        with contextlib.suppress(OSError), open(f"{_folder}/{name}", "rb") as file:
            return file.read() or None
    from labkit.host.isolation.seccomp import compile_profile, parse_profile

    made = compile_profile(parse_profile(text), capabilities)
    if _folder and made:
        draft = f"{_folder}/{name}.{os.getpid()}"
        with contextlib.suppress(OSError):
            with open(draft, "xb") as file:
                file.write(made)
            os.rename(draft, f"{_folder}/{name}")
    return made

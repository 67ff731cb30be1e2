"""Idmapped mounts: a mount that shows its files under other ids (mount_setattr(2))."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.isolation.oci.mounts import id_map_requests

__all__ = ["mapped_mounts", "user_namespace"]


def mapped_mounts(config: Mapping[str, Any], stack: contextlib.ExitStack) -> dict[int, int]:
    """For each mount that is to show mapped ids, by position, a user namespace with that map.

    The descriptors are closed by `stack`. Raises InvalidParameter where there is no map.
    """
    entries = config.get("mounts") or ()
    found: dict[int, int] = {}
    linux = config.get("linux") or {}
    for index in id_map_requests(entries):
        entry = entries[index]
        maps = [entry.get(key) or linux.get(key) for key in ("uidMappings", "gidMappings")]
        if not all(maps):
            raise InvalidParameter(
                f"invalid mount {entry.get('destination')}: an idmapped mount needs uidMappings "
                "and gidMappings, its own or the container's"
            )
        handle = user_namespace(*(_lines(each or ()) for each in maps))
        stack.callback(os.close, handle)
        found[index] = handle
    return found


def _lines(mappings: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def user_namespace(uid_map: str, gid_map: str) -> int:
    """A user namespace that has these maps and nobody in it; its descriptor.

    Raises SystemFailure when the kernel refuses.
    """
    from labkit.host.isolation.native import shim_path

    # Something has to hold the namespace until it is open: a helper, until its input ends.
    process = subprocess.Popen(
        [shim_path(), "anchor", "userns"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        try:
            if process.stdout.read(1) != b"r":
                raise SystemFailure("cannot make a user namespace for an idmapped mount")
            for name, text in (("uid_map", uid_map), ("gid_map", gid_map)):
                with open(f"/proc/{process.pid}/{name}", "w", encoding="ascii") as file:
                    file.write(text)
            return os.open(f"/proc/{process.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SystemFailure(f"cannot map ids for a mount: {error.strerror}") from error
        finally:
            assert process.stdin is not None
            process.stdin.close()

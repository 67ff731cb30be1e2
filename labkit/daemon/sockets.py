"""The daemon's listening sockets: never open to others for an instant, never taken from a peer.

A socket is bound under a private name with a closed umask, given its final owner and mode, set
listening, and only then renamed to the name that clients know. rename(2) is atomic, so a client
finds either the old socket or one that already answers.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from labkit.base.errors import InvalidParameter, SystemFailure

__all__ = ["group_id", "is_answered", "listen_unix"]

BACKLOG = 1024


def is_answered(path: Path) -> bool:
    """Whether somebody accepts connections at `path`; a file nobody serves is stale."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True  # a full backlog is a living listener
        except OSError:
            return False
    return True


def group_id(name: str) -> int:
    """The numeric id of group `name` (also given as digits).

    Raises InvalidParameter when the machine has no such group.
    """
    import grp

    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidParameter(
            f"cannot share the Docker socket: there is no group {name}",
            hint=f"create it with: groupadd {name}",
        ) from None


def listen_unix(path: Path, *, gid: int | None = None) -> socket.socket:
    """A listening socket at `path`, mode 0600, or 0660 for group `gid`.

    Raises SystemFailure when another process already serves `path` or the kernel refuses.
    """
    if is_answered(path):
        raise SystemFailure(
            f"cannot listen on {path}: another program answers there",
            hint="stop it, or set LABKIT_RUN to another folder",
        )
    fresh = path.with_name(f".{path.name}.new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    umask = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        listener.bind(os.fspath(fresh))
        if gid is not None:
            os.chown(fresh, -1, gid)
            os.chmod(fresh, 0o660)
        listener.listen(BACKLOG)
        os.rename(fresh, path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise SystemFailure(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(umask)
    return listener

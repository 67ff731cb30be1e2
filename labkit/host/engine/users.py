"""Who a process runs as: Docker's `--user` string read against the container's own files.

`name`, `uid`, `name:group`, `uid:gid` and `:group` in any mixture. A number that no file knows is
itself; a name that no file knows is an error. Group membership comes from /etc/group for users
given without a group, and from `--group-add` always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import InvalidParameter
from labkit.host.engine.rootfiles import RootFiles

__all__ = ["Identity", "resolve_user"]

_MAX_ID = (1 << 31) - 1
_KNOWN_MAX = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids inside the container, supplementary groups, and the home folder for HOME."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class _User:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


_known: dict[tuple[tuple[Path, ...], str, tuple[str, ...]], Identity] = {}


def _is_id(text: str) -> bool:
    """A line with another number is no entry: ids must not wrap round to somebody else's."""
    return text.isascii() and text.isdecimal() and int(text) <= _MAX_ID


def _users(text: str) -> list[_User]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 6 and _is_id(fields[2]) and _is_id(fields[3]):
            found.append(_User(fields[0], int(fields[2]), int(fields[3]), fields[5]))
    return found


def _groups(text: str) -> list[_Group]:
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and _is_id(fields[2]):
            members = tuple(fields[3].split(",")) if len(fields) > 3 and fields[3] else ()
            found.append(_Group(fields[0], int(fields[2]), members))
    return found


def _number(text: str, what: str) -> int | None:
    if not (text.isascii() and text.isdecimal()):  # other scripts have digits too
        return None
    value = int(text)
    if value > _MAX_ID:
        raise InvalidParameter(f"{what} should be in range 0-{_MAX_ID}")
    return value


def _find_group(text: str, groups: Sequence[_Group], *, message: str) -> int:
    for group in groups:
        if group.name == text:
            return group.gid
    number = _number(text, "gids")
    if number is None:
        raise InvalidParameter(message, hint="the name must be in the image's /etc/group")
    return number


def resolve_user(files: RootFiles, user: str, group_add: Sequence[str] = ()) -> Identity:
    """The identity `user` names; the empty string is root with root's groups.

    A container that has not touched its /etc gets what its image said before, from memory.
    """
    layers = files.image_key("etc", "passwd", "group")
    key = None if layers is None else (layers, user, tuple(group_add))
    if key is not None and key in _known:
        return _known[key]
    passwd, group = files.read_texts("/etc/passwd", "/etc/group")
    found = _resolved(_users(passwd), _groups(group), user, group_add)
    if key is not None:
        if len(_known) >= _KNOWN_MAX:
            _known.pop(next(iter(_known)), None)
        _known[key] = found
    return found


def _resolved(
    users: Sequence[_User], groups: Sequence[_Group], user: str, group_add: Sequence[str]
) -> Identity:
    user_part, _, group_part = user.partition(":")
    uid = _number(user_part, "uids") if user_part else 0
    entry = next((item for item in users if item.name == user_part), None)
    if entry is None and uid is not None:
        entry = next((item for item in users if item.uid == uid), None)
    if entry is not None:
        uid = entry.uid
    if uid is None:
        raise InvalidParameter(
            f"unable to find user {user_part}: no matching entries in passwd file",
            hint="use a name from the image's /etc/passwd, or a number",
        )
    gid = entry.gid if entry else 0
    extra: list[int] = []
    if group_part:
        gid = _find_group(
            group_part,
            groups,
            message=f"unable to find group {group_part}: no matching entries in group file",
        )
    elif entry is not None:
        extra = [group.gid for group in groups if entry.name in group.members and group.gid != gid]
    for name in group_add:
        extra.append(
            _find_group(
                name,
                groups,
                message=f"Unable to find group {name}: no matching entries in group file",
            )
        )
    home = entry.home if entry and entry.home else "/"
    return Identity(uid, gid, tuple(dict.fromkeys(extra)), home)

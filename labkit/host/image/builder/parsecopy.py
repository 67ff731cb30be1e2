"""COPY and ADD as instructions: their flags, sources and destination."""

from __future__ import annotations

import re

from labkit.host.image.builder.instructions import Add, Copy, CopyFlags
from labkit.host.image.builder.lines import Line, json_words, split_words

__all__ = ["parse_copy"]

_COMMON = ("chown", "chmod")
_SEVERAL = ("exclude",)
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}|.*\$.*")


def _flags(line: Line) -> CopyFlags:
    if line.word == "ADD":
        found = line.take(*_COMMON, "checksum", several=_SEVERAL, switches=("link", "keep-git-dir"))
    else:
        found = line.take(*_COMMON, "from", several=_SEVERAL, switches=("link", "parents"))
    chmod, checksum = found.get("chmod", ""), found.get("checksum", "")
    if chmod and not re.fullmatch(r"[0-7]{1,5}|.*\$.*", chmod):
        raise line.fail(
            f"invalid chmod parameter: '{chmod}'. it should be octal string and between 0 and 07777"
        )
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise line.fail(
            f"invalid checksum: {checksum}", hint="write --checksum=sha256: and 64 digits"
        )
    return CopyFlags(
        origin=found.get("from", ""),
        chown=found.get("chown", ""),
        chmod=chmod,
        checksum=checksum,
        exclude=line.every("exclude"),
        parents=line.switch("parents", found),
        link=line.switch("link", found),
        keep_git=line.switch("keep-git-dir", found),
    )


def parse_copy(line: Line) -> Copy:
    """`ADD` or `COPY`. Raises DockerfileError."""
    flags = _flags(line)
    words = json_words(line.rest) or tuple(split_words(line.rest, line.escape))
    if not words:
        raise line.fail(f"{line.word} requires at least two arguments")
    if len(words) == 1:
        raise line.fail(
            f"{line.word} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    *sources, destination = words
    heredocs = line.heredocs
    if heredocs and destination.startswith("<<"):
        raise line.fail(f"{line.word} cannot accept a heredoc as a destination")
    if sum(source.startswith("<<") for source in sources) != len(heredocs):
        raise line.fail(f"{line.word}: a heredoc has no name")
    kind = Add if line.word == "ADD" else Copy
    return kind(line.number, line.source, tuple(sources), destination, heredocs, flags)

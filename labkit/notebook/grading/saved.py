"""Look into the layers of a saved image: what is in them, whether or not a container sees it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

__all__ = ["files_in_layers", "layers_holding"]

_FILE_BYTES_MAX = 1 << 20


def files_in_layers(saved: bytes, path: str) -> list[tuple[int, bytes]]:
    """(layer number, content) of `path` in each layer that has it as a file, the lowest first.

    `saved` is what `docker save` of one image writes (manifest.json names its layers). Content is
    cut at 1 MB; a second name of a file (a hard link) is followed within its layer.
    """
    wanted = path.strip("/")
    found = ((number, _content(layer, wanted)) for number, layer in _layers(saved))
    return [(number, content) for number, content in found if content is not None]


def layers_holding(saved: bytes, needle: bytes) -> list[int]:
    """Numbers of the layers in which some file, or the name of one, contains `needle`."""
    return [number for number, layer in _layers(saved) if _holds(layer, needle)]


def _layers(saved: bytes) -> Iterator[tuple[int, tarfile.TarFile]]:
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        listed = archive.extractfile("manifest.json")
        layers = json.load(listed)[0]["Layers"] if listed is not None else []
        for number, name in enumerate(layers, start=1):
            blob = archive.extractfile(name)
            if blob is None:
                continue
            with tarfile.open(fileobj=blob, mode="r:*") as layer:
                yield number, layer


def _holds(layer: tarfile.TarFile, needle: bytes) -> bool:
    for member in layer:
        if needle in member.name.encode(errors="surrogateescape"):
            return True
        file = layer.extractfile(member) if member.isreg() else None
        tail = b""
        while file is not None and (piece := file.read(_FILE_BYTES_MAX)):
            if needle in tail + piece:
                return True
            tail = piece[-len(needle) :]
    return False


def _content(layer: tarfile.TarFile, wanted: str) -> bytes | None:
    member = None
    for one in layer:
        if one.name.removeprefix("./").strip("/") == wanted:
            member = one  # as when unpacking, the last of several counts
    if member is None or not (member.isreg() or member.islnk()):
        return None
    file = layer.extractfile(member)
    return file.read(_FILE_BYTES_MAX) if file is not None else None

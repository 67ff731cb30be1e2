"""Copy a stack of layers into one folder, for hosts on which overlayfs cannot be mounted."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.host.image.apply import LayerApplier
from labkit.host.image.beneath import open_directory
from labkit.host.image.difftree import write_upper
from labkit.host.image.tarread import TarReader
from labkit.host.image.tarwrite import TarWriter

if TYPE_CHECKING:
    from labkit.host.image.store import ImageStore

__all__ = ["copy_stack", "unpack_tree"]


def copy_stack(layers: Sequence[Path], target: Path) -> None:
    """Merge `layers` (topmost first) into the folder `target`: deletions delete, links stay links.

    Each layer travels as the archive it would be, so this way and the overlay way cannot differ.
    """
    target_fd = open_directory(target)
    try:
        for layer in reversed(layers):
            _merge(layer, target_fd)
            found = os.stat(layer)
            with suppress(OSError):  # an id outside a rootless lab's map
                os.chown(target_fd, found.st_uid, found.st_gid)
            os.chmod(target_fd, found.st_mode & 0o7777)
    finally:
        os.close(target_fd)


def unpack_tree(store: ImageStore, reference: str, target: Path) -> None:
    """Write a private copy of an image's tree into the existing, empty folder `target`."""
    copy_stack(store.layer_paths(store.get(reference))[::-1], target)


def _merge(layer: Path, target_fd: int) -> None:
    read_end, write_end = os.pipe()
    failure: list[BaseException] = []

    def produce() -> None:
        source_fd = open_directory(layer)
        try:
            with open(write_end, "wb") as pipe:
                writer = TarWriter(pipe.write)
                write_upper(source_fd, writer)
                writer.close()
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the reading side
            failure.append(error)
        finally:
            os.close(source_fd)

    thread = threading.Thread(target=produce, name="labkit-copy-layer")
    thread.start()
    try:
        with open(read_end, "rb") as pipe, LayerApplier(target_fd, deletions="merge") as applier:
            applier.apply(TarReader(pipe))
    finally:
        thread.join()
    if failure:
        raise failure[0]

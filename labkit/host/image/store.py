"""The images of one Docker host: content by digest, layers unpacked, names in an index.

    ROOT/image.db      the index (index.py)
    ROOT/blobs/        configs, manifests, layers as they travel (blobs.py)
    ROOT/overlay2/     layers unpacked, and containers' writable layers (layers.py, snapshots.py)

One process owns a root at a time (a lock file says so); others may read it as `shared`. All
methods may be called from any thread. What is rare is imported at its first use: a daemon must
answer within a fraction of a second of its start.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from labkit.base.ids import is_id_prefix
from labkit.host.image.blobs import BlobStore
from labkit.host.image.digests import chain_ids
from labkit.host.image.index import ImageRow, Index
from labkit.host.image.layers import LayerStore, stack_size
from labkit.host.image.model import Image, check_config, parse_time
from labkit.host.image.reference import Reference, familiar_name, parse
from labkit.host.image.shared import import_shared

__all__ = ["ImageStore"]

_NONE: tuple[str, ...] = ()


def _nobody(_image_id: str) -> Sequence[str]:
    return _NONE


class ImageStore:
    """See the module's text. `shown_root` is the path under which the lab host sees `root`."""

    def __init__(
        self,
        root: Path,
        *,
        shared: Sequence[Path] = (),
        shown_root: str = "/var/lib/docker",
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = root
        self.shared = tuple(shared)
        self.shown_root = shown_root
        self.now_ns = now_ns
        self.driver = "overlay2"
        """`vfs` where a Snapshotter copies because overlayfs cannot be mounted."""
        self.lock = threading.RLock()
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._leases: Counter[str] = Counter()
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._lock_fd = self._take_lock()
        except OSError as error:
            raise SystemFailure(
                f"cannot open the image store in {root}: {error.strerror}",
                hint="set LABKIT_HOME to a folder you may write to",
            ) from error
        self.index = Index(root / "image.db")
        self.blobs = BlobStore(root, self.shared)
        self.layers = LayerStore(root, self.index)
        self._sweep()
        for folder in self.shared:
            import_shared(self.index, folder, self.now_ns)

    def _take_lock(self) -> int:
        fd = os.open(self.root / "image.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Conflict(
                f"the image store in {self.root} is in use by another process",
                hint="labkit status says which daemon runs; labkit down stops it",
            ) from None
        return fd

    def close(self) -> None:
        """Release the root. Nothing is lost when this is never called."""
        self.layers.drain()
        self.index.close()
        os.close(self._lock_fd)

    # -- reading ---------------------------------------------------------------------------

    def get(self, reference: str) -> Image:
        """The image called `reference`: a name, a name with a digest, or (a prefix of) an id.

        Raises NotFound with Docker's sentence `No such image: …`, InvalidParameter for a name
        that cannot be one.
        """
        image_id = self.find_id(reference)
        if image_id is None:
            raise NotFound(
                f"No such image: {_as_asked(reference)}",
                hint="docker images lists what is here; docker pull gets more",
            )
        return self._image(image_id)

    def find_id(self, reference: str) -> str | None:
        """Like `get`, but only the id, and None where there is no such image."""
        if reference.startswith("sha256:") and is_id_prefix(reference[7:]):
            return self._by_prefix(reference[7:])
        try:
            parsed = parse(reference)
        except InvalidParameter:
            if is_id_prefix(reference):
                return self._by_prefix(reference)
            raise
        found = self._by_reference(parsed)
        if found is None and is_id_prefix(reference):
            found = self._by_prefix(reference)
        return found

    def _by_prefix(self, prefix: str) -> str | None:
        found = self.index.images_by_prefix(prefix)
        return found[0] if len(found) == 1 else None

    def _by_reference(self, reference: Reference) -> str | None:
        if reference.digest:
            return self.index.digest(reference.name, reference.digest) or (
                reference.digest if self.index.image(reference.digest) else None
            )
        tagged = reference.with_default_tag()
        return self.index.tag(tagged.name, tagged.tag)

    def images(
        self,
        all: bool = False,  # noqa: A002 - the API's word
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Image]:
        """Images, newest first; without `all`, untagged ones that others are built on are left out.

        `filters`: dangling, label, label!, before, since, until, reference (Docker's meaning).
        """
        rows = self.index.images()
        parents = {row.parent for row in rows if row.parent}
        found = [self._image_of(row) for row in rows]
        if not all:
            found = [image for image in found if not (image.is_dangling and image.id in parents)]
        from labkit.host.image import presentation

        return presentation.filtered(self, found, filters or {})

    def config_of(self, image_id: str) -> Mapping[str, Any]:
        """The image's configuration document."""
        config = self._configs.get(image_id)
        if config is None:
            config = json.loads(self.blobs.read(image_id))
            self._configs[image_id] = config
        return config

    def _image(self, image_id: str) -> Image:
        row = self.index.image(image_id)
        if row is None:
            raise NotFound(f"No such image: {image_id}")
        return self._image_of(row)

    def _image_of(self, row: ImageRow) -> Image:
        diff_ids = tuple(diff for diff, _ in self.index.image_layers(row.id))
        tags = self.index.tags_of(row.id)
        return Image(
            id=row.id,
            config=self.config_of(row.id),
            repo_tags=tuple(f"{familiar_name(name)}:{tag}" for name, tag in tags),
            repo_digests=tuple(
                f"{familiar_name(name)}@{digest}" for name, digest in self.index.digests_of(row.id)
            ),
            created_ns=row.created_ns,
            size=stack_size(self.index, diff_ids),
            diff_ids=diff_ids,
            parent=row.parent,
            origin=row.origin,
            last_tag_ns=row.last_tag_ns,
        )

    def layer_paths(self, image: Image) -> list[Path]:
        """The unpacked layers of an image, bottom first. Raises SystemFailure if one is gone."""
        paths = []
        for diff_id in image.diff_ids:
            path = self.layers.path(diff_id)
            if path is None or not path.is_dir():
                raise SystemFailure(
                    f"image {image.id}: layer {diff_id} is missing on disk",
                    hint="remove the image and pull it again",
                )
            paths.append(path)
        return paths

    def shown(self, path: Path) -> str:
        """A path below the root as the lab host sees it."""
        try:
            return f"{self.shown_root}/{path.relative_to(self.root)}"
        except ValueError:
            return str(path)

    def inspect(self, reference: str) -> dict[str, Any]:
        """`docker image inspect`: the newest API's fields."""
        from labkit.host.image import presentation

        return presentation.inspect(self, self.get(reference))

    def history(self, reference: str) -> list[dict[str, Any]]:
        """`docker history`: newest step first."""
        from labkit.host.image import presentation

        return presentation.history(self, self.get(reference))

    def summary(self, image: Image, *, containers: int = -1) -> dict[str, Any]:
        """One entry of `GET /images/json`."""
        from labkit.host.image import presentation

        return presentation.summary(image, containers=containers)

    # -- writing ---------------------------------------------------------------------------

    def add_image(
        self,
        config: bytes,
        *,
        blobs: Sequence[tuple[str, str, str]] = (),
        parent: str = "",
        origin: str = "",
    ) -> str:
        """Register an image whose layers are unpacked already; returns its id.

        `blobs` are (digest, role, media type) it keeps besides its config. Raises
        InvalidParameter for a config that is not one, SystemFailure when a layer is missing.
        """
        document = json.loads(config)
        diff_ids = check_config(document)
        for diff_id in diff_ids:
            if self.index.layer(diff_id) is None:
                raise SystemFailure(f"cannot add the image: layer {diff_id} is not unpacked")
        created = document.get("created")
        image_id = self.blobs.put(config)
        row = ImageRow(image_id, parent, parse_time(created) if created else 0, 0, origin)
        kept = [(image_id, "config", "application/vnd.oci.image.config.v1+json"), *blobs]
        pairs = list(zip(diff_ids, chain_ids(diff_ids), strict=True))
        with self.lock:
            self.index.add_image(row, pairs, kept, now_ns=self.now_ns())
        return image_id

    def tag(self, source: str, reference: str) -> None:
        """`docker tag`. Raises NotFound, InvalidParameter."""
        target = parse(reference)
        if target.digest:
            raise InvalidParameter("refusing to create a tag with a digest reference")
        image = self.get(source)
        self.set_tag(target, image.id)

    def set_tag(self, reference: Reference, image_id: str) -> str:
        """Point a parsed name at an image; returns the id it meant before, or ''."""
        tagged = reference.with_default_tag()
        with self.lock:
            return self.index.set_tag(tagged.name, tagged.tag, image_id, now_ns=self.now_ns())

    def remove(
        self,
        reference: str,
        *,
        force: bool = False,
        prune: bool = True,
        in_use: Callable[[str], Sequence[str]] = _nobody,
        running: Callable[[str], Sequence[str]] = _nobody,
    ) -> list[dict[str, str]]:
        """`docker rmi`: the list of {"Untagged": …} and {"Deleted": …}.

        `in_use` and `running` name the containers (all, and those that run) of an image id.
        Raises NotFound, or Conflict with Docker's sentence.
        """
        from labkit.host.image import removal

        with self.lock:
            return removal.remove(
                self, reference, force=force, prune=prune, in_use=in_use, running=running
            )

    def prune(
        self,
        *,
        dangling: bool = True,
        filters: Mapping[str, Sequence[str]] | None = None,
        in_use: Callable[[str], Sequence[str]] = _nobody,
    ) -> dict[str, Any]:
        """`docker image prune`: {"ImagesDeleted": […], "SpaceReclaimed": bytes}."""
        from labkit.host.image import removal

        with self.lock:
            return removal.prune(self, dangling=dangling, filters=filters or {}, in_use=in_use)

    # -- keeping things --------------------------------------------------------------------

    @contextmanager
    def lease(self, *digests: str) -> Iterator[None]:
        """Keep blobs and layers that no image names yet, while an image is being put together."""
        with self.lock:
            self._leases.update(digests)
        try:
            yield
        finally:
            with self.lock:
                self._leases.subtract(digests)

    def is_leased(self, digest: str) -> bool:
        return self._leases[digest] > 0

    def forget(self, image_id: str) -> None:
        """Drop what is remembered in memory about a removed image."""
        self._configs.pop(image_id, None)

    def snapshot_records(self) -> Iterator[dict[str, Any]]:
        """What each container's writable layer stands on (snapshots.py writes it)."""
        for name in os.listdir(self.layers.folder):
            if name.startswith("."):
                continue  # being removed
            try:
                text = (self.layers.folder / name / "snapshot.json").read_text()
                record = json.loads(text)
            except (FileNotFoundError, NotADirectoryError, ValueError):
                continue  # no container's, or one whose making was interrupted
            yield record

    def _sweep(self) -> None:
        """Remove what an earlier process left half done or no longer needed."""
        self.blobs.sweep()
        stacked = {diff_id for row in self.snapshot_records() for diff_id in row["diff_ids"]}
        chains = {
            chain_ids(row["diff_ids"])[-1] for row in self.snapshot_records() if row["diff_ids"]
        }
        for layer in self.index.layers():
            gone = layer.root and not Path(layer.root, "overlay2", layer.diff_id[7:]).is_dir()
            unused = not self.index.layer_users(layer.diff_id) and layer.diff_id not in stacked
            if gone or unused:
                self.index.remove_layer(layer.diff_id)
        known = {layer.diff_id[7:] for layer in self.index.layers() if not layer.root}

        def keep(name: str) -> bool:
            if name.endswith("-init"):
                chain = f"sha256:{name.removesuffix('-init')}"
                return chain in chains or self.index.chain_users(chain) > 0
            if name == "l":
                return True
            return name in known or self._is_snapshot(name)

        self.layers.sweep(keep)
        for digest in list(self.blobs.all()):
            if not self.index.blob_users(digest):
                self.blobs.remove(digest)

    def _is_snapshot(self, name: str) -> bool:
        try:
            json.loads((self.layers.folder / name / "snapshot.json").read_text())
        except (OSError, ValueError):
            return False
        return True

    def verify(self, reference: str) -> list[str]:
        """Read every blob of an image again; returns what is wrong, one sentence each."""
        image = self.get(reference)
        wrong = []
        for digest, role, _ in self.index.image_blobs(image.id):
            path = self.blobs.find(digest)
            if path is None:
                wrong.append(f"{role} {digest} is missing")
                continue
            with open(path, "rb") as file:
                import hashlib

                if "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    wrong.append(f"{role} {digest} is damaged")
        for diff_id in image.diff_ids:
            folder = self.layers.path(diff_id)
            if folder is None or not folder.is_dir():
                wrong.append(f"layer {diff_id} is not unpacked")
        return wrong


def _as_asked(reference: str) -> str:
    try:
        return parse(reference).familiar
    except InvalidParameter:
        return reference

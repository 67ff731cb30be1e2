"""Docker's rules for removing images: what is only untagged, what goes, and what stands in the way.

A name removes itself, and the image with its last name. An id removes all its names when they are
of one repository. Running containers and images built upon it are hard conflicts, stopped
containers and foreign names are soft ones that `force` overrides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Conflict
from labkit.base.ids import is_id_prefix, short_id
from labkit.host.image import presentation
from labkit.host.image.digests import chain_ids
from labkit.host.image.reference import familiar_name, parse

if TYPE_CHECKING:
    from labkit.host.image.store import ImageStore

__all__ = ["collect", "prune", "remove"]

_Users = Callable[[str], Sequence[str]]
_Records = list[dict[str, str]]


def _names(store: ImageStore, image_id: str) -> list[tuple[str, str, bool]]:
    """(repository, tag or digest, whether it is a digest) of every name of an image."""
    return [(name, tag, False) for name, tag in store.index.tags_of(image_id)] + [
        (name, digest, True) for name, digest in store.index.digests_of(image_id)
    ]


def _is_single(names: list[tuple[str, str, bool]]) -> bool:
    """At most one tag, and nothing outside its repository."""
    repositories = {name for name, _, _ in names}
    tags = sum(1 for _, _, is_digest in names if not is_digest)
    return len(repositories) <= 1 and tags <= 1


def _untag(store: ImageStore, name: str, word: str, is_digest: bool, records: _Records) -> None:
    if is_digest:
        store.index.remove_digest(name, word)
    else:
        store.index.remove_tag(name, word)
    records.append({"Untagged": f"{familiar_name(name)}{'@' if is_digest else ':'}{word}"})


def remove(
    store: ImageStore,
    reference: str,
    *,
    force: bool,
    prune: bool,
    in_use: _Users,
    running: _Users,
) -> _Records:
    """See ImageStore.remove."""
    image = store.get(reference)
    records: _Records = []
    remover = _Remover(store, records, in_use, running)
    by_id = is_id_prefix(reference.removeprefix("sha256:")) and image.id.removeprefix(
        "sha256:"
    ).startswith(reference.removeprefix("sha256:"))
    with store.index.transaction():
        names = _names(store, image.id)
        if not by_id:
            users = in_use(image.id)
            if users and not force and _is_single(names):
                raise Conflict(
                    f'conflict: unable to remove repository reference "{reference}" (must force)'
                    f" - container {short_id(users[0])} is using its referenced image "
                    f"{short_id(image.id)}",
                    hint=f"docker rm {short_id(users[0])} first, or docker rmi -f {reference}",
                )
            remover.untag_named(reference, image.id)
            if _names(store, image.id):
                return records
            remover.delete(image.id, force=force, prune=prune, quiet=True)
        else:
            if _is_single(names):
                remover.check(image.id, force=force, names_matter=False)
                for name, word, is_digest in names:
                    _untag(store, name, word, is_digest, records)
            remover.delete(image.id, force=force, prune=prune, quiet=False)
    remover.free()
    return records


class _Remover:
    def __init__(
        self, store: ImageStore, records: _Records, in_use: _Users, running: _Users
    ) -> None:
        self._store = store
        self._records = records
        self._in_use = in_use
        self._running = running
        self._blobs: set[str] = set()
        self._layers: set[str] = set()

    def untag_named(self, reference: str, image_id: str) -> None:
        """Remove the name given; digests of its repository go with its last tag."""
        parsed = parse(reference)
        records, index = self._records, self._store.index
        if parsed.digest:
            _untag(self._store, parsed.name, parsed.digest, True, records)
            return
        _untag(self._store, parsed.name, parsed.with_default_tag().tag, False, records)
        if any(name == parsed.name for name, _ in index.tags_of(image_id)):
            return
        for name, digest in index.digests_of(image_id):
            if name == parsed.name:
                _untag(self._store, name, digest, True, records)

    def check(self, image_id: str, *, force: bool, names_matter: bool = True) -> None:
        """Raise Conflict when something stands in the way of deleting the image."""
        conflict = self._conflict(image_id, force=force, names_matter=names_matter)
        if conflict is not None:
            raise conflict

    def _conflict(
        self, image_id: str, *, force: bool, names_matter: bool = True
    ) -> Conflict | None:
        def refusal(hard: bool, reason: str, hint: str) -> Conflict:
            word = "cannot be forced" if hard else "must be forced"
            return Conflict(
                f"conflict: unable to delete {short_id(image_id)} ({word}) - {reason}", hint=hint
            )

        active = list(self._running(image_id))
        if active:
            who = short_id(active[0])
            return refusal(
                True, f"image is being used by running container {who}", f"docker rm -f {who} first"
            )
        if self._store.index.children(image_id):
            return refusal(
                True, "image has dependent child images", "remove the images built on it first"
            )
        if force:
            return None
        if names_matter and _names(self._store, image_id):
            return refusal(
                False,
                "image is referenced in multiple repositories",
                "remove it by name, or use docker rmi -f",
            )
        stopped = list(self._in_use(image_id))
        if stopped:
            who = short_id(stopped[0])
            return refusal(
                False, f"image is being used by stopped container {who}", f"docker rm {who} first"
            )
        return None

    def delete(self, image_id: str, *, force: bool, prune: bool, quiet: bool) -> None:
        """Delete an image and, if `prune`, the untagged parents nobody else needs."""
        index = self._store.index
        current, first = image_id, True
        while True:
            conflict = self._conflict(current, force=force if first else False)
            if conflict is not None:
                # A removed name was the request; the image itself may stay where it is used.
                if quiet or not first:
                    return
                raise conflict
            row = index.image(current)
            assert row is not None
            for name, word, is_digest in _names(self._store, current):
                _untag(self._store, name, word, is_digest, self._records)
            self._delete_one(current)
            if not prune or not row.parent or index.image(row.parent) is None:
                return
            current, first = row.parent, False

    def _delete_one(self, image_id: str) -> None:
        index = self._store.index
        diff_ids = [diff_id for diff_id, _ in index.image_layers(image_id)]
        self._blobs |= {digest for digest, _, _ in index.image_blobs(image_id)}
        self._layers |= set(diff_ids)
        index.remove_image(image_id)
        self._store.forget(image_id)
        self._records.append({"Deleted": image_id})
        stacked = {
            chain
            for record in self._store.snapshot_records()
            for chain in chain_ids(record["diff_ids"])
        }
        for chain in reversed(chain_ids(diff_ids)):
            if chain not in stacked and not index.chain_users(chain):
                self._records.append({"Deleted": chain})

    def free(self) -> int:
        """After the transaction: remove files nothing refers to any more."""
        return collect(self._store, self._blobs, self._layers)


def collect(store: ImageStore, blobs: set[str], layers: set[str]) -> int:
    """Remove those of the given blobs and layers that nothing needs; returns bytes of content."""
    index = store.index
    stacked = {diff_id for record in store.snapshot_records() for diff_id in record["diff_ids"]}
    freed = 0
    for diff_id in layers:
        if (
            not index.layer_users(diff_id)
            and diff_id not in stacked
            and not store.is_leased(diff_id)
        ):
            freed += store.layers.remove(diff_id)
    for digest in blobs:
        if not index.blob_users(digest) and not store.is_leased(digest):
            store.blobs.remove(digest)
    return freed


def prune(
    store: ImageStore,
    *,
    dangling: bool,
    filters: Mapping[str, Sequence[str]],
    in_use: _Users,
) -> dict[str, Any]:
    """See ImageStore.prune."""
    wanted = dict(filters)
    words = wanted.pop("dangling", [])
    if words:
        dangling = words[0].lower() not in ("false", "0")
    deleted: _Records = []
    before = sum(row.size for row in store.index.layers() if not row.root)
    for image in presentation.filtered(store, store.images(all=True), wanted):
        if store.index.image(image.id) is None or (dangling and not image.is_dangling):
            continue
        if in_use(image.id):
            continue
        names = list(image.repo_tags) + list(image.repo_digests)
        for name in names or [image.id]:
            if store.find_id(name) != image.id:
                continue
            try:
                deleted += remove(
                    store, name, force=False, prune=True, in_use=in_use, running=in_use
                )
            except Conflict:
                break  # another image stands on it; it goes when that one goes
    after = sum(row.size for row in store.index.layers() if not row.root)
    return {"ImagesDeleted": deleted or None, "SpaceReclaimed": before - after}

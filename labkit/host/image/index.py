"""The SQLite index of one image store: which names mean which images, made of which layers.

Every change is one transaction, durable before it is answered (WAL, synchronous=FULL). Repository
names are canonical (`docker.io/library/alpine`); people's spelling is made when printing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import SystemFailure
from labkit.host.image.indexschema import SCHEMA, SCHEMA_VERSION

__all__ = ["ImageRow", "Index", "LayerBlob", "LayerRow"]


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image as the index knows it."""

    id: str
    parent: str
    created_ns: int
    last_tag_ns: int
    origin: str
    """Where it came from: a registry, `stand-in`, `build`, `load`, or '' when unknown."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One unpacked layer. `root` is the shared store that holds it, or '' for this one."""

    diff_id: str
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class LayerBlob:
    """One form in which a layer travels."""

    diff_id: str
    digest: str
    media_type: str
    size: int


class Index:
    """A thin, thread-safe layer over the tables. Groups of changes go inside `transaction()`."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        if readonly:
            self._db = _open_readonly(path)
        else:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare(path)

    def _prepare(self, path: Path) -> None:
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._db.executescript(
                    f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
            elif version != SCHEMA_VERSION:
                raise SystemFailure(
                    f"cannot read the image index {path.name}: version {version} is not known",
                    hint="it was written by another labkit; labkit reset starts afresh",
                )
        except sqlite3.DatabaseError as error:
            raise SystemFailure(
                f"cannot open the image index {path.name}: {error}",
                hint="the file may be damaged; labkit reset starts afresh",
            ) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes inside happen together or not at all; may be nested."""
        with self._lock:
            if self._depth:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            else:
                self._db.execute("COMMIT")
            finally:
                self._depth -= 1

    def _rows(self, query: str, *values: object) -> list[tuple[str, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _change(self, query: str, *values: object) -> int:
        with self._lock:
            return self._db.execute(query, values).rowcount

    # -- images ----------------------------------------------------------------------------

    def add_image(
        self,
        row: ImageRow,
        layers: Sequence[tuple[str, str]],
        blobs: Sequence[tuple[str, str, str]],
        *,
        now_ns: int,
    ) -> None:
        """Insert an image, its (diff-id, chain-id) pairs bottom first and (digest, role, type)."""
        with self.transaction():
            self._change(
                "INSERT INTO images(id, parent, created_ns, added_ns, origin) "
                "VALUES(?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING",
                row.id,
                row.parent,
                row.created_ns,
                now_ns,
                row.origin,
            )
            for position, (diff_id, chain_id) in enumerate(layers):
                self._change(
                    "INSERT OR IGNORE INTO image_layers VALUES(?, ?, ?, ?)",
                    row.id,
                    position,
                    diff_id,
                    chain_id,
                )
            for digest, role, media_type in blobs:
                self._change(
                    "INSERT OR IGNORE INTO image_blobs VALUES(?, ?, ?, ?)",
                    row.id,
                    digest,
                    role,
                    media_type,
                )

    def image(self, image_id: str) -> ImageRow | None:
        found = self._images("WHERE id = ?", image_id)
        return found[0] if found else None

    def images(self) -> list[ImageRow]:
        return self._images("ORDER BY created_ns DESC, id")

    def images_by_prefix(self, prefix: str) -> list[str]:
        """Image ids whose hexadecimal part begins with `prefix`; two are enough to know."""
        low = f"sha256:{prefix}"
        return [
            row[0]
            for row in self._rows(
                "SELECT id FROM images WHERE id >= ? AND id < ? LIMIT 2", low, low + "g"
            )
        ]

    def children(self, image_id: str) -> list[str]:
        return [row[0] for row in self._rows("SELECT id FROM images WHERE parent = ?", image_id)]

    def _images(self, tail: str, *values: object) -> list[ImageRow]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT id, parent, created_ns, last_tag_ns, origin FROM images {tail}",  # noqa: S608
                values,
            ).fetchall()
        return [ImageRow(*row) for row in rows]

    def remove_image(self, image_id: str) -> None:
        self._change("DELETE FROM images WHERE id = ?", image_id)

    def set_parent(self, image_id: str, parent: str) -> None:
        self._change("UPDATE images SET parent = ? WHERE id = ?", parent, image_id)

    def image_layers(self, image_id: str) -> list[tuple[str, str]]:
        """(diff-id, chain-id), bottom first."""
        return [
            (row[0], row[1])
            for row in self._rows(
                "SELECT diff_id, chain_id FROM image_layers WHERE image_id = ? ORDER BY position",
                image_id,
            )
        ]

    def image_blobs(self, image_id: str) -> list[tuple[str, str, str]]:
        """(digest, role, media type); role is config, manifest, index or layer."""
        return [
            (row[0], row[1], row[2])
            for row in self._rows(
                "SELECT digest, role, media_type FROM image_blobs WHERE image_id = ?", image_id
            )
        ]

    # -- names -----------------------------------------------------------------------------

    def set_tag(self, name: str, tag: str, image_id: str, *, now_ns: int) -> str:
        """Point a tag at an image; returns the id it pointed at before, or ''."""
        with self.transaction():
            before = self.tag(name, tag)
            self._change(
                "INSERT INTO tags VALUES(?, ?, ?) "
                "ON CONFLICT(name, tag) DO UPDATE SET image_id = excluded.image_id",
                name,
                tag,
                image_id,
            )
            self._change("UPDATE images SET last_tag_ns = ? WHERE id = ?", now_ns, image_id)
        return before or ""

    def tag(self, name: str, tag: str) -> str | None:
        rows = self._rows("SELECT image_id FROM tags WHERE name = ? AND tag = ?", name, tag)
        return rows[0][0] if rows else None

    def tags_of(self, image_id: str) -> list[tuple[str, str]]:
        return [
            (row[0], row[1])
            for row in self._rows(
                "SELECT name, tag FROM tags WHERE image_id = ? ORDER BY name, tag", image_id
            )
        ]

    def tags_in(self, name: str) -> list[str]:
        """All tags of one repository."""
        return [row[0] for row in self._rows("SELECT tag FROM tags WHERE name = ?", name)]

    def remove_tag(self, name: str, tag: str) -> bool:
        return self._change("DELETE FROM tags WHERE name = ? AND tag = ?", name, tag) > 0

    def set_digest(self, name: str, digest: str, image_id: str) -> None:
        self._change(
            "INSERT INTO digests VALUES(?, ?, ?) "
            "ON CONFLICT(name, digest) DO UPDATE SET image_id = excluded.image_id",
            name,
            digest,
            image_id,
        )

    def digest(self, name: str, digest: str) -> str | None:
        rows = self._rows(
            "SELECT image_id FROM digests WHERE name = ? AND digest = ?", name, digest
        )
        return rows[0][0] if rows else None

    def digests_of(self, image_id: str) -> list[tuple[str, str]]:
        return [
            (row[0], row[1])
            for row in self._rows(
                "SELECT name, digest FROM digests WHERE image_id = ? ORDER BY name, digest",
                image_id,
            )
        ]

    def remove_digest(self, name: str, digest: str) -> bool:
        return self._change("DELETE FROM digests WHERE name = ? AND digest = ?", name, digest) > 0

    # -- layers ----------------------------------------------------------------------------

    def add_layer(self, row: LayerRow) -> None:
        self._change(
            "INSERT INTO layers VALUES(?, ?, ?) ON CONFLICT(diff_id) DO NOTHING",
            row.diff_id,
            row.size,
            row.root,
        )

    def layer(self, diff_id: str) -> LayerRow | None:
        with self._lock:
            row = self._db.execute(
                "SELECT diff_id, size, root FROM layers WHERE diff_id = ?", (diff_id,)
            ).fetchone()
        return LayerRow(*row) if row else None

    def layers(self) -> list[LayerRow]:
        with self._lock:
            rows = self._db.execute("SELECT diff_id, size, root FROM layers").fetchall()
        return [LayerRow(*row) for row in rows]

    def remove_layer(self, diff_id: str) -> None:
        with self.transaction():
            self._change("DELETE FROM layers WHERE diff_id = ?", diff_id)
            self._change("DELETE FROM layer_blobs WHERE diff_id = ?", diff_id)

    def layer_users(self, diff_id: str) -> int:
        """How many images stack this layer."""
        return int(
            self._rows(
                "SELECT count(DISTINCT image_id) FROM image_layers WHERE diff_id = ?", diff_id
            )[0][0]
        )

    def chain_users(self, chain_id: str) -> int:
        return int(
            self._rows("SELECT count(*) FROM image_layers WHERE chain_id = ?", chain_id)[0][0]
        )

    def add_layer_blob(self, blob: LayerBlob) -> None:
        self._change(
            "INSERT OR IGNORE INTO layer_blobs VALUES(?, ?, ?, ?)",
            blob.diff_id,
            blob.digest,
            blob.media_type,
            blob.size,
        )

    def layer_blobs(self, diff_id: str) -> list[LayerBlob]:
        return self._layer_blobs("diff_id", diff_id)

    def layer_by_blob(self, digest: str) -> LayerBlob | None:
        found = self._layer_blobs("digest", digest)
        return found[0] if found else None

    def _layer_blobs(self, column: str, value: str) -> list[LayerBlob]:
        with self._lock:
            rows = self._db.execute(
                "SELECT diff_id, digest, media_type, size FROM layer_blobs "  # noqa: S608
                f"WHERE {column} = ?",
                (value,),
            ).fetchall()
        return [LayerBlob(*row) for row in rows]

    def blob_users(self, digest: str) -> int:
        return int(self._rows("SELECT count(*) FROM image_blobs WHERE digest = ?", digest)[0][0])

    def images_with_blob(self, digest: str) -> list[str]:
        return [
            row[0]
            for row in self._rows("SELECT image_id FROM image_blobs WHERE digest = ?", digest)
        ]

    # -- shared stores ---------------------------------------------------------------------

    def was_shared_seen(self, root: str, image_id: str) -> bool:
        return bool(
            self._rows("SELECT 1 FROM shared_seen WHERE root = ? AND image_id = ?", root, image_id)
        )

    def mark_shared_seen(self, root: str, image_id: str) -> None:
        self._change("INSERT OR IGNORE INTO shared_seen VALUES(?, ?)", root, image_id)


def _open_readonly(path: Path) -> sqlite3.Connection:
    """Open another store's index. On a read-only mount WAL cannot be used: read it as it lies."""
    for option in ("mode=ro", "immutable=1"):
        try:
            database = sqlite3.connect(
                f"file:{path}?{option}", uri=True, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            last = error
            continue
        try:
            database.execute("SELECT count(*) FROM images").fetchone()
        except sqlite3.Error as error:
            last = error
            database.close()
            continue
        return database
    raise SystemFailure(f"cannot read the shared image index {path.name}: {last}") from last

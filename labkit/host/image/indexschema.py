"""The tables of an image store's index (index.py)."""

from __future__ import annotations

__all__ = ["SCHEMA", "SCHEMA_VERSION"]

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    parent TEXT NOT NULL DEFAULT '',
    created_ns INTEGER NOT NULL,
    added_ns INTEGER NOT NULL,
    last_tag_ns INTEGER NOT NULL DEFAULT 0,
    origin TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_diff ON image_layers(diff_id);
CREATE TABLE image_blobs (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    role TEXT NOT NULL,
    media_type TEXT NOT NULL,
    PRIMARY KEY (image_id, digest)
) WITHOUT ROWID;
CREATE INDEX image_blobs_digest ON image_blobs(digest);
CREATE TABLE tags (
    name TEXT NOT NULL,
    tag TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    PRIMARY KEY (name, tag)
) WITHOUT ROWID;
CREATE INDEX tags_image ON tags(image_id);
CREATE TABLE digests (
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    PRIMARY KEY (name, digest)
) WITHOUT ROWID;
CREATE INDEX digests_image ON digests(image_id);
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE layer_blobs (
    diff_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (diff_id, digest)
) WITHOUT ROWID;
CREATE INDEX layer_blobs_digest ON layer_blobs(digest);
CREATE TABLE shared_seen (
    root TEXT NOT NULL,
    image_id TEXT NOT NULL,
    PRIMARY KEY (root, image_id)
) WITHOUT ROWID;
"""

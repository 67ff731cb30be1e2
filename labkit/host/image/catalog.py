"""The catalog: images this machine can build by itself when no registry can be reached.

Each is a stand-in and says so: in its labels (`org.labkit.stand-in`), in its history, and in one
line when it is pulled. Sources stay outside the image store, so `docker system prune -a` loses
nothing that a pull cannot bring back.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from labkit.host.image.digests import canonical_json
from labkit.host.image.index import LayerBlob
from labkit.host.image.layers import decompressor
from labkit.host.image.model import format_time
from labkit.host.image.reference import DEFAULT_DOMAIN, Reference
from labkit.host.image.standins.common import StandIn
from labkit.host.image.standins.machine import architecture
from labkit.host.image.store import ImageStore
from labkit.host.image.tarwrite import TarWriter

__all__ = ["REFUSED", "STAND_IN_LABEL", "Built", "BuiltLayer", "Catalog", "CatalogEntry"]

STAND_IN_LABEL = "org.labkit.stand-in"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_STANDINS = "labkit.host.image.standins"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One image the catalog can build. `summary` is a line for lists of what there is."""

    name: str
    summary: str
    module: str
    function: str

    def stand_in(self) -> StandIn:
        """Collect the root file system. Raises Unsupported naming what the machine lacks."""
        build: Callable[[], StandIn] = getattr(
            import_module(f"{_STANDINS}.{self.module}"), self.function
        )
        return build()


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """One layer, by both its names. `size` is its bytes as it would travel."""

    diff_id: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Built:
    """What `Catalog.build` made."""

    image_id: str
    manifest_digest: str
    layers: tuple[BuiltLayer, ...]
    summary: str


_ENTRIES = (
    CatalogEntry("alpine", "busybox in Alpine's clothes, with apk add", "alpine", "build_alpine"),
    CatalogEntry("busybox", "busybox of this machine", "busybox", "build_busybox"),
    CatalogEntry("debian", "this machine's GNU userland", "debian", "build_debian"),
    CatalogEntry("docker", "the docker client", "tools", "build_docker"),
    CatalogEntry("hello-world", "a greeting that explains itself", "hello", "build_hello"),
    CatalogEntry("httpd", "Debian's Apache httpd", "servers", "build_httpd"),
    CatalogEntry("mariadb", "Debian's MariaDB", "databases", "build_mariadb"),
    CatalogEntry("mysql", "Debian's MariaDB, which speaks MySQL", "databases", "build_mysql"),
    CatalogEntry("nginx", "Debian's nginx", "servers", "build_nginx"),
    CatalogEntry("node", "this machine's or Debian's Node.js", "languages", "build_node"),
    CatalogEntry("postgres", "Debian's PostgreSQL", "databases", "build_postgres"),
    CatalogEntry("python", "Debian's CPython", "languages", "build_python"),
    CatalogEntry("redis", "Debian's redis", "servers", "build_redis"),
    CatalogEntry("registry", "Debian's docker-registry", "tools", "build_registry"),
    CatalogEntry("ubuntu", "this machine's GNU userland", "debian", "build_ubuntu"),
)

REFUSED: Mapping[str, str] = {
    "mongo": "MongoDB's licence keeps it out of Debian, so there is nothing to build it from",
    "centos": "its packages are not Debian's; debian and ubuntu have the same commands but yum",
    "fedora": "its packages are not Debian's; debian and ubuntu have the same commands but dnf",
    "nextcloud": "it is an application that its own makers package",
    "java": "a Java development kit is too large to be built while you wait",
    "openjdk": "a Java development kit is too large to be built while you wait",
    "maven": "a Java development kit is too large to be built while you wait",
    "golang": "a Go toolchain is too large to be built while you wait",
}
"""Names the course meets that no stand-in is built for, and why."""


class Catalog:
    """Names of stand-ins and their builders."""

    def __init__(self, entries: tuple[CatalogEntry, ...] = _ENTRIES) -> None:
        self._entries: Mapping[str, CatalogEntry] = {entry.name: entry for entry in entries}

    def names(self) -> list[str]:
        return sorted(self._entries)

    def entries(self) -> list[CatalogEntry]:
        return [self._entries[name] for name in self.names()]

    def resolve(self, reference: Reference) -> CatalogEntry | None:
        """The entry for an official image of that name; any tag will do, a digest never."""
        if reference.domain != DEFAULT_DOMAIN or reference.digest:
            return None
        prefix, _, name = reference.path.rpartition("/")
        return self._entries.get(name) if prefix == "library" else None

    def build(
        self,
        entry: CatalogEntry,
        store: ImageStore,
        progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    ) -> Built:
        """Build an entry into the store; the same machine gives the same digests.

        `progress` hears (`Downloading` or `Extracting`, bytes done, bytes in all or 0). Raises
        Unsupported naming what the machine lacks.
        """
        stand_in = entry.stand_in()
        chain = stand_in.chain()
        layers: list[BuiltLayer] = []
        with contextlib.ExitStack() as leases:
            for one in chain:
                layer = _store_layer(store, one, progress)
                leases.enter_context(store.lease(layer.diff_id, layer.digest))
                layers.append(layer)
                store.index.add_layer_blob(
                    LayerBlob(layer.diff_id, layer.digest, LAYER_TYPE, layer.size)
                )
            config = _config(entry, chain, layers)
            manifest = _manifest(entry, stand_in, store.blobs.put(config), len(config), layers)
            manifest_digest = store.blobs.put(manifest)
            image_id = store.add_image(
                config,
                blobs=[
                    (manifest_digest, "manifest", MANIFEST_TYPE),
                    *((layer.digest, "layer", LAYER_TYPE) for layer in layers),
                ],
                origin="stand-in",
            )
        return Built(image_id, manifest_digest, tuple(layers), stand_in.summary)


def _manifest(
    entry: CatalogEntry,
    stand_in: StandIn,
    config_digest: str,
    config_size: int,
    layers: Sequence[BuiltLayer],
) -> bytes:
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": config_digest, "size": config_size},
            "layers": [
                {"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
            "annotations": _labels(entry, stand_in),
        }
    )


def _labels(entry: CatalogEntry, stand_in: StandIn) -> dict[str, str]:
    return {
        STAND_IN_LABEL: "true",
        "org.labkit.stand-in.of": f"docker.io/library/{entry.name}",
        "org.labkit.stand-in.from": ", ".join(str(source) for source in stand_in.sources),
    }


def _config(entry: CatalogEntry, chain: Sequence[StandIn], layers: Sequence[BuiltLayer]) -> bytes:
    history: list[dict[str, Any]] = []
    created = ""
    newest = 0
    for one, layer in zip(chain, layers, strict=True):
        newest = max(newest, one.root.newest_ns)
        created = format_time(newest // 1_000_000_000 * 1_000_000_000)
        added = f"/bin/sh -c #(nop) ADD file:{layer.diff_id[7:]} in / "
        history.append(
            {"created": created, "created_by": added, "comment": f"stand-in: {one.summary}"}
        )
        history += [
            {"created": created, "created_by": f"/bin/sh -c #(nop)  {step}", "empty_layer": True}
            for step in one.steps
        ]
    return canonical_json(
        {
            "created": created,
            "architecture": architecture(),
            "os": "linux",
            "config": {**chain[-1].defaults, "Labels": _labels(entry, chain[-1])},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": history,
        }
    )


def _store_layer(
    store: ImageStore, stand_in: StandIn, progress: Callable[[str, int, int], None]
) -> BuiltLayer:
    """Write the layer blob and unpack it."""
    writer = store.blobs.writer()
    # Level 1: a lab builds on demand while a student waits, and the disk has room.
    deflate = zlib.compressobj(1, wbits=31)
    done = 0

    def write(data: bytes) -> None:
        nonlocal done
        done += len(data)
        writer.write(deflate.compress(data))
        progress("Downloading", done, 0)

    try:
        stand_in.root.write(TarWriter(write))
        writer.write(deflate.flush())
        digest = writer.commit()
    except BaseException:
        writer.abandon()
        raise
    known = store.index.layer_by_blob(digest)
    if known is not None and store.index.layer(known.diff_id) is not None:
        return BuiltLayer(known.diff_id, digest, writer.size)
    with open(store.blobs.path(digest), "rb") as file:
        head = file.read(4)
        file.seek(0)
        row = store.layers.unpack(decompressor(file, head), None)
    progress("Extracting", writer.size, writer.size)
    return BuiltLayer(row.diff_id, digest, writer.size)

"""Mutate archives, Dockerfiles and manifests for a while; count inputs, crashes and reached lines.

    python -m tests.bench.fuzz_images [--seconds 20] [--seed 1] [--atheris] [tar dockerfile …]

A target must end with a result or with the one error it may raise, and must touch nothing outside
its folder. The loop is guided by coverage: an input that reaches a line no other reached is kept
and mutated further. With `--atheris`, where that package is installed, libFuzzer does the guiding
for one target, until it is interrupted or its time is over. A crash is printed with the seed and
the input in base64.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import inspect
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import InvalidParameter, LabkitError, SystemFailure
from labkit.host.image.apply import LayerApplier
from labkit.host.image.beneath import open_directory
from labkit.host.image.builder.parser import parse
from labkit.host.image.builder.plaintar import plain
from labkit.host.image.builder.trees import SpooledTree
from labkit.host.image.reference import parse as parse_reference
from labkit.host.image.registry.client import Manifest, RegistryClient
from labkit.host.image.registry.manifests import (
    choose_platform,
    contents,
    document_of,
    kind_of,
)
from labkit.host.image.tarread import TarLimits, TarReader

__all__ = ["main"]

_LIMITS = TarLimits(content_bytes=1 << 20, entries=2000, trailing_bytes=1 << 16)
_TRACED = "/labkit/"


# -- targets ---------------------------------------------------------------------------------------


class _Sends:
    """A registry that has one blob."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob

    async def small_blob(self, _digest: str, _limit: int) -> bytes:
        return self._blob


class Targets:
    """What is fed; each takes bytes and raises only what it may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def tar(self, data: bytes) -> None:
        """The reader and the applier, into a folder beside one that must stay as it is."""
        self._count += 1
        root = self.folder / f"root-{self._count}"
        root.mkdir()
        fd = open_directory(root)
        try:
            with LayerApplier(fd, deletions="merge" if self._count % 2 else "overlay") as applier:
                applier.apply(TarReader(io.BytesIO(data), _LIMITS))
        except (InvalidParameter, SystemFailure):
            pass
        finally:
            os.close(fd)
            shutil.rmtree(root, ignore_errors=True)
        found = sorted(os.listdir(self.folder))
        assert found == ["outside"], found
        assert (self.folder / "outside" / "secret").read_text() == "mine"

    def context(self, data: bytes) -> None:
        """A build context, compressed or not."""
        try:
            tree = SpooledTree.from_tar(io.BytesIO(data), self.folder / "outside")
        except InvalidParameter:
            return
        try:
            for path in tree.paths():
                node = tree.find(path)
                if node is not None and node.entry.kind in ("file", "link"):
                    tree.digest(node)
        except InvalidParameter:
            pass
        finally:
            tree.close()

    def compressed(self, data: bytes) -> None:
        """A decompressor."""
        try:
            source = plain(io.BytesIO(data))
            for _ in range(64):
                if not source.read(1 << 12):
                    break
        except InvalidParameter:
            pass

    def dockerfile(self, data: bytes) -> None:
        """The parser of Dockerfiles."""
        with contextlib.suppress(InvalidParameter):
            parse(data)

    def ignore(self, data: bytes) -> None:
        """The rules of .dockerignore."""
        try:
            rules = IgnoreRules(data.decode("utf-8", "replace"))
            for path in ("a", "a/b", "a/b/c.txt", "é/ü"):
                rules.excludes(path)
                rules.may_hold_exceptions(path)
        except InvalidParameter:
            pass

    def manifest(self, data: bytes) -> None:
        """What a registry sends: a manifest or an index, and a configuration."""
        config, _, text = data.partition(b"\n")
        manifest = Manifest("sha256:" + "b" * 64, "", text)
        client = cast("RegistryClient", _Sends(config))
        try:
            kind_of(manifest)
            found = document_of(manifest).get("manifests")
            choose_platform(found if isinstance(found, list) else [], "linux/arm64")
            reading = contents(client, manifest)
            with contextlib.suppress(StopIteration):
                reading.send(None)
        except LabkitError:
            pass

    def reference(self, data: bytes) -> None:
        """Names of images."""
        try:
            found = parse_reference(data.decode("utf-8", "replace"))
            assert parse_reference(found.canonical).canonical == found.canonical
        except InvalidParameter:
            pass


def _archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        kinds = {
            "d": tarfile.DIRTYPE,
            "d/link": tarfile.SYMTYPE,
            "d/hard": tarfile.LNKTYPE,
            "d/fifo": tarfile.FIFOTYPE,
            "d/.wh.gone": tarfile.REGTYPE,
            "d/.wh..wh..opq": tarfile.REGTYPE,
        }
        plain_file = tarfile.TarInfo("d/f")
        plain_file.size = 700
        archive.addfile(plain_file, io.BytesIO(b"x" * 700))
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "d/f"
            member.pax_headers = {"SCHILY.xattr.user.a": "b", "mtime": "1.5"}
            archive.addfile(member)
    return data.getvalue()


def _seeds() -> dict[str, list[bytes]]:
    import gzip
    import lzma

    archive = _archive()
    digest = "sha256:" + "a" * 64
    descriptor = {"mediaType": "x", "digest": digest, "size": 5}
    manifest = {"schemaVersion": 2, "config": descriptor, "layers": [descriptor]}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    dockerfile = (
        b"# escape=\\\nARG V=1\nFROM a:$V AS b\nRUN --mount=type=cache,target=/c <<EOF\nx\nEOF\n"
        b'COPY --from=b --chmod=755 ["a b", "/c/"]\nENV A=b C="d e"\nLABEL x=y\\\n z=w\n'
        b"HEALTHCHECK --interval=1s CMD true\nONBUILD RUN x\nEXPOSE 80/tcp 1-2\nVOLUME /a /b\n"
    )
    return {
        "tar": [archive],
        "context": [archive, gzip.compress(archive), lzma.compress(archive)],
        "compressed": [gzip.compress(archive), lzma.compress(archive), b"\x28\xb5\x2f\xfd\0\0"],
        "dockerfile": [dockerfile],
        "ignore": [b"# c\n*.md\n!a/**/b\n[a-z]?/x\n/abs/\n\\!x\n"],
        "manifest": [json.dumps(config).encode() + b"\n" + json.dumps(manifest).encode()],
        "reference": [b"docker.io/library/alpine:3@" + digest.encode(), b"localhost:5000/a/b"],
    }


# -- the loop --------------------------------------------------------------------------------------


class Coverage:
    """Lines of the project that ran, while it is the tracer."""

    def __init__(self) -> None:
        self.lines: set[tuple[CodeType, int]] = set()
        self.new = 0

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if _TRACED not in frame.f_code.co_filename:
            return None
        key = (frame.f_code, frame.f_lineno)
        if key not in self.lines:
            self.lines.add(key)
            self.new += 1
        return self


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to eight small changes; numbers and pieces of other inputs are favoured."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(found) + 1)
        size = rng.choice((1, 1, 2, 8, 64, 512))
        match rng.randrange(6):
            case 0 if found:
                found[at % len(found)] ^= 1 << rng.randrange(8)
            case 1:
                found[at:at] = rng.randbytes(min(size, 16))
            case 2:
                del found[at : at + size]
            case 3:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                found[at : at + size] = other[start : start + size]
            case 4:
                words = (b"../", b"\0", b"7777777", b"-1", b"\xff" * 8, b"$", b"<<A", b"/", b'"')
                found[at : at + 1] = rng.choice(words)
            case _:
                found[at:at] = found[at : at + size]
    return bytes(found[: 1 << 16])


def run(name: str, targets: Targets, seconds: float, seed: int) -> tuple[int, int, int]:
    """Inputs, kept inputs, and failures of one target."""
    rng = random.Random(f"{name} {seed}")
    feed: Callable[[bytes], None] = getattr(targets, name)
    corpus = list(_seeds()[name])
    coverage = Coverage()
    inputs = failures = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = corpus[inputs] if inputs < len(corpus) else mutated(rng.choice(corpus), corpus, rng)
        coverage.new = 0
        sys.settrace(coverage)
        try:
            feed(data)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            sys.settrace(None)
            failures += 1
            print(f"{name}: seed {seed}, input {inputs}: {base64.b64encode(data).decode()}")
            traceback.print_exc(limit=-3)
        finally:
            sys.settrace(None)
        if coverage.new and inputs >= len(_seeds()[name]):
            corpus.append(data)
        inputs += 1
    print(f"{name:12}{inputs:9} inputs{len(corpus):6} kept{len(coverage.lines):7} lines", end="")
    print(f"{failures:5} failures")
    return inputs, len(corpus), failures


def run_atheris(name: str, targets: Targets, seconds: float) -> None:
    """libFuzzer's own loop; it ends the process."""
    atheris = importlib.import_module("atheris")
    # Its own instrument_all() takes minutes over all that is imported.
    for module, found in list(sys.modules.items()):
        if module.startswith("labkit."):
            for value in list(vars(found).values()):
                members = vars(value).values() if inspect.isclass(value) else (value,)
                for function in members:
                    if inspect.isfunction(function) and function.__module__ == module:
                        atheris.instrument_func(function)
    corpus = targets.folder / "outside" / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(_seeds()[name]):
        (corpus / str(number)).write_bytes(seed)
    words = [sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=65536", str(corpus)]
    atheris.Setup(words, getattr(targets, name))
    atheris.Fuzz()


def main() -> int:
    """Run the named targets (all by default); the exit code says whether one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--atheris", action="store_true")
    parser.add_argument("targets", nargs="*", default=[])
    options = parser.parse_args()
    names = options.targets or list(_seeds())
    failures = 0
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="lkf", dir=memory) as name:
        folder = Path(name)
        (folder / "outside").mkdir()
        (folder / "outside" / "secret").write_text("mine")
        targets = Targets(folder)
        if options.atheris:
            # It ends its process without a word to Python: a child's, so that the folder goes.
            child = os.fork()
            if not child:
                run_atheris(names[0], targets, options.seconds)
                os._exit(0)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for target in names:
            failures += run(target, targets, options.seconds, options.seed)[2]
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())

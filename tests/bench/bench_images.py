"""Pull and push of a five-layer image of 50 MB against a local docker-registry.

    python -m tests.bench.bench_images [--rounds 5]

Each round lets every contestant work once: labkit and dockerd over their API, skopeo to and from a
folder (which downloads and hashes, but unpacks nothing). Two times are told for a pull by labkit:
until the last layer was downloaded, and until it was unpacked. Memory is labkit's peak during a
pull above what it held before. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import random
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .peers import Engine, dockerd, labkit_engine, registry

__all__ = ["main"]

LAYERS = 5
FILES = 40
FILE_BYTES = 256 << 10


def layer(seed: int, files: int, size: int) -> bytes:
    """A tar of files of which half can be compressed."""
    rng = random.Random(seed)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for number in range(files):
            member = tarfile.TarInfo(f"usr/share/layer{seed}/d{number // 50}/file{number}")
            member.size, member.mtime = size, 1_700_000_000
            half = rng.randbytes(size // 2)
            archive.addfile(member, io.BytesIO(half + bytes(size - len(half))))
    return data.getvalue()


def write_image(folder: Path, files: int, size: int) -> None:
    """An OCI layout with one image."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    prefix = "application/vnd.oci.image"
    plain = [layer(seed, files, size) for seed in range(LAYERS)]
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in plain]
    layers = [put(gzip.compress(data, 6, mtime=0), f"{prefix}.layer.v1.tar+gzip") for data in plain]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {number}"} for number in range(LAYERS)],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{prefix}.config.v1+json"),
        "layers": layers,
    }
    top = put(json.dumps(manifest).encode(), f"{prefix}.manifest.v1+json")
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "manifests": [top]}
    (folder / "index.json").write_text(json.dumps(index))


def skopeo(*words: str) -> None:
    done = subprocess.run(["skopeo", "--insecure-policy", *words], capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"skopeo {words[0]}: {done.stderr.decode()[-300:]}")


class Pulls:
    """Times of one engine: whole pulls, downloads alone, pushes; peaks of memory."""

    def __init__(self, engine: Engine, source: str, target: str) -> None:
        self.engine = engine
        self.source = source
        self.target = target

    def pull(self) -> dict[str, float]:
        """One pull; the image is there afterwards."""
        engine, done = self.engine, 0.0
        idle_kb = engine.memory_kb("VmRSS")
        engine.forget_peak()
        start = time.perf_counter()
        path = f"/images/create?fromImage={self.source}/bench&tag=1"
        with engine.api.answer("POST", path) as answer:
            for line in answer:
                if b'"Download complete"' in line:
                    done = time.perf_counter() - start
                if b'"errorDetail"' in line:
                    raise RuntimeError(line.decode())
        whole = time.perf_counter() - start
        peak_kb = engine.memory_kb("VmHWM") - idle_kb
        return {"pull": whole * 1e3, "download": done * 1e3, "memory": peak_kb / 1e3}

    def push(self) -> float:
        """Push what was pulled to the other registry, in ms."""
        api = self.engine.api
        api.ask("POST", f"/images/{self.source}/bench:1/tag?repo={self.target}/bench&tag=1")
        start = time.perf_counter()
        api.ask("POST", f"/images/{self.target}/bench/push?tag=1")
        return (time.perf_counter() - start) * 1e3

    def forget(self) -> None:
        for name in (self.target, self.source):
            with contextlib.suppress(RuntimeError):
                self.engine.api.ask("DELETE", f"/images/{name}/bench:1?force=1")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def rounds(count: int, files: int, size: int) -> Iterator[dict[str, float]]:
    """The figures of each round; the first is for warming up and left out."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lki", dir="/tmp")))
        source, _ = stack.enter_context(registry())
        target, storage = stack.enter_context(registry())
        write_image(folder / "oci", files, size)
        flags = ("--dest-tls-verify=false", "--src-tls-verify=false")
        skopeo("copy", flags[0], f"oci:{folder}/oci", f"docker://{source}/bench:1")
        contestants = []
        for enter in (labkit_engine, dockerd):
            try:
                contestants.append(Pulls(stack.enter_context(enter()), source, target))
            except RuntimeError as error:
                print(f"left out: {error}")
        for number in range(count + 1):
            found: dict[str, float] = {}
            for one in contestants:
                for key, value in one.pull().items():
                    found[f"{one.engine.name} {key}"] = value
                found[f"{one.engine.name} push"] = one.push()
                one.forget()
                shutil.rmtree(storage, ignore_errors=True)
            words = (flags[1], f"docker://{source}/bench:1", f"dir:{folder}/dir")
            found["skopeo download"] = timed(lambda words=words: skopeo("copy", *words))  # type: ignore[misc]
            words = (flags[0], f"dir:{folder}/dir", f"docker://{target}/bench:1")
            found["skopeo push"] = timed(lambda words=words: skopeo("copy", *words))  # type: ignore[misc]
            shutil.rmtree(folder / "dir")
            shutil.rmtree(storage, ignore_errors=True)
            if number:
                yield found


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=FILES, help="files in each layer")
    parser.add_argument("--bytes", type=int, default=FILE_BYTES, help="bytes of each file")
    options = parser.parse_args()
    every = list(rounds(options.rounds, options.files, options.bytes))
    middle = {key: statistics.median(one[key] for one in every) for key in every[0]}
    for key, value in middle.items():
        low, high = min(one[key] for one in every), max(one[key] for one in every)
        unit = "MB" if key.endswith("memory") else "ms"
        print(f"{key:20}{value:10.1f} {unit} ({low:.1f} to {high:.1f})")
    for ours, theirs in (
        ("labkit download", "skopeo download"),
        ("labkit pull", "dockerd pull"),
        ("labkit push", "skopeo push"),
        ("labkit push", "dockerd push"),
    ):
        if theirs in middle:
            print(f"{ours} / {theirs}: {middle[ours] / middle[theirs]:.2f}")
    print(json.dumps(middle))


if __name__ == "__main__":
    main()

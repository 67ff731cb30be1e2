"""Debian packages as sources of stand-ins: installed here, or brought by apt and kept.

    LABKIT_HOME/catalog/sets/NAME.json       which packages and versions an image was made of
    LABKIT_HOME/catalog/trees/PACKAGE_VERSION  their files

What was brought once is used again, whatever apt offers later: the same image has the same digest
until the folder is removed, and pruning images does not touch it. A package that is installed is
taken from the machine's own files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from labkit.base.errors import Unsupported
from labkit.base.paths import LabPaths
from labkit.host.image.standins.machine import Source, installed_version

__all__ = ["Package", "bring", "catalog_folder"]

_INFO = Path("/var/lib/dpkg/info")
_APT_SECONDS = 300
_MERGED = frozenset({"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"})
_LINE = re.compile(r"'[^']+' (\S+)_(\S+)_(?:\S+)\.deb ")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z")


@dataclass(frozen=True, slots=True)
class Package:
    """One package's files. `root` is `/` for one that is installed."""

    name: str
    version: str
    root: Path
    is_wanted: bool = True
    """False for one that came along because a wanted package depends on it."""

    @property
    def source(self) -> Source:
        """For labels."""
        return Source(self.name, self.version)

    def files(self) -> Iterator[tuple[str, Path]]:
        """(path in the package, where it lies now) of files and links, sorted."""
        if self.root != Path("/"):
            for folder, below, names in os.walk(self.root):
                below.sort()
                links = [name for name in below if os.path.islink(os.path.join(folder, name))]
                for name in sorted([*names, *links]):
                    path = Path(folder, name)
                    yield f"/{path.relative_to(self.root)}", path
            return
        for path in (_INFO / f"{self.name}.list", *sorted(_INFO.glob(f"{self.name}:*.list"))):
            if path.exists():
                for line in sorted(path.read_text(errors="replace").splitlines()):
                    here = Path(line)
                    if line in _MERGED:
                        continue  # a folder of the package, a link on this machine
                    if here.is_symlink() or here.is_file():
                        yield line, here
                return


def catalog_folder() -> Path:
    """Where what was brought is kept."""
    return LabPaths.from_environment().home / "catalog"


def bring(image: str, names: Sequence[str]) -> list[Package]:
    """The packages `names`, and what they need that is not installed here.

    Raises Unsupported naming the package that is neither here nor to be had, and what to do.
    """
    folder = catalog_folder()
    record = folder / "sets" / f"{image}.json"
    kept = _read(record, folder, names)
    if kept is not None:
        return kept
    versions = {name: installed_version(name) for name in names}
    if all(versions.values()):
        return [Package(name, version or "", Path("/")) for name, version in versions.items()]
    missing = [name for name, version in versions.items() if version is None]
    wanted = _resolve(image, missing)
    found = [Package(name, version, Path("/")) for name, version in versions.items() if version]
    found += _download(image, folder, wanted, set(names))
    _write(record, found, names)
    return found


def _read(record: Path, folder: Path, names: Sequence[str]) -> list[Package] | None:
    """What an earlier build used, when all of it is still there."""
    try:
        entries = json.loads(record.read_text())
    except (OSError, ValueError):
        return None
    if entries.get("asked") != list(names):
        return None
    found = []
    for item in entries["packages"]:
        if item["tree"] is None:
            if installed_version(item["name"]) != item["version"]:
                return None
            root = Path("/")
        else:
            root = folder / "trees" / item["tree"]
            if not root.is_dir():
                return None
        found.append(Package(item["name"], item["version"], root, item["wanted"]))
    return found


def _write(record: Path, found: Sequence[Package], names: Sequence[str]) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    entries = [
        {
            "name": one.name,
            "version": one.version,
            "tree": None if one.root == Path("/") else one.root.name,
            "wanted": one.is_wanted,
        }
        for one in found
    ]
    beside = record.with_suffix(".new")
    beside.write_text(json.dumps({"asked": list(names), "packages": entries}, indent=1) + "\n")
    beside.rename(record)


def _run(argv: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_APT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )


def _refusal(image: str, names: Sequence[str], why: str) -> Unsupported:
    packages = " ".join(names)
    return Unsupported(
        f"cannot build the {image} stand-in: {packages} is not installed here and cannot be "
        f"downloaded: {why}",
        hint=f"with a network: apt-get update, then again (or apt-get install {packages}); "
        "without: labkit images load-bundle FILE",
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The first thing apt calls an error."""
    lines = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")]
    return lines[0] if lines else "apt does not offer it"


def _resolve(image: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """(package, version) of all that apt would install for `names`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _refusal(image, names, "this machine has no apt")
    assert all(_NAME.match(name) for name in names)
    with tempfile.TemporaryDirectory(prefix="labkit-apt-") as empty:
        Path(empty, "partial").mkdir()
        # Archives of its own: apt does not name what lies in the machine's cache already.
        options = ["-o", "Debug::NoLocking=1", "-o", f"Dir::Cache::archives={empty}"]
        argv = ["apt-get", *options, "-y", "--no-install-recommends", "--print-uris", "install"]
        try:
            done = _run([*argv, *names], Path("/"))
        except subprocess.TimeoutExpired:
            raise _refusal(image, names, "apt-get does not answer") from None
    found = [
        (match[1], unquote(match[2]))
        for line in done.stdout.splitlines()
        if (match := _LINE.match(line))
    ]
    if done.returncode or not set(names) <= {name for name, _ in found}:
        raise _refusal(image, names, _reason(done))
    return found


def _download(
    image: str, folder: Path, wanted: Sequence[tuple[str, str]], named: set[str]
) -> list[Package]:
    trees = folder / "trees"
    trees.mkdir(parents=True, exist_ok=True)
    found = []
    missing = []
    for name, version in wanted:
        tree = trees / f"{name}_{version.replace(':', '%3a')}"
        found.append(Package(name, version, tree, name in named))
        if not tree.is_dir():
            missing.append((name, version, tree))
    if not missing:
        return found
    fetched = folder / "fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    fetched.mkdir()
    try:
        words = [f"{name}={version}" for name, version, _ in missing]
        try:
            done = _run(["apt-get", "-o", "Debug::NoLocking=1", "download", *words], fetched)
        except subprocess.TimeoutExpired:
            raise _refusal(image, sorted(named), "the download takes too long") from None
        if done.returncode:
            raise _refusal(image, sorted(named), _reason(done))
        for name, version, tree in missing:
            _extract(image, next(fetched.glob(f"{name}_*.deb")), tree, f"{name} {version}")
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
    return found


def _extract(image: str, archive: Path, tree: Path, what: str) -> None:
    beside = tree.with_name(f".{tree.name}")
    shutil.rmtree(beside, ignore_errors=True)
    done = _run(["dpkg-deb", "--extract", str(archive), str(beside)], archive.parent)
    if done.returncode:
        shutil.rmtree(beside, ignore_errors=True)
        raise Unsupported(f"cannot build the {image} stand-in: {what}: {done.stderr.strip()}")
    beside.rename(tree)

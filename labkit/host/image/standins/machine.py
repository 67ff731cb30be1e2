"""What this machine offers a stand-in: programs, their libraries, and where they come from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from labkit.host.image.standins.elf import closure, read_program
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = [
    "Source",
    "add_programs",
    "architecture",
    "find_program",
    "installed_version",
    "merged",
    "os_name",
    "package_of",
    "package_programs",
]

_PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin")
_DPKG_INFO = Path("/var/lib/dpkg/info")
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A package and version, or the machine itself where no package manager knows the file."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}".strip()


def architecture() -> str:
    """This machine in Go's words, which image configs use."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


@lru_cache(maxsize=1)
def os_name() -> str:
    """PRETTY_NAME of the machine's os-release."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        match = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
        if match:
            return match[1]
    return "this machine"


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Versions of Debian packages that are installed."""
    try:
        text = Path("/var/lib/dpkg/status").read_text(errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for block in text.split("\n\n"):
        name = re.search(r"^Package: (\S+)", block, re.MULTILINE)
        version = re.search(r"^Version: (\S+)", block, re.MULTILINE)
        if name and version and "\nStatus: install ok installed" in block:
            found[name[1]] = version[1]
    return found


def installed_version(package: str) -> str | None:
    """The version of a Debian package that is installed here."""
    return _versions().get(package)


def package_of(path: Path, candidates: Iterable[str]) -> Source:
    """Which of the candidate packages is installed; else the machine's own name."""
    for package in candidates:
        if package in _versions():
            return Source(package, _versions()[package])
    return Source(f"{path} of {os_name()}", "")


def find_program(name: str) -> Path | None:
    """A program in the system's own folders (not in the caller's PATH)."""
    for folder in _PATH:
        path = Path(folder, name)
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def package_programs(packages: Iterable[str]) -> tuple[list[Path], list[Source]]:
    """The programs that installed Debian packages put into bin and sbin, and those packages."""
    programs: list[Path] = []
    sources: list[Source] = []
    for package in packages:
        version = _versions().get(package)
        if version is None:
            continue
        sources.append(Source(package, version))
        lists = [_DPKG_INFO / f"{package}.list", *sorted(_DPKG_INFO.glob(f"{package}:*.list"))]
        for path in lists:
            if not path.exists():
                continue
            programs += [
                Path(line)
                for line in path.read_text(errors="replace").splitlines()
                if re.fullmatch(r"(/usr)?/s?bin/[^/]+", line) and Path(line).is_file()
            ]
            break
    return programs, sources


def _in_root(path: Path) -> str:
    """Where a machine's file belongs in a merged-/usr root: by its folder's real place."""
    return merged(f"{os.path.realpath(path.parent)}/{path.name}")


def merged(path: str) -> str:
    """A path as it is where /bin, /sbin and /lib are links into /usr."""
    folder, _, name = path.rpartition("/")
    if not folder.startswith("/usr/") and folder.split("/")[1:2] in (
        ["bin"],
        ["sbin"],
        ["lib"],
        ["lib64"],
        ["lib32"],
    ):
        folder = "/usr" + folder
    return f"{folder}/{name}"


def _add_file(root: RootBuilder, path: Path) -> None:
    """Add a file under its name; a link brings its target and points at it."""
    where = _in_root(path)
    if where in root:
        return
    real = Path(os.path.realpath(path))
    target = _in_root(real)
    if target == where:
        root.copy(real, where, mode=real.stat().st_mode & 0o6755 | 0o444)
        return
    if target not in root:
        root.copy(real, target, mode=real.stat().st_mode & 0o6755 | 0o444)
    root.symlink(where, os.path.relpath(target, os.path.dirname(where)))


def add_programs(root: RootBuilder, programs: Iterable[Path]) -> list[str]:
    """Add programs with every library they need; returns names of libraries not found.

    Programs whose libraries are missing here are left out; so are scripts, except those for sh.
    """
    chosen: list[Path] = []
    missing: list[str] = []
    for path in programs:
        if read_program(Path(os.path.realpath(path))) is None:
            if _is_shell_script(path):
                _add_file(root, path)
            continue
        _, absent = closure([Path(os.path.realpath(path))])
        if absent:
            missing += absent
            continue
        chosen.append(path)
    libraries, _ = closure(Path(os.path.realpath(path)) for path in chosen)
    for path in (*chosen, *libraries):
        _add_file(root, path)
    return missing


def _is_shell_script(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            first = file.readline(80)
    except OSError:
        return False
    return re.match(rb"#! ?(/usr)?/bin/(sh|bash|dash)\b", first) is not None

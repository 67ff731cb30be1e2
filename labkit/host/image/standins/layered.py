"""A layer of Debian packages above another stand-in: the real servers, as they would run.

The packages' own files are taken whole, without manuals, translations and what only a booting
machine needs; the libraries their programs ask for come from the packages that apt brought along,
else from this machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from labkit.base.errors import Unsupported
from labkit.host.image.standins.alpine import build_alpine
from labkit.host.image.standins.common import Account, StandIn, add_accounts
from labkit.host.image.standins.debian import build_debian
from labkit.host.image.standins.elf import closure, read_program
from labkit.host.image.standins.machine import Source, merged
from labkit.host.image.standins.packages import Package, bring
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["Recipe", "add_packages", "make", "script"]

_LEFT_OUT = re.compile(
    r"/usr/share/(doc|man|locale|lintian|info|bug|apport|doc-base|bash-completion|upstart)/"
    r"|/(usr/)?lib/(systemd|tmpfiles\.d|sysusers\.d|udev)/|/etc/(init\.d|cron\.[a-z]+|logrotate\.d"
    r"|default|ufw|apparmor\.d|init|insserv\.conf\.d)/|/var/log/|/run/"
)


@dataclass(slots=True)
class Recipe:
    """What an image is made of besides its base."""

    image: str
    packages: tuple[str, ...]
    summary: str
    """What is in it, for lists; versions are added."""
    defaults: dict[str, Any]
    steps: tuple[str, ...]
    base: str = "debian"
    accounts: tuple[Account, ...] = ()
    left_out: str = ""
    """A regular expression of more paths that are not taken."""
    main: str = ""
    """The program without which the image would be pointless."""
    finish: Callable[[RootBuilder, Sequence[Package]], None] = field(
        default=lambda _root, _packages: None
    )


def script(name: str) -> str:
    """One of the texts kept beside this module in `files/`."""
    return files("labkit.host.image.standins").joinpath("files", name).read_text()


@cache
def _base(name: str) -> StandIn:
    return build_debian() if name == "debian" else build_alpine()


def make(recipe: Recipe) -> StandIn:
    """Raises Unsupported naming the package or the library that is missing, and what to do."""
    packages = bring(recipe.image, recipe.packages)
    base = _base(recipe.base)
    root = RootBuilder()
    below = base.root.paths()
    if recipe.accounts:
        add_accounts(
            root, "/bin/bash" if recipe.base == "debian" else "/bin/sh", extra=recipe.accounts
        )
    add_packages(recipe, root, packages, below)
    recipe.finish(root, packages)
    sources = [Source(one.name, one.version) for one in packages if one.is_wanted]
    words = ", ".join(str(source) for source in sources)
    return StandIn(
        root,
        [*base.sources, *sources] if recipe.base == "alpine" else sources,
        f"{recipe.summary}, of {words}",
        recipe.defaults,
        recipe.steps,
        base,
    )


def add_packages(
    recipe: Recipe, root: RootBuilder, packages: Sequence[Package], below: set[str]
) -> None:
    """The wanted packages' files and the libraries they need, but for what is `below` already.

    Raises Unsupported when the recipe's main program is not among them or cannot run.
    """
    brought = [one for one in packages if one.root != Path("/")]
    folders = tuple(
        str(folder)
        for one in brought
        for pattern in ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib")
        for folder in sorted(one.root.glob(pattern))
    )
    more = re.compile(recipe.left_out) if recipe.left_out else None
    # Debian's /bin and /lib are links into /usr; Alpine's are folders.
    place = merged if recipe.base == "debian" else str
    programs: list[Path] = []
    for one in packages:
        if not one.is_wanted:
            continue
        for path, here in one.files():
            if _LEFT_OUT.match(path) or (more is not None and more.match(path)):
                continue
            if not here.is_symlink() and read_program(here) is not None:
                _, absent = closure([here], folders)
                if absent:
                    # A module of a part nobody asked for; the server itself must be whole.
                    if path == recipe.main:
                        raise Unsupported(
                            f"cannot build the {recipe.image} stand-in: {path} needs "
                            f"{', '.join(absent)}, which is not here",
                            hint=f"apt-get install {' '.join(recipe.packages)}",
                        )
                    continue
                programs.append(here)
            _add(root, place(path), here, below)
    libraries, _ = closure(programs, folders)
    for library in libraries:
        _add_library(root, library, brought, below, place)
    if recipe.main and recipe.main.strip("/") not in root:
        raise Unsupported(
            f"cannot build the {recipe.image} stand-in: {' '.join(recipe.packages)} has no "
            f"{recipe.main}"
        )


def _add(root: RootBuilder, where: str, here: Path, below: set[str]) -> None:
    if where in root or where.strip("/") in below:
        return
    if here.is_symlink():
        root.symlink(where, os.readlink(here))
    else:
        root.copy(here, where, mode=here.stat().st_mode & 0o755 | 0o444)


def _add_library(
    root: RootBuilder,
    library: Path,
    brought: Sequence[Package],
    below: set[str],
    place: Callable[[str], str],
) -> None:
    """A library under the name it is asked for; that name is a link when it is one here."""

    def inside(path: Path) -> str:
        for one in brought:
            if path.is_relative_to(one.root):
                return place(f"/{path.relative_to(one.root)}")
        return place(f"{os.path.realpath(path.parent)}/{path.name}")

    real = Path(os.path.realpath(library))
    target, where = inside(real), inside(library)
    if place is str:
        # No link leads from one folder to another there: the file lies where it is asked for.
        _add(root, str(library), real, below)
        return
    _add(root, target, real, below)
    if where != target and where.strip("/") not in below:
        root.symlink(where, os.path.relpath(target, os.path.dirname(where)))

"""python and node, with what their package managers need."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from labkit.host.image.standins.common import PATH, StandIn
from labkit.host.image.standins.layered import Recipe, make, script
from labkit.host.image.standins.machine import installed_version
from labkit.host.image.standins.packages import Package
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_node", "build_python", "python_packages"]

_PIP = """#!/bin/sh
# Part of labkit's stand-in for python: pip, run from the wheel that Debian packages.
for wheel in /usr/share/python-wheels/pip-*.whl; do exec python3 "$wheel/pip" "$@"; done
"""


def _python_minor() -> str:
    """`3.11`: Debian's own python3 (a machine may have others in other places)."""
    target = os.path.basename(os.path.realpath("/usr/bin/python3"))
    match = re.fullmatch(r"python(3\.\d+)", target)
    if match and installed_version(f"python{match[1]}-minimal") is not None:
        return match[1]
    try:
        release = Path("/etc/debian_version").read_text().partition(".")[0].strip()
    except OSError:
        release = ""
    return {"11": "3.9", "12": "3.11", "13": "3.13"}.get(release, "3.11")


def python_packages() -> tuple[str, ...]:
    """Debian's packages of its python3, the interpreter first."""
    minor = _python_minor()
    return (
        f"python{minor}-minimal",
        f"libpython{minor}-minimal",
        f"python{minor}",
        f"libpython{minor}-stdlib",
    )


def build_python() -> StandIn:
    """Raises Unsupported when the packages can neither be found here nor fetched."""
    minor = _python_minor()

    def finish(root: RootBuilder, _: Sequence[Package]) -> None:
        for name in ("python", "python3", f"python{minor}"):
            root.symlink(f"usr/local/bin/{name}", f"/usr/bin/python{minor}")
        root.symlink("usr/bin/python3", f"python{minor}")
        for name in ("pip", "pip3"):
            root.text(f"usr/local/bin/{name}", _PIP, 0o755)
        root.folder(f"usr/local/lib/python{minor}/dist-packages")

    return make(
        Recipe(
            "python",
            (*python_packages(), "python3-pip-whl"),
            "the real CPython",
            {
                "Env": [f"PATH=/usr/local/bin:{PATH[5:]}", "LANG=C.UTF-8"],
                "Cmd": ["python3"],
            },
            ('CMD ["python3"]',),
            # What makes pip refuse to work outside a virtual environment is Debian's, not the
            # image's; compiled files would be made again anyway.
            left_out=r".*/EXTERNALLY-MANAGED|.*/__pycache__/|/usr/share/(applications|pixmaps)/",
            main=f"/usr/bin/python{minor}",
            finish=finish,
        )
    )


def _node(root: RootBuilder, packages: Sequence[Package]) -> None:
    # npm renews itself in place, so its files are those that are there, not the package's list.
    top = next(one.root for one in packages if one.name == "nodejs")
    for folder, below, names in os.walk(top / "usr/lib/node_modules/npm"):
        below[:] = sorted(name for name in below if name not in ("docs", "man"))
        for name in sorted(names):
            path = Path(folder, name)
            if not path.is_symlink():
                root.copy(path, str(path.relative_to(top)))
    root.text("usr/local/bin/docker-entrypoint.sh", script("node-entrypoint.sh"), 0o755)
    root.folder("home/node", uid=1000, gid=1000)
    root.symlink("usr/local/bin/node", "/usr/bin/node")


def build_node() -> StandIn:
    """Raises Unsupported when the package can neither be found here nor fetched."""
    return make(
        Recipe(
            "node",
            ("nodejs",),
            "the real Node.js",
            {
                "Env": [PATH],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["node"],
            },
            ('ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["node"]'),
            accounts=(("node", 1000, "/home/node", "/bin/bash"),),
            left_out=r"/usr/include/|/usr/lib/node_modules/npm/",
            main="/usr/bin/node",
            finish=_node,
        )
    )

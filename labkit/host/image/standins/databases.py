"""postgres and mariadb (for mysql too), with entry points that make the database at first start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from labkit.host.image.standins.common import PATH, StandIn
from labkit.host.image.standins.layered import Recipe, make, script
from labkit.host.image.standins.machine import installed_version
from labkit.host.image.standins.packages import Package
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_mariadb", "build_mysql", "build_postgres"]

_MAJORS = ("18", "17", "16", "15", "14", "13")


def _postgres_major() -> str:
    """The version that is installed, else the one of this Debian."""
    for major in _MAJORS:
        if installed_version(f"postgresql-{major}") is not None:
            return major
    try:
        text = Path("/etc/debian_version").read_text()
    except OSError:
        text = ""
    release = re.match(r"(\d+)", text)
    return {"11": "13", "12": "15", "13": "17"}.get(release[1] if release else "", "15")


def _locale(root: RootBuilder) -> None:
    """C.UTF-8, which the server's files are made in."""
    folder = Path("/usr/lib/locale/C.utf8")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            root.copy(path, str(path), 0o644)


def build_postgres() -> StandIn:
    """Raises Unsupported when the packages can neither be found here nor fetched."""
    major = _postgres_major()
    programs = f"/usr/lib/postgresql/{major}/bin"
    data = "/var/lib/postgresql/data"

    def finish(root: RootBuilder, _: Sequence[Package]) -> None:
        root.text("usr/local/bin/docker-entrypoint.sh", script("postgres-entrypoint.sh"), 0o755)
        root.folder("docker-entrypoint-initdb.d")
        root.folder("var/lib/postgresql", uid=999, gid=999)
        root.folder("var/lib/postgresql/data", 0o1777, uid=999, gid=999)
        root.folder("run/postgresql", 0o3777, uid=999, gid=999)
        sample = "usr/share/postgresql"
        assert any(name.startswith(sample) for name in root.paths())
        _locale(root)

    return make(
        Recipe(
            "postgres",
            (f"postgresql-{major}", f"postgresql-client-{major}", "tzdata"),
            "the real PostgreSQL",
            {
                "Env": [
                    f"PATH={PATH[5:]}:{programs}",
                    "LANG=C.UTF-8",
                    f"PG_MAJOR={major}",
                    f"PGDATA={data}",
                ],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": ["postgres"],
                "ExposedPorts": {"5432/tcp": {}},
                "Volumes": {data: {}},
                "StopSignal": "SIGINT",
            },
            (
                f"VOLUME [{data}]",
                'ENTRYPOINT ["docker-entrypoint.sh"]',
                "STOPSIGNAL SIGINT",
                "EXPOSE 5432/tcp",
                'CMD ["postgres"]',
            ),
            accounts=(("postgres", 999, "/var/lib/postgresql", "/bin/bash"),),
            # The just-in-time compiler would bring a hundred megabytes of LLVM along.
            left_out=r".*/llvmjit|.*/bitcode/|/usr/share/zoneinfo/(right|posix)/",
            main=f"{programs}/postgres",
            finish=finish,
        )
    )


def _mariadb(image: str, command: str) -> StandIn:
    def finish(root: RootBuilder, _: Sequence[Package]) -> None:
        root.text("usr/local/bin/docker-entrypoint.sh", script("mariadb-entrypoint.sh"), 0o755)
        root.folder("docker-entrypoint-initdb.d")
        root.folder("var/lib/mysql", uid=999, gid=999)
        root.folder("run/mysqld", 0o1777, uid=999, gid=999)
        for old, new in (("mysqld", "mariadbd"), ("mysql", "mariadb")):
            where = f"usr/{'sbin' if old == 'mysqld' else 'bin'}/{old}"
            if where not in root:
                root.symlink(where, new)
        root.text("etc/mysql/my.cnf", _MY_CNF)
        root.folder("etc/mysql/conf.d")
        _locale(root)

    return make(
        Recipe(
            image,
            ("mariadb-server-core", "mariadb-client-core"),
            "the real MariaDB",
            {
                "Env": [PATH, "LANG=C.UTF-8", f"LABKIT_STANDS_IN_FOR={image}"],
                "Entrypoint": ["docker-entrypoint.sh"],
                "Cmd": [command],
                "ExposedPorts": {"3306/tcp": {}},
                "Volumes": {"/var/lib/mysql": {}},
            },
            (
                "VOLUME [/var/lib/mysql]",
                'ENTRYPOINT ["docker-entrypoint.sh"]',
                "EXPOSE 3306/tcp",
                f'CMD ["{command}"]',
            ),
            accounts=(("mysql", 999, "/var/lib/mysql", "/bin/false"),),
            main="/usr/sbin/mariadbd",
            finish=finish,
        )
    )


_MY_CNF = """# Part of labkit's stand-in for MariaDB.
[mariadbd]
datadir = /var/lib/mysql
socket = /run/mysqld/mysqld.sock
pid-file = /run/mysqld/mysqld.pid
bind-address = *
skip-name-resolve

[client-server]
socket = /run/mysqld/mysqld.sock

!includedir /etc/mysql/conf.d/
"""


def build_mariadb() -> StandIn:
    """Raises Unsupported when the packages can neither be found here nor fetched."""
    return _mariadb("mariadb", "mariadbd")


def build_mysql() -> StandIn:
    """MariaDB under MySQL's name: Debian has no MySQL server. Raises as build_mariadb."""
    return _mariadb("mysql", "mysqld")

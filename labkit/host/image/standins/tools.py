"""registry (the reference implementation's server) and docker (the client)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labkit.host.image.standins.alpine import build_alpine
from labkit.host.image.standins.common import PATH, StandIn
from labkit.host.image.standins.elf import read_program
from labkit.host.image.standins.layered import Recipe, make, script
from labkit.host.image.standins.machine import package_of
from labkit.host.image.standins.packages import Package
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["build_docker", "build_registry"]

_CLIENTS = ("/usr/bin/docker", "/usr/local/bin/docker")


def _registry(root: RootBuilder, _: Sequence[Package]) -> None:
    root.text("entrypoint.sh", script("registry-entrypoint.sh"), 0o755)
    root.text("etc/docker/registry/config.yml", script("registry.yml"))
    root.symlink("bin/registry", "/usr/bin/docker-registry")
    root.folder("var/lib/registry")


def build_registry() -> StandIn:
    """Debian's docker-registry, which is the program of the image of that name.

    Raises Unsupported when the package can neither be found here nor fetched.
    """
    return make(
        Recipe(
            "registry",
            ("docker-registry",),
            "the real registry",
            {
                "Env": [PATH],
                "Entrypoint": ["/entrypoint.sh"],
                "Cmd": ["/etc/docker/registry/config.yml"],
                "ExposedPorts": {"5000/tcp": {}},
                "Volumes": {"/var/lib/registry": {}},
            },
            (
                "VOLUME [/var/lib/registry]",
                "EXPOSE 5000/tcp",
                'ENTRYPOINT ["/entrypoint.sh"]',
                'CMD ["/etc/docker/registry/config.yml"]',
            ),
            base="alpine",
            left_out=r"/etc/docker/",
            main="/usr/bin/docker-registry",
            finish=_registry,
        )
    )


def _docker_defaults() -> tuple[dict[str, object], tuple[str, ...]]:
    return (
        {"Env": [PATH], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["sh"]},
        ('ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["sh"]'),
    )


def build_docker() -> StandIn:
    """The client this machine has, when it stands alone; else that of Debian's package.

    Raises Unsupported when there is neither.
    """
    defaults, steps = _docker_defaults()

    def finish(root: RootBuilder, _: Sequence[Package]) -> None:
        root.text("usr/local/bin/docker-entrypoint.sh", script("docker-entrypoint.sh"), 0o755)

    for place in _CLIENTS:
        path = Path(place)
        program = read_program(path)
        if program is not None and not program.needed:
            base = build_alpine()
            root = RootBuilder()
            root.copy(path, "usr/local/bin/docker", 0o755)
            finish(root, ())
            source = package_of(path, ("docker-cli", "docker.io"))
            summary = f"the docker client of this machine ({source}), without a daemon"
            return StandIn(root, [*base.sources, source], summary, defaults, steps, base)
    return make(
        Recipe(
            "docker",
            ("docker.io",),
            "the docker client",
            defaults,
            steps,
            base="alpine",
            left_out=r"(?!/usr/bin/docker\Z)",
            main="/usr/bin/docker",
            finish=finish,
        )
    )

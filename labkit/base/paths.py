"""Where a lab keeps its state and its sockets (design: contracts `LABKIT_HOME`, `LABKIT_RUN`).

Only names are computed here; folders are made by `prepare`, which checks owner and mode first,
because a run folder that somebody else owns would hand them the Docker socket.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from labkit.base.errors import SystemFailure

__all__ = ["MAX_SOCKET_PATH", "LabPaths"]

MAX_SOCKET_PATH = 107  # sun_path holds 108 bytes with its final NUL (unix(7))


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The folders of one lab. `home` holds all state, `run` the sockets and process ids."""

    home: Path
    run: Path

    @classmethod
    def from_environment(cls) -> LabPaths:
        """Read LABKIT_HOME and LABKIT_RUN, falling back to the documented defaults."""
        home = os.environ.get("LABKIT_HOME")
        run = os.environ.get("LABKIT_RUN")
        if os.geteuid() == 0:
            default_home, default_run = Path("/var/lib/labkit"), Path("/run/labkit")
        else:
            data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
            runtime = os.environ.get("XDG_RUNTIME_DIR")
            default_home = Path(data) / "labkit"
            default_run = (
                Path(runtime) / "labkit" if runtime else Path(f"/tmp/labkit-{os.geteuid()}")  # noqa: S108 - owner and mode are checked by prepare()
            )
        paths = cls(
            Path(os.path.abspath(home)) if home else default_home,
            Path(os.path.abspath(run)) if run else default_run,
        )
        # A second lab (LABKIT_HOME elsewhere) must not share the first one's sockets.
        if home and not run and paths.home != default_home:
            return cls(paths.home, default_run.with_name(f"{default_run.name}-{paths.instance}"))
        return paths

    @property
    def instance(self) -> str:
        """Eight hexadecimal digits that tell this lab's cgroups and links from another lab's."""
        return hashlib.sha256(os.fsencode(self.home)).hexdigest()[:8]

    @property
    def docker_socket(self) -> Path:
        """The default host's Docker Engine API."""
        return self.run / "docker.sock"

    @property
    def lab_socket(self) -> Path:
        """labkit's own API (views, boxes, status); never handed into a container."""
        return self.run / "labkit.sock"

    @property
    def pid_file(self) -> Path:
        """JSON with the daemon's pid and start time."""
        return self.run / "labkitd.pid"

    @property
    def daemon_log(self) -> Path:
        return self.home / "labkitd.log"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"

    def host_data(self, node: str = "default") -> Path:
        """What the lab host sees as /var/lib/docker."""
        return self.home / "hosts" / node / "docker"

    def prepare(self) -> None:
        """Create both folders with mode 0700.

        Raises SystemFailure when a folder cannot be made, belongs to somebody else, or when
        socket paths beneath `run` would not fit into a socket address.
        """
        if len(os.fsencode(self.run / "nodes" / ("n" * 32) / "docker.sock")) > MAX_SOCKET_PATH:
            raise SystemFailure(
                f"cannot use {self.run} for sockets: the path is too long for a unix socket",
                hint="set LABKIT_RUN to a shorter path, for example /tmp/lab",
            )
        for folder in (self.home, self.run):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                found = folder.lstat()
            except OSError as error:
                raise SystemFailure(
                    f"cannot create {folder}: {error.strerror}",
                    hint="set LABKIT_HOME and LABKIT_RUN to folders you may write to",
                ) from error
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise SystemFailure(
                    f"refusing {folder}: it is not a folder owned by you",
                    hint="remove it, or set LABKIT_HOME and LABKIT_RUN elsewhere",
                )
            if stat.S_IMODE(found.st_mode) & 0o077:
                folder.chmod(0o700)

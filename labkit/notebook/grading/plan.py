"""What a sandbox is made of, as data, and the names it has inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LAB_HOME", "LAB_IMAGES", "LAB_RUN", "STUDENT_HOME", "Plan"]

LAB_HOME = "/var/lib/labkit"
LAB_RUN = "/run/labkit"
LAB_IMAGES = f"{LAB_HOME}/hosts/default/docker"
STUDENT_HOME = "/student"


@dataclass(frozen=True)
class Plan:
    """What a sandbox is made of. Plain data: it crosses a socket as JSON.

    Paths on the machine's side: `mountpoint` (an empty folder to build on), sources of `binds`
    (source, target, read-only) and `copies` (source, target below the student's folder), and the
    cgroup files to write "0" to (`join_lab`, `join_shell`).
    """

    mountpoint: str
    binds: list[list[Any]]
    copies: list[list[str]]
    links: list[list[str]]
    files: list[list[str]]
    lab_env: dict[str, str]
    shell_env: dict[str, str]
    cwd: str
    disk_bytes: int
    lab_bytes: int
    output_bytes: int
    id_base: int | None
    join_lab: list[str] = field(default_factory=list)
    join_shell: list[str] = field(default_factory=list)
    cgroups: list[list[str]] = field(default_factory=list)
    shell_limits: dict[str, int] = field(default_factory=dict)
    daemon: bool = True
    writable_images: str = ""

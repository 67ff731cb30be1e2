"""Where the tests of this folder build, and contexts for them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine_lab import Lab

from labkit.host.image.builder.building import build
from labkit.host.image.builder.ports import BuildOptions
from labkit.host.image.builder.work import BuildPorts

__all__ = ["Site", "archive"]


def archive(files: Mapping[str, str | bytes], mtime: int = 0) -> io.BytesIO:
    """A context as a tar."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            raw = content.encode() if isinstance(content, str) else content
            member.size, member.mtime = len(raw), mtime
            tar.addfile(member, io.BytesIO(raw))
    data.seek(0)
    return data


@dataclass
class Site:
    """Where a test builds."""

    lab: Lab
    ports: BuildPorts
    lines: list[dict[str, Any]] = field(default_factory=list)

    async def build(
        self, dockerfile: str, files: Mapping[str, str | bytes] | None = None, **options: Any
    ) -> str:
        """Build; the image's id. A failure is an assertion that shows the stream."""
        lines = await self.stream(dockerfile, files, **options)
        assert "errorDetail" not in lines[-1], lines
        return next(line["aux"]["ID"] for line in reversed(lines) if "aux" in line)

    async def stream(
        self, dockerfile: str, files: Mapping[str, str | bytes] | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        context = archive({"Dockerfile": dockerfile, **(files or {})})
        self.lines = [line async for line in build(self.ports, BuildOptions(**options), context)]
        return self.lines

    @property
    def text(self) -> str:
        return "".join(line.get("stream", "") for line in self.lines)

    def leftovers(self) -> list[str]:
        """Folders, layers and groups that a build may not leave."""
        context = self.lab.engine.context
        return [
            *(path.name for path in (context.data / "containers").iterdir()),
            *self.ports.snapshots.containers(),
            *self.lab.runtime.cgroups.names(),
            *(name for name in os.listdir(self.ports.store.layers.folder) if name[0] == "."),
        ]

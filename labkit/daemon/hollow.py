"""A host without processes: where this machine offers no namespaces, starting says so.

Images can still be pulled and looked at and containers created; the cluster chapters, which need
no process at all, work. What must never happen is a "container" that is a plain process of the
machine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from labkit.base.errors import Unsupported

if TYPE_CHECKING:
    from labkit.host.isolation.cgroups import CgroupDriver
    from labkit.host.isolation.runtime import ExitStatus
    from labkit.host.isolation.spec import ResourceLimits

__all__ = ["HollowRuntime"]


def _refuse() -> NoReturn:
    raise Unsupported(
        "cannot start a process: this lab runs in hollow mode, because this machine does not let "
        "it make namespaces",
        hint="`labkit doctor` says what is missing; as root, or in a virtual machine, it works",
    )


class HollowRuntime:
    """Satisfies the engine's RuntimePort; nothing it is asked for can be started."""

    def __init__(self, cgroups: CgroupDriver) -> None:
        self.cgroups = cgroups

    async def start(self, *_: Any, **__: Any) -> NoReturn:
        """Raises Unsupported, always."""
        _refuse()

    async def exec(self, *_: Any, **__: Any) -> NoReturn:
        """Raises Unsupported, always."""
        _refuse()

    def warnings_for(self, limits: ResourceLimits) -> list[str]:
        """The sentences of Docker for limits that would not hold here."""
        return self.cgroups.warnings_for(limits)

    async def recover(self, directory: Path) -> ExitStatus:
        """What an earlier daemon, in another mode, started cannot be alive any more here."""
        from labkit.host.isolation.runtime import ExitStatus

        return ExitStatus(
            code=137,
            finished_at_ns=time.time_ns(),
            oom_killed=False,
            error=f"its lab host is gone ({directory.name})",
        )

    def close(self) -> None:
        """Nothing is held."""

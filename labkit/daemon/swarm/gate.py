"""Who is let in by one manager, and the latest who were not, with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.base.errors import LabkitError
from labkit.cluster.raft.errors import BadMessage
from labkit.daemon.swarm.diskidentity import Acquaintances
from labkit.daemon.swarm.surroundings import Surroundings

__all__ = ["Gate"]

_LOG = logging.getLogger("labkit.swarm")
_REFUSALS_KEPT = 20


class Gate:
    """One manager's; `refusals` also names who does not let this manager in."""

    def __init__(self, number: int, around: Surroundings) -> None:
        self.refusals: list[str] = []
        self._number = number
        self._around = around
        self._known: Acquaintances | None = None

    def open(self, folder: Path | None) -> None:
        """Remember what this manager's disk remembers of the others'. Raises SystemFailure."""
        self._known = Acquaintances(folder / "peers.json") if folder is not None else None

    def introduced(self, hello: Mapping[str, Any]) -> int:
        """The number of whoever introduces itself so. Raises LabkitError to refuse it by name."""
        number = hello.get("node")
        name = self._around.names.get(number) if type(number) is int else None
        try:
            if hello.get("labkit") != 1 or hello.get("swarm") != self._around.swarm:
                raise BadMessage("this is another swarm")
            if type(number) is not int or name is None or number == self._number:
                raise BadMessage(f"node {number!r:.40} is no member of this swarm")
            if self._known is not None:
                self._known.check(number, name, hello)
        except LabkitError as error:
            self.note(f"{name or 'a stranger'} was not let in: {error.message}")
            raise
        return number

    def note(self, text: str) -> None:
        """Remember a refusal, once while it repeats."""
        if text not in self.refusals[-3:]:
            own = self._around.names.get(self._number, "")
            _LOG.warning("%s: %s", own, text)
            self.refusals.append(text)
            del self.refusals[:-_REFUSALS_KEPT]

"""What one notebook kernel knows of its lab: clients, the chapter it is in, its background jobs."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.base.paths import LabPaths
    from labkit.notebook.client import Client, LabClient
    from labkit.notebook.magics.jobs import Jobs

__all__ = ["CHAPTER_LABEL", "CHAPTER_VARIABLE", "LabelledClient", "Session"]

CHAPTER_LABEL = "labkit.chapter"
CHAPTER_VARIABLE = "LABKIT_CHAPTER"
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")  # anything else is a path, or wrong
_AFTER_THE_CELL_S = 0.05
_LABELLED = ("/containers/create", "/volumes/create", "/networks/create")


class LabelledClient:
    """A client whose objects carry a label, so that a chapter can remove exactly its own."""

    def __init__(self, client: Any, labels: Callable[[], Mapping[str, str]]) -> None:
        self._client = client
        self._labels = labels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        return self._client.request(method, path, **self._with_labels(method, path, arguments))

    def open(self, method: str, path: str, **arguments: Any) -> Any:
        return self._client.open(method, path, **self._with_labels(method, path, arguments))

    def stream(self, method: str, path: str, **arguments: Any) -> Any:
        return self._client.stream(method, path, **self._with_labels(method, path, arguments))

    def _with_labels(self, method: str, path: str, arguments: dict[str, Any]) -> dict[str, Any]:
        labels = dict(self._labels())
        if not labels or method != "POST":
            return arguments
        if path in _LABELLED and isinstance(arguments.get("json"), Mapping):
            body = arguments["json"]
            if path == "/containers/create":
                self._label_volumes(body, labels)
            merged = {**labels, **(body.get("Labels") or {})}
            return {**arguments, "json": {**body, "Labels": merged}}
        if path == "/build":
            query = dict(arguments.get("query") or {})
            query["labels"] = {**labels, **(query.get("labels") or {})}
            return {**arguments, "query": query}
        if path == "/commit":
            query = dict(arguments.get("query") or {})
            changes = query.get("changes") or []
            own = [f"LABEL {name}={value}" for name, value in labels.items()]
            query["changes"] = [*own, *([changes] if isinstance(changes, str) else changes)]
            return {**arguments, "query": query}
        return arguments

    def _label_volumes(self, body: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        """Make the named volumes that `docker run` would make by the way, with the label: there
        is no other way to give them one."""
        from labkit.base.errors import LabkitError, NotFound

        for name in _named_volumes(body.get("HostConfig") or {}):
            try:
                self._client.request("GET", f"/volumes/{name}")
            except NotFound:
                wanted = {"Name": name, "Labels": dict(labels)}
                with contextlib.suppress(LabkitError):  # the container's own error says it better
                    self._client.request("POST", "/volumes/create", json=wanted)
            except LabkitError:
                return


def _named_volumes(host: Mapping[str, Any]) -> list[str]:
    """Volumes that `-v NAME:/place` and plain `--mount source=NAME` ask for."""
    sources = [str(bind).split(":")[0] for bind in host.get("Binds") or [] if ":" in str(bind)]
    sources += [
        str(mount.get("Source", ""))
        for mount in host.get("Mounts") or []
        if mount.get("Type") == "volume" and not mount.get("VolumeOptions")
    ]
    return [name for name in sources if _VOLUME_NAME.fullmatch(name)]


def chapter_labels() -> dict[str, str]:
    """The label of the chapter this process is in; empty outside a chapter."""
    chapter = os.environ.get(CHAPTER_VARIABLE)
    return {CHAPTER_LABEL: chapter} if chapter else {}


class Session:
    """One per IPython shell. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._lab: LabClient | None = None
        self._jobs: Jobs | None = None

    def ensure(self) -> LabPaths:
        """The lab's folders, its daemon answering. Raises Unavailable when it cannot be started."""
        from labkit.notebook.client import ensure_daemon

        return ensure_daemon(wait_s=15.0)

    def start_in_background(self) -> threading.Thread:
        """Begin starting the daemon without waiting; whoever needs it first waits for it.

        Failures are left to that first command, which reports them in its own words.
        """

        def start() -> None:
            from labkit.base.errors import LabkitError

            time.sleep(_AFTER_THE_CELL_S)  # imports here would slow down the cell that loads us
            try:
                self.ensure()
            except (LabkitError, OSError):
                return

        thread = threading.Thread(target=start, name="labkit-start", daemon=True)
        thread.start()
        return thread

    def docker(self) -> Any:
        """A client of the engine that the environment names, the lab's own by default."""
        from labkit.notebook.client import Client

        fresh = Client.from_environment()
        with self._lock:
            if self._client is None or self._client.address != fresh.address:
                self._client = fresh
            client = self._client
        if client.is_local_lab:
            self.ensure()
        return LabelledClient(client, chapter_labels)

    def lab(self) -> LabClient:
        """A client of labkit's own API."""
        from labkit.notebook.client import LabClient

        address = f"unix://{self.ensure().lab_socket}"
        with self._lock:
            if self._lab is None or self._lab.address != address:
                self._lab = LabClient(address)
            return self._lab

    @property
    def jobs(self) -> Jobs:
        """Commands running in the background."""
        from labkit.notebook.magics.jobs import Jobs

        with self._lock:
            if self._jobs is None:
                self._jobs = Jobs()
            return self._jobs

    @property
    def has_jobs(self) -> bool:
        """Whether anything was ever started in the background."""
        return self._jobs is not None

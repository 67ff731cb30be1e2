"""`%explain docker run …`: run the command, then draw what was done, measured, step by step.

The client's part is measured here, around each request; the daemon's, shim's and child's parts
are what the native core recorded. All use the same clock (CLOCK_MONOTONIC), so they fit together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.notebook.magics.line import Notebook, docker_main
from labkit.notebook.magics.reasons import reason
from labkit.notebook.magics.surface import NotebookSurface

__all__ = ["RecordingClient", "run_explain", "timeline_state"]

_ROLES = {"shim": "shim", "container": "container", "init": "container"}
_EXPLAINED = ("run", "start", "exec", "create")


@dataclass(slots=True)
class Recording:
    """Requests of one command, and the kernel's steps fetched right after the start."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    timeline: dict[str, Any] | None = None
    problem: str = ""
    started: str = ""
    processes: list[dict[str, Any]] = field(default_factory=list)
    alive: list[dict[str, Any]] = field(default_factory=list)


class RecordingClient:
    """A client that notes when each request began and ended.

    `after_start` is called with the path of a container or an exec right after it was started:
    a short-lived container is gone a moment later.
    """

    def __init__(self, client: Any, after_start: Callable[[str], None]) -> None:
        self._client = client
        self._after_start = after_start
        self.calls: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        return self._measured(method, path, lambda: self._client.request(method, path, **arguments))

    def open(self, method: str, path: str, **arguments: Any) -> Any:
        return self._measured(method, path, lambda: self._client.open(method, path, **arguments))

    def stream(self, method: str, path: str, **arguments: Any) -> Any:
        started = time.monotonic_ns()
        failed = 0
        try:
            yield from self._client.stream(method, path, **arguments)
        except LabkitError as error:
            failed = error.http_status
            raise
        finally:
            self._note(method, path, started, failed)

    def hijack(self, path: str, **arguments: Any) -> Any:
        return self._measured("POST", path, lambda: self._client.hijack(path, **arguments))

    def _measured(self, method: str, path: str, send: Callable[[], Any]) -> Any:
        started = time.monotonic_ns()
        try:
            answer = send()
        except LabkitError as error:
            self._note(method, path, started, error.http_status)
            raise
        self._note(method, path, started, 0)
        if method == "POST" and path.endswith("/start"):
            self._after_start(path.removesuffix("/start"))
        return answer

    def _note(self, method: str, path: str, started: int, failed: int) -> None:
        self.calls.append(
            {
                "name": request_name(method, path),
                "call": f"{method} {path}",
                "detail": f"answered {failed}" if failed else "",
                "start_ns": started,
                "end_ns": time.monotonic_ns(),
                "by": "client",
                "error": 0,
            }
        )


def request_name(method: str, path: str) -> str:
    """What a request is for, in words (keys of `reasons.REASONS`)."""
    parts = path.strip("/").split("/")
    table = {
        ("POST", "containers", "create"): "create the container",
        ("POST", "images", "create"): "pull the image",
        ("POST", "containers", "attach"): "attach to its output",
        ("POST", "containers", "wait"): "wait for the end",
        ("POST", "containers", "start"): "start the container",
        ("POST", "containers", "exec"): "create the exec",
        ("POST", "exec", "start"): "start the exec",
        ("GET", "containers", "json"): "look at the container",
        ("GET", "images", "json"): "look for the image",
    }
    return table.get((method, parts[0], parts[-1]), "ask the daemon")


def run_explain(notebook: Notebook, text: str, *, keep: bool) -> Any:
    """Run one line and show its timeline; the view itself when the value is kept."""
    recording = Recording()

    def work(surface: NotebookSurface) -> int:
        line = notebook.parse(text)
        words = list(line.words)
        if words[:1] == ["docker"]:
            words = words[1:]
        verb = words[1] if words[:1] == ["container"] and len(words) > 1 else (words or [""])[0]
        if verb not in _EXPLAINED or line.tail or line.background:
            raise InvalidParameter(
                "%explain takes one docker command that starts something",
                hint="%explain docker run --rm busybox true",
            )
        client = RecordingClient(
            notebook.session.docker(), lambda path: _fetch(notebook, path, recording)
        )
        code = docker_main(words, client, surface)
        recording.calls = client.calls
        if recording.timeline is None and recording.started:
            # An exec's connection is there before its process; now its steps are known.
            _fetch(notebook, recording.started, recording)
        return code

    notebook.guard(work, keep=False)
    if not recording.calls:
        return None
    state = timeline_state(f"docker {_shown(text)}", recording)
    if keep:
        from labkit.notebook.widgets.timeline import TimelineView

        return TimelineView(state)
    from labkit.notebook import widgets

    widgets.show_timeline(state)
    return None


def _shown(text: str) -> str:
    return text.strip().removeprefix("docker ").strip()


def _fetch(notebook: Notebook, path: str, recording: Recording) -> None:
    """Ask for the kernel's steps and for the processes while they live."""
    recording.started, recording.problem = path, ""
    kind, _, identifier = path.strip("/").partition("/")
    what = "execs" if kind == "exec" else "containers"
    try:
        lab = notebook.session.lab()
        found = lab.json("GET", "/v1/views/namespaces")["processes"]
        recording.alive = found if not recording.alive else recording.alive
        recording.timeline = lab.json("GET", f"/v1/{what}/{identifier}/timeline")
    except LabkitError as error:
        # A real engine has no timeline: then the client's part is all there is to see.
        recording.problem = error.message
        return
    container = (recording.timeline or {}).get("container") or {}
    told = list((recording.timeline or {}).get("processes") or [])
    recording.processes = _process_chain(recording.alive, str(container.get("id", "")), told)


def _process_chain(
    found: list[dict[str, Any]], container: str, told: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Client, daemon, shim and container with their pids; None for one that has ended already.

    `found` are the processes alive now, `told` what the daemon noted at the start.
    """
    chain = [_link("client", "this notebook’s kernel", os.getpid())]
    wanted = (("labkit", "daemon"), ("shim", "shim"), ("container", "container"))
    for kind, role in wanted:
        name = {"daemon": "labkitd", "shim": "labkit-shim"}.get(role, "the container’s PID 1")
        link = _link(role, name, None)
        for one in told:
            if isinstance(one, dict) and _ROLES.get(one.get("role", "")) == role:
                link = _link(role, name, one.get("pid"), one.get("inside"))
        for process in found:
            owner = process["owner"]
            if owner["kind"] == kind and (kind == "labkit" or owner.get("id") == container):
                pids = process["pids"]
                command = " ".join(process["args"]) or process["command"]
                text = command if role == "container" else name
                inside = pids[-1] if len(pids) > 1 else None
                link = _link(role, text, process["pid"], inside)
                break
        chain.append(link)
    return chain


def _link(role: str, text: str, pid: int | None, inside: int | None = None) -> dict[str, Any]:
    return {"role": role, "text": text, "pid": pid, "inside": inside}


def timeline_state(title: str, recording: Recording) -> dict[str, Any]:
    """Everything the timeline view draws: steps in order of time, µs from the first."""
    timeline = recording.timeline or {}
    steps = [*recording.calls, *(timeline.get("steps") or [])]
    steps.sort(key=lambda step: (step["start_ns"], -step["end_ns"]))
    origin = min(step["start_ns"] for step in steps)
    end = max(_visible_end(step, steps) for step in steps)
    shown = []
    for step in steps:
        start, stop = step["start_ns"] - origin, min(step["end_ns"], end) - origin
        shown.append(
            {
                "name": step["name"],
                "call": step["call"],
                "detail": step["detail"],
                "by": step["by"],
                "error": os.strerror(step["error"]) if step.get("error") else "",
                "start_us": start / 1000,
                "length_us": max(0, stop - start) / 1000,
                "ns": step["end_ns"] - step["start_ns"],
                "why": reason(step["name"], step["call"], step["detail"]),
            }
        )
    return {
        "title": title,
        "image": timeline.get("image") or "",
        "total_us": max(1.0, (end - origin) / 1000),
        "focus_us": _focus(shown, max(1.0, (end - origin) / 1000)),
        "steps": shown,
        "processes": recording.processes,
        "problem": recording.problem,
    }


def _focus(steps: list[dict[str, Any]], total_us: float) -> list[float]:
    """The part of the time worth looking at first: from the daemon's work to the exec."""
    inner = [step for step in steps if step["by"] != "client"]
    if not inner:
        return [0.0, total_us]
    first = min(step["start_us"] for step in inner)
    last = max(step["start_us"] + step["length_us"] for step in inner)
    margin = max(1.0, (last - first) * 0.03)
    return [max(0.0, first - margin), min(total_us, last + margin)]


def _visible_end(step: dict[str, Any], steps: list[dict[str, Any]]) -> int:
    """Waiting for a long-running program must not squeeze its start into one pixel."""
    if step["name"] != "wait for the end":
        return int(step["end_ns"])
    others = [one["end_ns"] for one in steps if one["name"] != "wait for the end"]
    return int(min(step["end_ns"], max(others, default=step["end_ns"])))

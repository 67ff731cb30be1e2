"""The Raft view: the trace of the real implementation, recorded or live, forward and backward."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from labkit.base.errors import LabkitError
from labkit.notebook.widgets.base import LiveView, module_file
from labkit.notebook.widgets.raft_drawing import TERM_COLOURS
from labkit.notebook.widgets.raft_picture import (
    describe,
    draw,
    fetch_live,
    fetch_piece,
    read_words,
)
from labkit.notebook.widgets.raft_trace import Narrator, RaftTrace, is_telling

if TYPE_CHECKING:
    from labkit.notebook.client import LabClient

__all__ = ["RaftView", "make", "told"]

_RECORDED = (
    "This run is recorded: it can be watched in both directions, not changed. To stop servers and "
    "cut wires yourself: %swarm up --managers 5, then %lab view raft."
)
_ACTIONS = frozenset({"kill", "restart", "pause", "resume", "partition", "heal"})


def told(piece: Mapping[str, Any], narrator: Narrator) -> dict[str, Any]:
    """A piece whose events carry a sentence (`say`) and whether a step stops there (`stop`)."""
    events = [
        {**event, "say": narrator.tell(event), "stop": is_telling(event)}
        for event in piece["events"]
    ]
    return {**piece, "events": events}


class RaftView(LiveView):
    """Servers on a ring, their logs, messages in flight and a Lamport diagram."""

    _esm = module_file("raft.js")

    piece = traitlets.Dict().tag(sync=True)
    """A recorded run, whole; empty while the view is live, which is told in messages."""

    def __init__(
        self,
        client: LabClient,
        piece: Mapping[str, Any],
        scenarios: list[Any],
        at: int | None = None,
        **kwargs: Any,
    ) -> None:
        """`piece` is a recorded run, or what a swarm has done; `at` is the step to begin with."""
        self._client, self._scenarios, self._at = client, scenarios, at
        self._guard = threading.Lock()
        first = self._take(piece)
        recorded = {} if piece["live"] else self._told_whole
        super().__init__(lambda: first, piece=recorded, **kwargs)
        self.on_msg(self._asked)

    # -- what is shown ----------------------------------------------------------------------------

    def _take(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a view of this run, which is remembered."""
        self._trace = RaftTrace.of(piece)
        self._told_whole = self._begin(piece)
        live, meta = bool(piece["live"]), piece["meta"]
        return {
            "mode": "live" if live else "recorded",
            "name": "" if live else meta["scenario"],
            "meta": meta,
            "servers": len(self._trace.nodes),
            "scenarios": self._scenarios,
            "colours": TERM_COLOURS,
            "at": self._at or 0,
            "why": "" if live else _RECORDED,
            "error": "",
        }

    def _begin(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        """Tell a piece from its base on, and go on from its end."""
        base = {int(node): dict(state) for node, state in piece["base"].items()}
        self._narrator = Narrator(piece["meta"], base)
        self._swarm, self._after = str(piece["meta"].get("swarm", "")), int(piece["next"])
        return told(piece, self._narrator)

    def refresh(self) -> None:
        """Ask for what has happened since the last time, and tell every drawing."""
        if self.state["mode"] != "live":
            return
        with self._guard:
            try:
                piece = fetch_live(self._client, self._after)
                if piece["meta"].get("swarm") != self._swarm:
                    self._tell_all("")
                elif piece["events"]:
                    self._after = int(piece["next"])
                    self.send({"type": "piece", "view": "", **told(piece, self._narrator)})
                error = ""
            except (LabkitError, OSError) as problem:
                error = str(problem) or type(problem).__name__
        if error != self.state["error"]:
            self.state = {**self.state, "error": error}

    def _tell_all(self, view: str) -> None:
        """Everything that is still kept, to one drawing, or (`""`) to all of them."""
        piece = fetch_live(self._client, -1)
        base = {int(node): dict(state) for node, state in piece["base"].items()}
        narrator, first = Narrator(piece["meta"], base), True
        while piece["events"] or first:
            self.send({"type": "piece", "view": view, "fresh": first, **told(piece, narrator)})
            after, first = int(piece["next"]), False
            piece = fetch_live(self._client, after)
        if not view or piece["meta"].get("swarm") != self._swarm:
            self._narrator, self._after = narrator, after
            self._swarm = str(piece["meta"].get("swarm", ""))

    def static(self) -> tuple[str, str]:
        """SVG and text: a story at its last turn or where it was asked for, a swarm now."""
        trace = self._trace
        if self.state["mode"] == "live":
            trace = RaftTrace.of(fetch_piece(self._client, "", {}))
        last = len(trace.events) - 1
        at = trace.telling_moment() if self._at is None else min(self._at, last)
        return draw(trace, at), describe(trace, at)

    # -- what drawings ask ------------------------------------------------------------------------

    def _asked(self, _: object, content: object, __: object) -> None:
        if not isinstance(content, dict):
            return
        work = {
            "pull": self._pull,
            "load": self._change,
            "act": self._act,
            "propose": self._propose,
        }
        found = work.get(str(content.get("type")))
        if found is not None:  # a request may wait for an election: not on the kernel's thread
            threading.Thread(
                target=self._guarded, args=(found, content), name="labkit-raft", daemon=True
            ).start()

    def _guarded(self, work: Any, content: dict[str, Any]) -> None:
        try:
            work(content)
        except (LabkitError, OSError) as error:
            hint = getattr(error, "hint", "")
            text = f"{error}" + (f" ({hint})" if hint and hint not in str(error) else "")
            self.send({"type": "said", "text": text, "ok": False})

    def _pull(self, content: dict[str, Any]) -> None:
        with self._guard:
            self._tell_all(str(content.get("view", "")))

    def _change(self, content: dict[str, Any]) -> None:
        numbers = {key: int(content[key]) for key in ("servers", "seed") if content.get(key)}
        with self._guard:
            piece = fetch_piece(self._client, str(content.get("name", "")), numbers)
            self._at = None
            state = self._take(piece)
            self.piece = {} if state["mode"] == "live" else self._told_whole
            self.state = state

    def _act(self, content: dict[str, Any]) -> None:
        action = str(content.get("action", ""))
        nodes = [str(node) for node in content.get("nodes", ())]
        if action not in _ACTIONS or self.state["mode"] != "live":
            return
        if action == "partition":
            nodes = [",".join(nodes)]
            self._do(action, nodes)
        else:
            for group in [[node] for node in nodes] if nodes else [[]]:
                self._do(action, group)
        self.refresh()

    def _do(self, action: str, nodes: list[str]) -> None:
        self._client.json("POST", "/v1/chaos", {"action": action, "nodes": nodes})
        done = f"labkit chaos {action} {' '.join(nodes)}".rstrip()
        self.send({"type": "said", "text": f"Done: {done}", "ok": True})

    def _propose(self, content: dict[str, Any]) -> None:
        if self.state["mode"] != "live":
            return
        value = str(content.get("value", ""))[:200]
        answer = self._client.json("POST", "/v1/raft/propose", {"value": value})
        where = f"entry {answer['index']} of term {answer['term']}, by {answer['node']}"
        self.send({"type": "said", "text": f"Committed: {value!r} is {where}.", "ok": True})
        self.refresh()


def make(client: LabClient, words: list[str]) -> RaftView:
    """The live widget."""
    name, numbers = read_words(words)
    piece = fetch_piece(client, name, numbers)
    return RaftView(client, piece, client.json("GET", "/v1/raft/scenarios"), numbers.get("at"))

"""A Raft trace as the daemon tells it, folded for whoever wants to stand at any of its steps.

The shape of a piece is described in labkit/world/pages.py. Nothing here decides anything: states,
messages and times are the implementation's own; here they are found again and put in words.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Flight",
    "Narrator",
    "RaftTrace",
    "flying",
    "is_telling",
    "message_name",
    "quorum",
    "role_of",
    "title_of",
]

Json = dict[str, Any]

_QUIET = frozenset({"tick", "write", "apply", "change"})
_TELLING_FIELDS = ("role", "term", "vote", "up", "paused")
_MESSAGES_KEPT = 5000


def is_telling(event: Mapping[str, Any]) -> bool:
    """Whether a step of the view stops here: not at a tick in which nothing happens."""
    if event["kind"] not in _QUIET:
        return True
    return any(name in event["state"] for name in _TELLING_FIELDS)


def quorum(config: Iterable[Any]) -> int:
    """How many votes decide, of [[voters], [outgoing], [learners]]."""
    voters = next(iter(config), ())
    return len(voters) // 2 + 1


def message_name(message: list[Any]) -> str:
    """What a message is called: an append without entries is a heartbeat."""
    if message[0] == "Append" and not message[5]:
        return "heartbeat"
    if message[0] in ("Vote", "VoteReply") and message[5 if message[0] == "Vote" else 4]:
        return "pre-vote" if message[0] == "Vote" else "pre-vote reply"
    return {
        "Vote": "vote request",
        "VoteReply": "vote reply",
        "Append": "append",
        "AppendReply": "append reply",
        "InstallSnapshot": "snapshot",
        "SnapshotReply": "snapshot reply",
        "TimeoutNow": "stand now",
        "ReadRequest": "read request",
        "ReadResponse": "read reply",
    }.get(str(message[0]), str(message[0]))


class Narrator:
    """Says each event in a sentence. Events must be told in order: a delivery names its message."""

    def __init__(self, meta: Mapping[str, Any], states: Mapping[int, Json] | None = None) -> None:
        self._names = {int(number): name for number, name in (meta.get("names") or {}).items()}
        self._states: dict[int, Json] = dict(states or {})
        self._messages: OrderedDict[tuple[int, int], list[Any]] = OrderedDict()

    def name(self, node: int) -> str:
        """How a server is called: S3, or a manager's name."""
        return str(self._names.get(node) or f"S{node}")

    def tell(self, event: Mapping[str, Any]) -> str:
        """One sentence or two: what happened, and what it changed."""
        node, detail = int(event["node"]), event["detail"]
        before = self._states.get(node, {})
        if event["kind"] == "send":
            self._messages[(node, detail["id"])] = detail["message"]
            if len(self._messages) > _MESSAGES_KEPT:
                self._messages.popitem(last=False)
        said = self._happened(event, before)
        if event["state"]:
            self._states[node] = {**before, **event["state"]}
            said += self._changed(node, before, event)
        return said

    def _happened(self, event: Mapping[str, Any], before: Json) -> str:
        kind, detail, who = event["kind"], event["detail"], self.name(int(event["node"]))
        plain = {
            "boot": f"{who} starts.",
            "crash": f"{who} is killed.",
            "pause": f"{who} stands still.",
            "resume": f"{who} goes on.",
            "read": f"A client reads from {who}.",
            "ask": f"An operator asks {who} to stand for election.",
            "write": f"{who}’s disk has written what it was given.",
            "apply": f"{who} applies what is committed.",
            "change": f"{who} changes.",
            "heal": "The network is whole again.",
        }
        if kind in plain:
            return plain[kind]
        if kind == "tick":
            return self._tick(event, who, before)
        if kind == "propose":
            value = str(detail.get("value", ""))
            return f"A client asks {who} to write {value[:60]!r}."
        if kind in ("note", "chaos"):
            return str(detail.get("text", ""))
        if kind == "cut":
            one, other = (", ".join(map(self.name, detail[side])) for side in ("from", "to"))
            arrow = "and" if detail.get("both") else "to"
            return f"Cut: nothing passes from {one} {arrow} {other}."
        if kind == "clog":
            held_ms = detail["for_ns"] / 1e6
            one, other = self.name(detail["from"]), self.name(detail["to"])
            return f"The wire from {one} to {other} is clogged for {held_ms:.0f} ms."
        return self._message(event, who)

    def _tick(self, event: Mapping[str, Any], who: str, before: Json) -> str:
        role = event["state"].get("role")
        waited = before.get("elapsed", 0) + 1
        if role == "pre_candidate":
            return f"{who} has heard no leader for {waited} ticks and asks who would vote for it."
        if role == "candidate":
            return f"{who} has heard no leader for {waited} ticks and stands for election."
        if role == "follower":
            return f"{who} has heard no majority for an election timeout and steps down."
        return f"A tick of {who}’s clock."

    def _message(self, event: Mapping[str, Any], who: str) -> str:
        kind, detail, node = event["kind"], event["detail"], int(event["node"])
        if kind == "deliver":
            message = self._messages.get((detail["from"], detail["id"]))
            said = self._content(message) if message else "a message"
            return f"{who} hears {self.name(detail['from'])}: {said}."
        other = self.name(detail["to"])
        message = detail.get("message") or self._messages.get((node, detail.get("id", -1)))
        said = self._content(message) if message else "a message"
        if kind == "lost":
            return f"Lost between {who} and {other}: {said}."
        return f"{who} to {other}: {said}."

    def _content(self, message: list[Any]) -> str:
        kind, term, rest = message[0], message[1], message[3:]
        if kind == "Vote":
            asks = "would you vote for me" if rest[2] else "vote for me"
            return f"{asks} in term {term}, my log ends with entry {rest[0]} of term {rest[1]}"
        if kind == "VoteReply":
            yes = "yes" if rest[0] else "no"
            return f"{yes}, {'in a pre-vote for' if rest[1] else 'in'} term {term}"
        if kind == "Append":
            after = f"entry {rest[0]} of term {rest[1]}" if rest[0] else "nothing"
            entries, commit = rest[2], rest[3]
            if not entries:
                return f"I lead term {term}; committed up to {commit} (heartbeat, after {after})"
            numbers = f"{entries[0][0]}" + (f" to {entries[-1][0]}" if len(entries) > 1 else "")
            return f"append {numbers} after {after}; term {term}, committed up to {commit}"
        if kind == "AppendReply":
            if rest[0]:
                return f"my log equals yours up to {rest[1]}"
            return f"no: I do not have the entry before {rest[1] + 1}, try after {rest[2]}"
        return f"{message_name(message)}, term {term}"

    def _changed(self, node: int, before: Json, event: Mapping[str, Any]) -> str:
        now, who, said = event["state"], self.name(node), []
        if not before or event["kind"] == "boot":
            return ""
        if "role" in now and event["kind"] != "crash":
            term = now.get("term", before.get("term", 0))
            role = str(now["role"]).replace("_", "-")
            said.append(f"{who} is now {role} in term {term}")
        elif now.get("term", 0) > before.get("term", 0):
            said.append(f"{who} moves to term {now['term']}")
        if now.get("vote") and event["kind"] != "tick":
            said.append(f"it votes for {self.name(now['vote'])}")
        if "log" in now:
            said += self._log_changed(before, now)
        if now.get("commit", 0) > before.get("commit", 0):
            said.append(f"committed up to {now['commit']}")
        return _sentence(said)

    @staticmethod
    def _log_changed(before: Json, now: Json) -> list[str]:
        first, old, new = before.get("first", 1), before.get("log", []), now["log"]
        if now.get("first", first) != first:
            return []
        same = 0
        while same < min(len(old), len(new)) and old[same] == new[same]:
            same += 1
        if same < len(old):
            last = f" to {first + len(old) - 1}" if len(old) - same > 1 else ""
            return [f"its entries {first + same}{last} are thrown away"]
        return []


def _sentence(parts: list[str]) -> str:
    if not parts:
        return ""
    text = "; ".join(parts)
    return f" {text[:1].upper()}{text[1:]}."


@dataclass(frozen=True, slots=True)
class Flight:
    """A message: who sent it at which event, and where it ended (`end` is None while it flies)."""

    sender: int
    receiver: int
    message: list[Any]
    start: int
    sent_ns: int
    end: int | None
    end_ns: int | None
    lost: bool


@dataclass(slots=True)
class RaftTrace:
    """Events of one piece or several, and every server's state after each of them."""

    meta: Json = field(default_factory=dict)
    live: bool = False
    events: list[Json] = field(default_factory=list)
    says: list[str] = field(default_factory=list)
    """`says[i]` is event i in words."""

    _steps: dict[int, list[int]] = field(default_factory=dict)
    _states: dict[int, list[Json]] = field(default_factory=dict)

    @classmethod
    def of(cls, piece: Mapping[str, Any]) -> RaftTrace:
        """From one piece of the lab's API."""
        base = {int(node): dict(state) for node, state in piece["base"].items()}
        found = cls(dict(piece["meta"]), bool(piece["live"]))
        for node, state in base.items():
            found._steps[node], found._states[node] = [-1], [state]
        narrator = Narrator(found.meta, base)
        for number, event in enumerate(piece["events"]):
            found.events.append(event)
            found.says.append(narrator.tell(event))
            node = int(event["node"])
            if node and event["state"]:
                states = found._states.setdefault(node, [])
                previous = states[-1] if states else {}
                found._steps.setdefault(node, []).append(number)
                states.append({**previous, **event["state"]})
        return found

    @property
    def nodes(self) -> list[int]:
        """The servers, in order."""
        return sorted(self._states)

    def name(self, node: int) -> str:
        """How a server is called."""
        return Narrator(self.meta).name(node)

    def state(self, node: int, at: int) -> Json | None:
        """The server's state after event `at`; None before it first appears."""
        position = bisect_right(self._steps.get(node, []), at)
        return self._states[node][position - 1] if position else None

    def flights(self) -> list[Flight]:
        """Every message of the trace, in the order of sending."""
        ends: dict[tuple[int, int], tuple[int, bool]] = {}
        for number, event in enumerate(self.events):
            detail = event["detail"]
            if event["kind"] == "deliver":
                ends[(detail["from"], detail["id"])] = (number, False)
            elif event["kind"] == "lost" and "id" in detail:
                ends[(int(event["node"]), detail["id"])] = (number, True)
        patience_ns = 2 * int(self.meta.get("tick_ns", 100_000_000))
        last_ns = int(self.events[-1]["t_ns"]) if self.events else 0
        found = []
        ended: int | None
        for number, event in enumerate(self.events):
            detail = event["detail"]
            if event["kind"] == "lost" and "message" in detail:
                ended, lost = number, True
            elif event["kind"] == "send":
                ended, lost = ends.get((int(event["node"]), detail["id"]), (None, False))
                if ended is None and last_ns - event["t_ns"] > patience_ns:
                    ended, lost = number, True  # nobody was there to hear it
            else:
                continue
            found.append(
                Flight(
                    int(event["node"]),
                    int(detail["to"]),
                    detail["message"],
                    number,
                    int(event["t_ns"]),
                    ended,
                    None if ended is None else int(self.events[ended]["t_ns"]),
                    lost,
                )
            )
        return found

    def cuts(self, at: int) -> set[tuple[int, int]]:
        """Pairs (from, to) between which nothing passes after event `at`."""
        found: set[tuple[int, int]] = set()
        for event in self.events[: at + 1]:
            detail = event["detail"]
            if event["kind"] == "heal":
                found.clear()
            elif event["kind"] == "cut":
                pairs = {(a, b) for a in detail["from"] for b in detail["to"]}
                found |= pairs | ({(b, a) for a, b in pairs} if detail.get("both") else set())
        return found

    def clocks(self) -> list[int]:
        """Lamport's logical clock of each event: one more than its server's last event, and than
        the sending of what it receives (Lamport 1978, rules IR1 and IR2). 0 for the world's."""
        now: dict[int, int] = {}
        sent: dict[tuple[int, int], int] = {}
        found = []
        for event in self.events:
            node, detail = int(event["node"]), event["detail"]
            if not node:
                found.append(0)
                continue
            heard = sent.get((detail["from"], detail["id"]), 0) if event["kind"] == "deliver" else 0
            now[node] = max(now.get(node, 0), heard) + 1
            if event["kind"] == "send":
                sent[(node, detail["id"])] = now[node]
            found.append(now[node])
        return found

    def seconds(self, at: int) -> float:
        """When event `at` happened."""
        return float(self.events[at]["t_ns"]) / 1e9 if self.events else 0.0

    def caption(self, at: int) -> str:
        """The last note or act of chaos up to event `at`."""
        for event in reversed(self.events[: at + 1]):
            if event["kind"] in ("note", "chaos"):
                return str(event["detail"].get("text", ""))
        return ""

    def telling_moment(self) -> int:
        """Where a still picture stands: at a story's last turn, or now, when it is live."""
        last = len(self.events) - 1
        if self.live:
            return last
        notes = [number for number, event in enumerate(self.events) if event["kind"] == "note"]
        return notes[-1] if notes else last


def title_of(trace: RaftTrace) -> str:
    """The name of a run."""
    if trace.live:
        return "Raft: the managers of the swarm, live"
    return f"Raft: {trace.meta.get('title', 'a recorded run')}"


def role_of(state: Mapping[str, Any]) -> str:
    """What a server is, for people."""
    if not state["up"]:
        return "down"
    if state["paused"]:
        return "stands still"
    return str(state["role"]).replace("_", "-")


def flying(flights: Sequence[Flight], at: int) -> list[Flight]:
    """Messages that are sent and have not ended after event `at`."""
    return [one for one in flights if one.start <= at and (one.end is None or one.end > at)]

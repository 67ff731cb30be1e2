"""Compare labkit with Docker Engine: `make diff-docker`, or python -m tests.differential.

The same command lines go to both engines through the real client, the same requests to both APIs.
Compared are exit codes, output without what differs between any two runs (ids, times, sizes),
sentences on stderr, and of JSON answers the keys and the types. A difference is a failure unless
reasons.json says why it is meant; the tally at the end counts both kinds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.differential.compare import plain, shape
from tests.differential.engines import Engine, engines, missing
from tests.differential.scenarios import API, SCENARIOS, SENTENCES

REASONS = Path(__file__).with_name("reasons.json")
_API_VERSION = "v1.41"  # the newest that Debian's Docker Engine 20.10 speaks


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same. `key` is its name in reasons.json."""

    key: str
    theirs: str
    ours: str


def _words(engine: Engine, line: str) -> list[str]:
    return [
        str(engine.folder) + word[1:] if word.startswith("@") else word
        for word in shlex.split(line)
    ]


def _tidy(engine: Engine) -> None:
    identifiers = engine.docker("ps", "-aq").out.split()
    if identifiers:
        engine.docker("rm", "-fv", *identifiers)
    names = engine.docker("volume", "ls", "-q").out.split()
    if names:
        engine.docker("volume", "rm", "-f", *names)
    engine.docker("network", "prune", "-f")


def compare_commands(name: str, theirs: Engine, ours: Engine) -> tuple[int, list[Difference]]:
    """Run one scenario on both; how much was compared and what differs."""
    found, compared = [], 0
    for engine in (theirs, ours):
        _tidy(engine)
    for line in SCENARIOS[name]:
        one, other = (engine.docker(*_words(engine, line)) for engine in (theirs, ours))
        for what, left, right in (
            ("exit code", str(one.code), str(other.code)),
            ("stdout", plain(one.out), plain(other.out)),
            ("stderr", plain(one.err), plain(other.err)),
        ):
            compared += 1
            if left != right:
                found.append(Difference(f"{name} | {line} | {what}", left, right))
    return compared, found


def compare_sentences(theirs: Engine, ours: Engine) -> tuple[int, list[Difference]]:
    """Statuses and messages of requests that cannot be fulfilled."""
    found = []
    for method, path, body in SENTENCES:
        one, other = (engine.ask(method, path, body) for engine in (theirs, ours))
        left, right = (f"{status} {plain(json.dumps(text))}" for status, text in (one, other))
        if left != right:
            key = f"sentence | {method} {path} {json.dumps(body) if body else ''}".strip()
            found.append(Difference(key, left, right))
    return len(SENTENCES), found


def compare_shapes(theirs: Engine, ours: Engine) -> tuple[int, list[Difference]]:
    """Keys and types of JSON answers."""
    found, compared = [], 0
    for engine in (theirs, ours):
        _tidy(engine)
        engine.docker("volume", "create", "v1")
        engine.docker(
            "run", "-d", "--name", "c1", "-v", "v1:/v", "-e", "A=b", "--label", "x=y",
            "-p", "127.0.0.1::80", "busybox", "sh", "-c", "touch /new; sleep 1d",
        )  # fmt: skip
    for path in API:
        prefix = "" if path == "/_ping" else f"/{_API_VERSION}"
        answers = [engine.ask("GET", prefix + path) for engine in (theirs, ours)]
        one, other = (dict(shape(answer)) for _, answer in answers)
        for key in sorted(one.keys() | other.keys()):
            compared += 1
            left, right = one.get(key, "absent"), other.get(key, "absent")
            if left != right and {left, right} != {"null", "list"}:
                found.append(Difference(f"shape | {path} | {key}", left, right))
    for engine in (theirs, ours):
        _tidy(engine)
    return compared, found


def _reason(key: str, reasons: dict[str, str]) -> str:
    """The reason for a difference; a key may end in `*`."""
    if key in reasons:
        return reasons[key]
    fitting = [name for name in reasons if name.endswith("*") and key.startswith(name[:-1])]
    return reasons[max(fitting, key=len)] if fitting else ""


def run(only: str, *, verbose: bool) -> int:
    """Compare everything whose name contains `only`; how many differences have no reason."""
    reasons: dict[str, str] = json.loads(REASONS.read_text()) if REASONS.exists() else {}
    folder = Path(tempfile.mkdtemp(prefix="lkd", dir="/tmp"))
    tally: list[tuple[str, int, list[Difference]]] = []
    try:
        with engines(folder) as (theirs, ours):
            for name in SCENARIOS:
                if only in name:
                    tally.append((name, *compare_commands(name, theirs, ours)))
            if only in "sentences":
                tally.append(("sentences", *compare_sentences(theirs, ours)))
            if only in "shapes":
                tally.append(("shapes", *compare_shapes(theirs, ours)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    unexplained = 0
    for name, compared, found in tally:
        explained = sum(1 for item in found if _reason(item.key, reasons))
        unexplained += len(found) - explained
        print(
            f"{name:24} {compared:5} compared  {compared - len(found):5} the same  "
            f"{explained:4} meant to differ  {len(found) - explained:4} unexplained"
        )
        for item in found:
            reason = _reason(item.key, reasons)
            if verbose or not reason:
                print(f"  {item.key}\n    dockerd: {item.theirs!r}\n    labkit:  {item.ours!r}")
                if reason:
                    print(f"    because {reason}")
    total = sum(compared for _, compared, _ in tally)
    differing = sum(len(found) for _, _, found in tally)
    print(
        f"{'all':24} {total:5} compared  {total - differing:5} the same  "
        f"{differing - unexplained:4} meant to differ  {unexplained:4} unexplained"
    )
    return unexplained


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--verbose", action="store_true", help="show the differences with reasons")
    options = parser.parse_args()
    why = missing()
    if why:
        print(f"left out: {why}", file=sys.stderr)
        return 0
    return 1 if run(options.only, verbose=options.verbose) else 0


if __name__ == "__main__":
    sys.exit(main())

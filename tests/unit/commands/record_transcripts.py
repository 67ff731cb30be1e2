"""Write down what the real docker client does with `command_lines.txt` against the fake engine.

Run it by hand where Docker's client 28 is installed, and read the diff before committing it:
`python tests/unit/commands/record_transcripts.py`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from commands_fake import Request  # noqa: E402
from commands_world import world  # noqa: E402


def lines() -> list[tuple[str, list[str], str]]:
    """Every line with its words and its stdin."""
    found = []
    for line in (HERE / "command_lines.txt").read_text().splitlines():
        command, _, given = line.partition(" <<< ")
        found.append((line, shlex.split(command), given))
    return found


def questions(requests: list[Request]) -> list[list[Any]]:
    """Requests without the ping, sorted, for several may be under way at once."""
    found = []
    for request in requests:
        if request.path == "/_ping":
            continue
        is_json = "json" in request.headers.get("Content-Type", "") and request.body.strip()
        body = request.json if is_json else len(request.body)
        found.append([request.method, request.path, request.query, body])
    return sorted(found, key=lambda item: json.dumps(item, sort_keys=True))


def without(body: Any, base: Any) -> Any:
    """Only what differs from the body of a plain `create`, to keep the file readable."""
    if not isinstance(body, dict) or not isinstance(base, dict):
        return body
    changed = {
        key: without(value, base.get(key)) for key, value in body.items() if value != base.get(key)
    }
    gone = [key for key in base if key not in body]
    return {**changed, **({"(missing)": gone} if gone else {})}


def main() -> None:
    transcript: dict[str, Any] = {}
    base: Any = None
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")},
            "DOCKER_CONFIG": folder,
            "TZ": "UTC",
        }
        for line, words, given in [("create alpine", ["create", "alpine"], ""), *lines()]:
            engine = world()
            with engine.serving(Path(folder) / "docker.sock") as address:
                done = subprocess.run(
                    ["docker", *words],
                    input=given.encode(),
                    capture_output=True,
                    env={**environment, "DOCKER_HOST": address},
                    cwd=folder,
                    timeout=30,
                    check=False,
                )
            asked = questions(engine.requests)
            if base is None:
                base = asked[0][3]
            for item in asked:
                if item[1] == "/containers/create":
                    item[3] = without(item[3], base)
            transcript[line] = {
                "code": done.returncode,
                "out": done.stdout.decode(),
                "err": done.stderr.decode(),
                "asked": asked,
            }
    result = {"recorded_at": int(time.time()), "create": base, "lines": transcript}
    (HERE / "transcripts.json").write_text(
        json.dumps(result, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    )


if __name__ == "__main__":
    main()

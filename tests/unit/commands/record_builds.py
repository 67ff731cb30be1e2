"""Write down what the real docker client does in the cases of build_kit.py.

Run it by hand where Docker's client 28 is installed, and read the diff before committing it:
`python tests/unit/commands/record_builds.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from build_kit import CASES, told  # noqa: E402


def real(
    words: list[str], given: bytes, cwd: Path, environment: dict[str, str]
) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        ["docker", *words],
        input=given,
        capture_output=True,
        env=environment,
        cwd=cwd,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def main() -> None:
    recorded = {case: told(case, options, real) for case, options in CASES}
    text = json.dumps(recorded, indent=1, ensure_ascii=False, sort_keys=True)
    (HERE / "build_transcripts.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main()

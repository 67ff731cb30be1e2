"""The program `docker` inside lines that sh runs: the command line of `labkit docker`, labelled."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from labkit.base.errors import LabkitError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one docker command on the process's own stdin, stdout and stderr."""
    from pathlib import Path

    from labkit.notebook.commands.docker import main as docker
    from labkit.notebook.commands.terminal import TerminalSurface
    from labkit.notebook.magics.session import Session

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return docker(
            arguments, client=Session().docker(), surface=TerminalSurface(), cwd=Path.cwd()
        )
    except LabkitError as error:
        print(error, file=sys.stderr)
        if error.hint:
            print(f"try next: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stdout = None  # the reader went away; do not complain
        return 141

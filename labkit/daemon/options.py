"""The daemon's own command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MODES", "Options", "parse"]

MODES = ("auto", "rootful", "rootless", "hollow")


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. `mode` auto takes what the probe of this machine recommends."""

    mode: str = "auto"
    group: str | None = None
    detach: bool = False
    log_level: str = "info"


def parse(argv: Sequence[str]) -> Options:
    """Options from arguments; exits with 2 and a usage line when they make no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m labkit.daemon",
        description="The daemon of one lab: LABKIT_HOME holds its state, LABKIT_RUN its sockets.",
    )
    parser.add_argument(
        "--mode", choices=MODES, default="auto", help="how containers run (default: auto)"
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="let members of this group use docker.sock; they become as powerful as root",
    )
    parser.add_argument("--detach", action="store_true", help="run in the background")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    found = parser.parse_args(argv)
    return Options(found.mode, found.group, found.detach, found.log_level)

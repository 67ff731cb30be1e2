"""hello-world: a greeting and the four steps that brought it, in our own words."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from labkit.host.image.standins.busybox import build_busybox
from labkit.host.image.standins.common import PATH, StandIn
from labkit.host.image.standins.elf import read_program
from labkit.host.image.standins.machine import Source
from labkit.host.image.standins.rootfs import RootBuilder

__all__ = ["GREETING", "build_hello"]

GREETING = """
Hello from Docker!
You can read this, so every part of the road it travelled works.

Four things happened on the way:
 1. The client you typed into sent your request to the daemon.
 2. The daemon had no image called "hello-world" and went to get one.
 3. From that image the daemon made a new container and ran the one program in it,
    which is printing these lines.
 4. The daemon handed the program's output to the client, and the client showed it here.

Something with more in it to try next:
 $ docker run -it ubuntu bash

(This image is a stand-in that labkit built on this machine; it is not the one from Docker Hub.)

"""


def build_hello() -> StandIn:
    """The compiled program where labkit's native parts are built, else a script on busybox."""
    binary = Path(str(files("labkit.host.isolation").joinpath("bin", "labkit-hello")))
    program = read_program(binary)
    if program is not None and not program.needed and not program.interpreter:
        root = RootBuilder()
        root.copy(Path(os.path.realpath(binary)), "hello", 0o755)
        return StandIn(
            root,
            [Source("labkit", "hello.c")],
            "labkit's own program that prints the greeting",
            {"Env": [PATH], "Cmd": ["/hello"], "WorkingDir": "/"},
            ('CMD ["/hello"]',),
        )
    stand_in = build_busybox()
    stand_in.root.text("hello", f"#!/bin/sh\ncat <<'END'\n{GREETING[1:-1]}\nEND\n", 0o755)
    stand_in.summary = f"a shell script on {stand_in.summary}"
    stand_in.defaults = {"Env": [PATH], "Cmd": ["/hello"], "WorkingDir": "/"}
    stand_in.steps = ('CMD ["/hello"]',)
    return stand_in

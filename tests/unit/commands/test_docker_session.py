"""Foreground sessions: interrupts, detaching, stdin, failing starts."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands_fake import Answer, FakeEngine, Request, frame
from commands_world import WEB, world

from labkit.base.errors import CommandError
from labkit.notebook.client import Client
from labkit.notebook.commands.docker import main
from labkit.notebook.commands.docker.session import _KeyWatch, parse_detach_keys
from labkit.notebook.commands.surface import BufferSurface


@pytest.fixture
def serve(short_tmp: Path) -> Iterator[Callable[..., tuple[int, BufferSurface]]]:
    """Run one command line against an engine; returns its code and what it wrote."""

    def run(engine: FakeEngine, *words: str, given: bytes = b"") -> tuple[int, BufferSurface]:
        surface = BufferSurface(stdin=io.BytesIO(given))
        with engine.serving(short_tmp / "docker.sock") as address:
            client = Client(address)
            usual = signal.getsignal(signal.SIGINT)
            try:
                return main(words, client=client, surface=surface, cwd=short_tmp), surface
            finally:
                # An interrupt that comes late must not end the test run.
                signal.signal(signal.SIGINT, lambda *_: None)
                for thread in [t for t in threading.enumerate() if t.name == "presses"]:
                    thread.join()
                signal.signal(signal.SIGINT, usual)
                client.close()

    yield run
    time.sleep(0)
    assert [t for t in threading.enumerate() if t.name == "labkit-stdin"] == []


def _stubborn(engine: FakeEngine, *, yields: bool) -> tuple[threading.Event, threading.Event]:
    """A container that runs until it is killed (`yields`), or until the client goes."""
    attached, ended = threading.Event(), threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.sendall(frame(1, b"before\n"))
        attached.set()
        if yields:
            ended.wait(10)
            connection.sendall(frame(1, b"after\n"))
        else:
            connection.recv(1)

    def kill(request: Request) -> Answer:
        ended.set()
        return Answer(204)

    engine.on("POST", f"/containers/{WEB}/attach", Answer(hijack=talk))
    engine.on("POST", f"/containers/{WEB}/kill", kill)
    engine.on("POST", f"/containers/{WEB}/wait", {"StatusCode": 130})
    return attached, ended


def _interrupt(moments: tuple[threading.Event, threading.Event], times: int) -> None:
    """Ctrl-C once the container talks, and again once the first one has reached it."""

    def press() -> None:
        for moment in moments[:times]:
            moment.wait(10)
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, name="presses").start()


def test_an_interrupt_reaches_the_container_and_its_code_comes_back(
    serve: Callable[..., tuple[int, BufferSurface]],
) -> None:
    engine = world()
    _interrupt(_stubborn(engine, yields=True), 1)
    code, surface = serve(engine, "run", "alpine")
    assert [r.query["signal"] for r in engine.asked("POST", "/kill")] == [["INT"]]
    assert (code, surface.stdout) == (130, "before\nafter\n")


def test_a_second_interrupt_leaves_the_container_alone(
    serve: Callable[..., tuple[int, BufferSurface]],
) -> None:
    engine = world()
    _interrupt(_stubborn(engine, yields=False), 2)
    code, surface = serve(engine, "run", "alpine")
    assert code == 130
    assert len(engine.asked("POST", "/kill")) == 1
    assert "docker rm -f" in surface.hints[0]


def test_interrupting_another_command_ends_it(
    serve: Callable[..., tuple[int, BufferSurface]],
) -> None:
    engine = world()
    _interrupt(_stubborn(engine, yields=False), 1)
    code, _ = serve(engine, "run", "--sig-proxy=false", "alpine")
    assert code == 130
    assert engine.asked("POST", "/kill") == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("stat /x: no such file or directory", 127),
        ('exec: "/x": permission denied', 126),
        ("driver failed programming external connectivity", 125),
    ],
)
def test_the_text_of_a_failed_start_decides_the_code(
    serve: Callable[..., tuple[int, BufferSurface]], message: str, code: int
) -> None:
    engine = world()
    engine.on("POST", f"/containers/{WEB}/start", Answer(400, {"message": message}))
    engine.on("POST", f"/containers/{WEB}/attach", Answer(hijack=lambda c: c.recv(1)))
    found, surface = serve(engine, "run", "alpine", "x")
    assert found == code
    assert surface.stderr == (
        f"docker: Error response from daemon: {message}\n\n"
        "Run 'docker run --help' for more information\n"
    )


def test_stdin_is_fed_and_ends(serve: Callable[..., tuple[int, BufferSurface]]) -> None:
    code, surface = serve(world(), "run", "-i", "alpine", given=b"shout")
    assert surface.stdout.startswith("SHOUT")
    assert code == 3


def test_a_terminal_is_refused_with_a_way_out(
    serve: Callable[..., tuple[int, BufferSurface]],
) -> None:
    engine = world()
    code, surface = serve(engine, "run", "-it", "alpine")
    assert (code, surface.stderr) == (1, "the input device is not a TTY\n")
    assert "labkit docker" in surface.hints[0]
    assert engine.asked("POST") == []


def test_a_cidfile_holds_the_id_and_is_never_overwritten(
    serve: Callable[..., tuple[int, BufferSurface]], short_tmp: Path
) -> None:
    code, _ = serve(world(), "run", "--cidfile", "id", "alpine")
    assert (short_tmp / "id").read_text() == WEB
    code, surface = serve(world(), "run", "--cidfile", "id", "alpine")
    assert code == 125
    assert "container ID file found" in surface.stderr


def test_detach_keys_are_found_across_reads() -> None:
    watch = _KeyWatch(parse_detach_keys(""))
    assert watch.feed(b"ab\x10") == (b"ab", False)
    assert watch.feed(b"c") == (b"\x10c", False)
    assert watch.feed(b"\x10\x10") == (b"\x10", False)
    assert watch.feed(b"\x11rest") == (b"", True)
    assert parse_detach_keys("ctrl-a,x") == b"\x01x"
    with pytest.raises(CommandError, match="Unknown character"):
        parse_detach_keys("xy")


def test_a_reader_that_has_gone_ends_the_command_at_once(
    short_tmp: Path,
) -> None:
    class Deaf(BufferSurface):
        def out_bytes(self, data: bytes) -> None:
            raise BrokenPipeError

    engine = world()
    _stubborn(engine, yields=False)
    with engine.serving(short_tmp / "docker.sock") as address:
        client = Client(address)
        assert main(["run", "alpine"], client=client, surface=Deaf(), cwd=short_tmp) == 1
        client.close()


def test_outside_a_terminal_the_same_warning_is_shown_once(
    serve: Callable[..., tuple[int, BufferSurface]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labkit.notebook.commands.docker.run._said", set())
    said = [serve(world(), "create", "warn")[1].stderr for _ in range(2)]
    assert said == ["WARNING: Careful.\n", ""]

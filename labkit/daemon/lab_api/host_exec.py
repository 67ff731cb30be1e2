"""`%%host` and `labkit host`: run a command on the lab host, its streams over one connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from labkit.base.errors import InvalidParameter, SystemFailure, Unsupported
from labkit.daemon.call import Call
from labkit.daemon.routing import Route, post
from labkit.daemon.tunnel import Tunnel, hijack

if TYPE_CHECKING:
    from labkit.daemon.lab import Lab

__all__ = ["ROUTES"]

_CHUNK = 1 << 16
_WORDS_MAX = 4096
_STDOUT, _STDERR, _OUTCOME = 1, 2, 3
_MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class _Command:
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    stdin: bool

    @classmethod
    def parse(cls, body: dict[str, Any]) -> _Command:
        argv, env = body.get("argv"), body.get("env") or {}
        if (
            not isinstance(argv, list)
            or not 0 < len(argv) <= _WORDS_MAX
            or not all(isinstance(word, str) for word in argv)
            or not argv[0]
        ):
            raise InvalidParameter("argv must be a list of strings that begins with a command")
        if not isinstance(env, dict) or not all(isinstance(v, str) for v in env.values()):
            raise InvalidParameter("env must be an object of strings")
        if any(not name or "=" in name for name in env):
            raise InvalidParameter("env has a name that is empty or contains '='")
        cwd = body.get("cwd") or "/"
        if not isinstance(cwd, str) or not cwd.startswith("/"):
            raise InvalidParameter("cwd must be an absolute path")
        if body.get("tty"):
            raise Unsupported(
                "the lab host offers no terminal here", hint="leave tty away; pipes work"
            )
        return cls(tuple(argv), env, cwd, bool(body.get("stdin")))


async def run(call: Call[Lab]) -> web.StreamResponse:
    """POST /v1/host/exec {"argv", "env", "cwd", "stdin"}: 101, then Docker's frames; the last one
    is stream 3 with `{"exit_code": n}`. A client that leaves takes the command with it."""
    command = _Command.parse(await call.body())
    child = await _spawn(call.state, command)
    try:
        tunnel = hijack(call.request, _MULTIPLEXED)
    except BaseException:
        _kill(child)
        await child.wait()
        raise
    await _serve(tunnel, child)
    return tunnel.response


async def _spawn(lab: Lab, command: _Command) -> asyncio.subprocess.Process:
    if lab.host is None:
        raise Unsupported(
            "there is no lab host to run on (hollow mode)",
            hint="`labkit doctor` says what is missing on this machine",
        )
    from labkit.host.isolation.anchor import host_command

    words, handles = host_command(lab.host, command.argv, cwd=command.cwd)
    try:
        return await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": _PATH, "HOME": "/root", "TERM": "dumb", **command.env},
            pass_fds=handles,
            start_new_session=True,
        )
    except OSError as error:
        raise SystemFailure(f"cannot enter the lab host: {error.strerror}") from error
    finally:
        for handle in handles:
            os.close(handle)


def _kill(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def _send(tunnel: Tunnel, stream: int, source: asyncio.StreamReader) -> None:
    while data := await source.read(_CHUNK):
        tunnel.writer.write(_frame(stream, data))
        await tunnel.writer.drain()


async def _feed(tunnel: Tunnel, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await tunnel.reader.read(_CHUNK):
            target.write(data)
            await target.drain()
    target.close()


async def _serve(tunnel: Tunnel, child: asyncio.subprocess.Process) -> None:
    assert child.stdout is not None
    assert child.stderr is not None
    output: asyncio.Future[Any] = asyncio.gather(
        _send(tunnel, _STDOUT, child.stdout), _send(tunnel, _STDERR, child.stderr)
    )
    gone: asyncio.Future[Any] = asyncio.ensure_future(tunnel.gone.wait())
    feeding = asyncio.ensure_future(_feed(tunnel, child.stdin)) if child.stdin else None
    try:
        await asyncio.wait({output, gone}, return_when=asyncio.FIRST_COMPLETED)
        if output.done() and output.exception() is None:
            code = await child.wait()
            outcome = {"exit_code": code if code >= 0 else 128 - code}
            with contextlib.suppress(ConnectionError):
                tunnel.writer.write(_frame(_OUTCOME, json.dumps(outcome).encode()))
                await tunnel.writer.drain()
    finally:
        if child.returncode is None:
            _kill(child)
        for task in (output, gone, feeding):
            if task is not None:
                task.cancel()
        await asyncio.gather(output, gone, return_exceptions=True)
        await child.wait()
        await tunnel.close()


ROUTES: tuple[Route, ...] = (post("/v1/host/exec", run),)

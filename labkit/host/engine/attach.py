"""POST /containers/X/attach and /resize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.base.errors import Conflict
from labkit.host.engine import logs, sessions
from labkit.host.engine.sessions import Attachment, PendingAttach, Reader, Replay

if TYPE_CHECKING:
    from labkit.host.engine.context import Context

__all__ = ["AttachOptions", "attach", "resize"]


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """The query of attach; `logs` replays what was printed before."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    stream: bool = True
    logs: bool = False


async def attach(context: Context, reference: str, options: AttachOptions) -> Attachment:
    """A session with the container's first process, now or from its start on."""
    container = context.find(reference)
    async with container.lock:
        if container.removing:
            raise Conflict("container is marked for removal and cannot be attached to")
        if container.state.status == "paused":
            raise Conflict(f"container {reference} is paused, unpause the container before attach")
        if container.state.status == "restarting":
            raise Conflict(
                f"container {reference} is restarting, wait until the container is running"
            )
        tty = container.config.tty
        stdin = options.stdin and container.config.open_stdin
        session: Attachment | None = None
        if options.stream and container.state.is_live and container.shim is not None:
            session = await sessions.live(
                container.shim,
                stdin=stdin,
                stdout=options.stdout,
                stderr=options.stderr,
                tty=tty,
            )
        elif options.stream:
            waiting = PendingAttach(stdin=stdin, stdout=options.stdout, stderr=options.stderr)
            container.pending = [item for item in container.pending if not item.is_closed]
            container.pending.append(waiting)
            session = Attachment(waiting, waiting if stdin else None, tty=tty, close=waiting.close)
    if options.logs:
        past = await _past(context, reference, options)
        then: Reader | None = session.reader if session else None
        close = session.leave if session else _nothing
        session = Attachment(
            Replay(past, then), session.writer if session else None, tty=tty, close=close
        )
    await context.container_event(container, "attach")
    return session or Attachment(Replay(b"", None), None, tty=tty, close=_nothing)


def _nothing() -> None:
    return None


async def _past(context: Context, reference: str, options: AttachOptions) -> bytes:
    stream = await logs.open_logs(
        context, reference, logs.LogOptions(stdout=options.stdout, stderr=options.stderr)
    )
    return b"".join([piece async for piece in stream])


async def resize(context: Context, reference: str, *, rows: int, columns: int) -> None:
    """POST /containers/X/resize."""
    container = context.find(reference)
    if container.shim is None or not container.state.is_live:
        raise Conflict(f"container {container.id} is not running")
    await container.shim.resize(rows, columns)
    await context.container_event(container, "resize", height=str(rows), width=str(columns))

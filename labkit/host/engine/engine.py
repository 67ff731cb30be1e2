"""One Docker host, without HTTP: methods named after Docker's endpoints.

Arguments are parsed values and JSON bodies as dictionaries; answers are Docker's JSON for the
newest API version (1.50) as dictionaries. Failures are the exceptions of labkit.base.errors with
Docker's sentences. Every state change is in the records before a method returns. A reference is
a container's name, id or unambiguous id prefix. Filters are `{"name": ["value", ...]}`.

How a start travels: `Engine.container_start` → lifecycle (state, locks, intent row) → specs
(Docker's words become a ContainerSpec) → Runtime.start (the shim and the C core) → watch (waits
for the exit status, applies AutoRemove or the restart policy).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from labkit.base.errors import NotFound
from labkit.base.paths import LabPaths
from labkit.host.engine import (
    archives,
    attach,
    commits,
    execs,
    images,
    info,
    inspection,
    lifecycle,
    listing,
    logs,
    processes,
    pruning,
    recovery,
    removal,
    stopping,
    views,
)
from labkit.host.engine.archives import ReadableArchive
from labkit.host.engine.commits import CommitOptions
from labkit.host.engine.context import Context, Ports
from labkit.host.engine.filters import Filters
from labkit.host.engine.logs import LogStream
from labkit.host.engine.sessions import Attachment
from labkit.host.image.tarread import ByteSource

__all__ = ["Engine"]

Json = dict[str, Any]


class Engine:
    """One Docker host. Open it with `Engine.open`; it belongs to the event loop that opened it."""

    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    async def open(cls, paths: LabPaths, ports: Ports, *, node: str = "default") -> Engine:
        """Open or make the host's records and take up what ran before.

        Live shims are re-attached, exit codes recorded meanwhile are collected, half-made or
        half-removed containers are finished off, restart policies are honoured.
        `ports` bundles what the engine acts through: runtime, images, snapshots, host, probe.
        """
        context = await Context.open(paths, ports, node=node)
        await recovery.recover(context)
        return cls(context)

    async def close(self) -> None:
        """Let go of everything; containers keep running in their shims."""
        await self.context.close()

    async def stop_all(self) -> None:
        """Stop every container with its own grace, all at once (`labkit down`)."""
        await stopping.stop_all(self.context)

    # -- containers ----------------------------------------------------------------------------

    async def container_create(
        self, body: Mapping[str, Any], *, name: str | None = None, platform: str | None = None
    ) -> Json:
        """POST /containers/create: `{"Id", "Warnings"}`; NotFound when the image is missing."""
        return await lifecycle.create(self.context, body, name=name, platform=platform)

    async def container_start(self, reference: str) -> None:
        """POST /containers/X/start.

        Raises NotModified when it runs, StartFailure with Docker's text (which decides the
        client's exit code) when the process cannot be started.
        """
        await lifecycle.start(self.context, reference)

    async def container_stop(
        self,
        reference: str,
        *,
        timeout: int | None = None,  # noqa: ASYNC109 - a grace, not a deadline
        signal: str | None = None,
    ) -> None:
        """POST /containers/X/stop.

        `timeout` in seconds before SIGKILL; None is the container's own or 10, -1 is for ever.
        Raises NotModified when it is not running.
        """
        await stopping.stop(self.context, reference, timeout_s=timeout, signal=signal)

    async def container_restart(
        self,
        reference: str,
        *,
        timeout: int | None = None,  # noqa: ASYNC109 - a grace, not a deadline
        signal: str | None = None,
    ) -> None:
        """POST /containers/X/restart: stop if it runs, then start."""
        await stopping.restart(self.context, reference, timeout_s=timeout, signal=signal)

    async def container_kill(self, reference: str, *, signal: str | None = None) -> None:
        """POST /containers/X/kill. `signal`: a name with or without SIG, or a number; KILL."""
        await stopping.kill(self.context, reference, signal=signal)

    async def container_pause(self, reference: str) -> None:
        """POST /containers/X/pause: freeze every process of its cgroup."""
        await lifecycle.pause(self.context, reference)

    async def container_unpause(self, reference: str) -> None:
        """POST /containers/X/unpause."""
        await lifecycle.unpause(self.context, reference)

    async def container_rename(self, reference: str, new_name: str) -> None:
        """POST /containers/X/rename."""
        await lifecycle.rename(self.context, reference, new_name)

    async def container_update(self, reference: str, body: Mapping[str, Any]) -> Json:
        """POST /containers/X/update: new limits and restart policy, `{"Warnings": [...]}`."""
        return await lifecycle.update(self.context, reference, body)

    async def container_remove(
        self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """DELETE /containers/X. `volumes` removes its anonymous volumes too."""
        await removal.remove(self.context, reference, force=force, volumes=volumes, link=link)

    async def container_wait(
        self, reference: str, *, condition: str = "not-running"
    ) -> Awaitable[Json]:
        """POST /containers/X/wait, in two steps.

        The first await checks the container (404) and the condition (400) and registers the
        waiter: send the HTTP headers then. Awaiting the result gives `{"StatusCode": n}` once
        the condition (`not-running`, `next-exit`, `removed`) holds.
        """
        return lifecycle.wait(self.context, reference, condition=condition)

    async def container_attach(
        self,
        reference: str,
        *,
        stdin: bool = False,
        stdout: bool = False,
        stderr: bool = False,
        stream: bool = True,
        logs: bool = False,
    ) -> Attachment:
        """POST /containers/X/attach. Works before start: the session goes live with the start."""
        return await attach.attach(
            self.context,
            reference,
            attach.AttachOptions(
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                stream=stream,
                logs=logs,
            ),
        )

    async def container_logs(
        self,
        reference: str,
        *,
        stdout: bool = False,
        stderr: bool = False,
        follow: bool = False,
        since_ns: int | None = None,
        until_ns: int | None = None,
        tail: int | None = None,
        timestamps: bool = False,
        details: bool = False,
    ) -> LogStream:
        """GET /containers/X/logs: an async iterator of bytes, framed unless `.tty`.

        `tail` counts lines from the end, None is all; times are Unix nanoseconds.
        """
        return await logs.open_logs(
            self.context,
            reference,
            logs.LogOptions(
                stdout=stdout,
                stderr=stderr,
                follow=follow,
                since_ns=since_ns,
                until_ns=until_ns,
                tail=tail,
                timestamps=timestamps,
                details=details,
            ),
        )

    async def container_resize(self, reference: str, *, rows: int, columns: int) -> None:
        """POST /containers/X/resize."""
        await attach.resize(self.context, reference, rows=rows, columns=columns)

    async def container_top(self, reference: str, ps_args: str | None = None) -> Json:
        """GET /containers/X/top: `{"Titles", "Processes"}` with the machine's pids."""
        return await processes.top(self.context, reference, ps_args=ps_args)

    async def container_changes(self, reference: str) -> list[Json]:
        """GET /containers/X/changes: `[{"Path", "Kind"}]`, 0 changed, 1 added, 2 deleted."""
        return await inspection.changes(self.context, reference)

    async def container_archive_stat(self, reference: str, path: str) -> str:
        """HEAD /containers/X/archive: the value of X-Docker-Container-Path-Stat."""
        return await archives.stat_path(self.context, reference, path)

    def container_archive_read(
        self, reference: str, path: str
    ) -> AbstractAsyncContextManager[ReadableArchive]:
        """GET /containers/X/archive: while the block lasts, `write` gives the tar (in a thread)."""
        return archives.read_archive(self.context, reference, path)

    async def container_archive_write(
        self,
        reference: str,
        path: str,
        source: ByteSource,
        *,
        keep_kinds: bool = False,
        copy_owner: bool = False,
    ) -> None:
        """PUT /containers/X/archive: unpack a tar into the folder `path`."""
        await archives.write_archive(
            self.context, reference, path, source, keep_kinds=keep_kinds, copy_owner=copy_owner
        )

    async def container_commit(
        self, reference: str, options: CommitOptions, body: Mapping[str, Any] | None = None
    ) -> Json:
        """POST /commit: `{"Id"}` of the new image."""
        return await commits.commit(self.context, reference, options, body or {})

    async def container_inspect(self, reference: str, *, size: bool = False) -> Json:
        """GET /containers/X/json."""
        return await inspection.inspect(self.context, reference, size=size)

    async def container_list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the API
        limit: int | None = None,
        size: bool = False,
        filters: Filters | None = None,
    ) -> list[Json]:
        """GET /containers/json, newest first."""
        return await listing.containers(
            self.context, all_states=all, limit=limit, size=size, filters=filters
        )

    async def container_prune(self, filters: Filters | None = None) -> Json:
        """POST /containers/prune: `{"ContainersDeleted", "SpaceReclaimed"}`."""
        return await pruning.prune_containers(self.context, filters)

    async def container_stats(self, reference: str) -> Json:
        """One sample for GET /containers/X/stats; `precpu_stats` is the caller's to fill."""
        return await processes.stats(self.context, reference)

    async def container_stats_pair(self, reference: str) -> tuple[Json, Json]:
        """Two samples, the older first; at once when somebody has looked a moment ago."""
        return await self.context.sampler.pair(reference)

    # -- exec ----------------------------------------------------------------------------------

    async def exec_create(self, reference: str, body: Mapping[str, Any]) -> Json:
        """POST /containers/X/exec: `{"Id"}`."""
        return await execs.create(self.context, reference, body)

    async def exec_start(self, exec_id: str, body: Mapping[str, Any]) -> Attachment | None:
        """POST /exec/ID/start: a live session, or None when `Detach` is set."""
        return await execs.start(self.context, exec_id, body)

    async def exec_inspect(self, exec_id: str) -> Json:
        """GET /exec/ID/json."""
        return await execs.inspect(self.context, exec_id)

    async def exec_resize(self, exec_id: str, *, rows: int, columns: int) -> None:
        """POST /exec/ID/resize."""
        await execs.resize(self.context, exec_id, rows=rows, columns=columns)

    # -- images --------------------------------------------------------------------------------

    async def image_list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the API
        filters: Filters | None = None,
    ) -> list[Json]:
        """GET /images/json."""
        return await images.summaries(self.context, all_images=all, filters=filters)

    async def image_inspect(self, reference: str) -> Json:
        """GET /images/X/json."""
        return await images.inspect(self.context, reference)

    async def image_history(self, reference: str) -> list[Json]:
        """GET /images/X/history."""
        return await images.history(self.context, reference)

    async def image_pull(
        self, reference: str, *, platform: str = "", auth: Mapping[str, Any] | None = None
    ) -> AsyncIterator[Json]:
        """POST /images/create: Docker's progress lines. `reference` is `name[:tag|@digest]`."""
        return images.pull(self.context, reference, platform=platform, auth=auth)

    async def image_tag(self, source: str, repository: str, tag: str = "") -> None:
        """POST /images/X/tag."""
        await images.tag(self.context, source, repository, tag)

    async def image_remove(
        self, reference: str, *, force: bool = False, noprune: bool = False
    ) -> list[Json]:
        """DELETE /images/X: `[{"Untagged"} | {"Deleted"}]`."""
        return await images.remove(self.context, reference, force=force, noprune=noprune)

    async def image_prune(self, filters: Filters | None = None) -> Json:
        """POST /images/prune: `{"ImagesDeleted", "SpaceReclaimed"}`."""
        return await images.prune(self.context, filters)

    # -- the host ------------------------------------------------------------------------------

    async def info(self) -> Json:
        """GET /info."""
        return await info.info(self.context)

    def version(self) -> Json:
        """GET /version."""
        return info.version(self.context)

    async def system_df(self) -> Json:
        """GET /system/df: sizes of images and containers."""
        return await info.disk_usage(self.context)

    async def container_event(self, reference: str, action: str, **attributes: str) -> None:
        """Record that a client did something which only its connection knows (it detached).

        A container that is gone by now has nothing more to tell.
        """
        with contextlib.suppress(NotFound):
            container = self.context.find(reference)
            await self.context.container_event(container, action, **attributes)

    async def events(
        self,
        *,
        since_ns: int | None = None,
        until_ns: int | None = None,
        filters: Filters | None = None,
    ) -> AsyncIterator[Json]:
        """GET /events: history from `since_ns`, then live until `until_ns` (None: for ever).

        The subscription is made by this call; nothing is missed before the first iteration.
        """
        return self.context.events.stream(since_ns=since_ns, until_ns=until_ns, filters=filters)

    # -- what only labkit shows ------------------------------------------------------------------

    def lifecycle(self) -> Json:
        """States, transitions and every container's history (lab API /v1/views/lifecycle)."""
        return views.lifecycle(self.context)

    def container_timeline(self, reference: str) -> Json:
        """The kernel steps of a container's last start (lab API /v1/containers/X/timeline)."""
        return views.timeline(self.context, reference)

    def exec_timeline(self, exec_id: str) -> Json:
        """The kernel steps of one exec."""
        return views.exec_timeline(self.context, exec_id)

    def process_owners(self) -> list[Json]:
        """`{"pid", "owner": {"kind", "id", "name", "image"}}` for each shim, exec and process
        that belongs to a container, for the namespaces view."""
        return views.process_owners(self.context)

    def subscribe(self, listener: Callable[[Json], None]) -> Callable[[], None]:
        """Call `listener` with each event as it happens; the answer ends the subscription."""
        return self.context.events.subscribe(listener)

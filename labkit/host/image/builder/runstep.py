"""RUN as a step of a stage: a container, and the layer it leaves."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import NotFound
from labkit.base.ids import new_id, short_id
from labkit.host.image.beneath import open_directory
from labkit.host.image.builder import config as words
from labkit.host.image.builder.copying import fingerprint
from labkit.host.image.builder.copystep import origin_tree
from labkit.host.image.builder.instructions import CommandLine, Run, RunMount
from labkit.host.image.builder.mounts import discard, lend, mount_points_removed, secret_file
from labkit.host.image.builder.picking import Picked, pick
from labkit.host.image.builder.ports import BuildMount, RunRequest
from labkit.host.image.builder.trees import SourceTree, UnionTree
from labkit.host.image.builder.work import StepFailed, in_thread
from labkit.host.image.difftree import diff_trees, write_upper
from labkit.host.image.entry import Entry
from labkit.host.image.index import LayerBlob
from labkit.host.image.ingest import ingest_tar
from labkit.host.image.model import Image
from labkit.host.image.tarwrite import TarWriter

if TYPE_CHECKING:
    from labkit.host.image.builder.stage import StageBuild

__all__ = ["run_step"]

_EMPTY = Image("", {}, (), (), 0, 0, ())


class _ClampedWriter(TarWriter):
    """Times later than SOURCE_DATE_EPOCH become it."""

    def __init__(self, write: Callable[[bytes], object], clamp_ns: int | None) -> None:
        super().__init__(write)
        self._clamp_ns = clamp_ns

    def add(self, entry: Entry, content: Iterable[tuple[int, bytes]] = ()) -> None:
        if self._clamp_ns is not None and entry.mtime_ns > self._clamp_ns:
            entry = replace(entry, mtime_ns=self._clamp_ns)
        super().add(entry, content)


async def run_step(build: StageBuild, step: Run) -> None:
    """Look into the cache; else run the command and commit what it changed."""
    told, silent = build.run_arguments()
    script, command = _script(step)
    argv = words.command_words(build.config, command)
    created_by = words.argument_prefix(told) + await _mount_words(build, step) + " ".join(argv)
    if script is not None:
        created_by = f"{words.argument_prefix(told)}{await _mount_words(build, step)}{script}"
    if await build.cached(created_by, build.config):
        return
    identifier = new_id()
    await build.say(f" ---> Running in {short_id(identifier)}\n")
    folder = build.work.folder()
    snapshots = build.work.ports.snapshots
    try:
        root = await in_thread(snapshots.prepare, identifier, build.image or _EMPTY)
        async with AsyncExitStack() as stack:
            mounts = await _mounts(build, step, stack, folder)
            if script is not None:
                path = await in_thread(_script_file, folder, script)
                mounts.append(BuildMount("bind", f"/dev/pipes/{step.heredocs[0].name}", path, True))
                argv = [f"/dev/pipes/{step.heredocs[0].name}"]
            environment = [*(build.config.get("Env") or [])]
            environment += [f"{name}={value}" for name, value in {**silent, **told}.items()]
            request = RunRequest(
                id=identifier,
                image=build.image or _EMPTY,
                config=build.config,
                args=tuple(argv),
                env=tuple(environment),
                root=root,
                mounts=tuple(mounts),
                network=step.network or build.work.options.network,
                host_config=build.work.options.host_config,
            )
            with mount_points_removed(root, mounts):
                code = await _run(build, request)
        if code:
            shown = " ".join(argv) if script is None else f"{argv[0]}"
            raise StepFailed(f"The command '{shown}' returned a non-zero code: {code}", code)
        layer = await in_thread(_layer_of, build, identifier)
        with build.work.store.lease(layer.digest, layer.diff_id):
            await build.commit(layer, created_by, build.config)
    finally:
        await in_thread(snapshots.remove, identifier)
        await in_thread(discard, folder)
    await build.say(f" ---> Removed intermediate container {short_id(identifier)}\n")


async def _run(build: StageBuild, request: RunRequest) -> int:
    # Output may end in the middle of a character.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    async def output(data: bytes) -> None:
        text = decoder.decode(data)
        if text:
            await build.say(text)

    return await build.work.ports.runner.run(request, output)


def _script(step: Run) -> tuple[str | None, CommandLine]:
    """What to run for a heredoc: `RUN <<EOF` alone is a script, otherwise the shell reads it.

    The first answer is the text of a script with its own `#!` line, which runs as a program.
    """
    if not step.heredocs:
        return None, step.command
    text = step.command.words[0]
    first = step.heredocs[0]
    bare = text.strip()
    is_alone = len(step.heredocs) == 1 and bare.startswith("<<") and " " not in bare
    if is_alone and first.content.startswith("#!"):
        return first.content, step.command
    if is_alone:
        return None, CommandLine((first.content,), True)
    for heredoc in step.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return None, CommandLine((text,), True)


def _script_file(folder: Path, text: str) -> Path:
    path = folder / "script"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


async def _mount_words(build: StageBuild, step: Run) -> str:
    """The mounts in the step's identity: their text, and what a bind lends by its hash."""
    shown = ""
    for mount in step.mounts:
        shown += f"--mount={mount.text} "
        if mount.kind != "bind":
            continue
        tree, where = await origin_tree(build, mount.origin)
        try:
            picked = await in_thread(_picked, tree, mount, where)
            shown += f"{await in_thread(fingerprint, picked)} "
        finally:
            if isinstance(tree, UnionTree):
                tree.close()
    return shown


def _picked(tree: SourceTree, mount: RunMount, where: str) -> list[Picked]:
    return pick(tree, mount.source or ".", word="RUN --mount", where=where)


async def _mounts(
    build: StageBuild, step: Run, stack: AsyncExitStack, folder: Path
) -> list[BuildMount]:
    found = []
    for number, mount in enumerate(step.mounts):
        mount = replace(mount, target=build.expand(mount.target))
        if not mount.target.startswith("/"):
            mount = replace(mount, target=words.workdir(build.config, mount.target))
        own = folder / f"mount-{number}"
        own.mkdir()
        if mount.kind == "tmpfs":
            options = f"size={mount.size_bytes}" if mount.size_bytes else ""
            found.append(BuildMount("tmpfs", mount.target, options=options))
        elif mount.kind == "cache":
            found.append(await build.work.ports.caches.enter(mount, stack, own))
        elif mount.kind == "secret":
            secret = build.work.options.secrets.get(mount.id)
            if secret is not None:
                found.append(await in_thread(secret_file, mount, secret, own))
            elif mount.required:
                raise NotFound(f"secret {mount.id}: not found")
        else:
            found.append(await _bind(build, mount, own))
    return found


async def _bind(build: StageBuild, mount: RunMount, folder: Path) -> BuildMount:
    tree, where = await origin_tree(build, mount.origin)
    try:
        source = await in_thread(lambda: lend(tree, mount, folder, where=where))
    finally:
        if isinstance(tree, UnionTree):
            tree.close()
    return BuildMount("bind", mount.target, source, mount.readonly)


def _layer_of(build: StageBuild, identifier: str) -> LayerBlob:
    """The container's writable layer as a layer of the image."""
    work = build.work
    snapshots = work.ports.snapshots
    spec = snapshots.root_spec(identifier)

    def produce(write: Callable[[bytes], object]) -> None:
        writer = _ClampedWriter(write, work.clamp_ns)
        upper = open_directory(snapshots.upper(identifier))
        try:
            if spec.path is None:
                write_upper(upper, writer)
            else:
                _write_difference(build, identifier, upper, writer)
        finally:
            os.close(upper)
        writer.close()

    return ingest_tar(work.store, produce)


def _write_difference(build: StageBuild, identifier: str, upper: int, writer: TarWriter) -> None:
    """Without an overlay the container had a copy of the tree: compare it with another."""
    work = build.work
    other = new_id()
    root = work.ports.snapshots.prepare(other, build.image or _EMPTY)
    assert root.path is not None, identifier
    try:
        lower = open_directory(root.path)
        try:
            diff_trees(lower, upper, writer)
        finally:
            os.close(lower)
    finally:
        work.ports.snapshots.remove(other)

"""COPY, ADD and WORKDIR as steps of a stage: what they put into a layer of their own."""

from __future__ import annotations

import asyncio
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from labkit.base.errors import InvalidParameter
from labkit.base.gitcontext import checkout, is_git_url
from labkit.base.ids import new_id, short_id
from labkit.host.image.builder import config as words
from labkit.host.image.builder.copying import CopyOptions, LayerPlan, fingerprint
from labkit.host.image.builder.expand import expand
from labkit.host.image.builder.instructions import Add, Copy, Workdir
from labkit.host.image.builder.lexer import Heredoc
from labkit.host.image.builder.picking import Picked, pick, pick_with_folders, without
from labkit.host.image.builder.plan import find_stage
from labkit.host.image.builder.trees import SourceTree, SpooledTree, UnionTree
from labkit.host.image.builder.treeviews import folder_tree
from labkit.host.image.builder.work import in_thread, owner_ids
from labkit.host.image.entry import Entry
from labkit.host.image.index import LayerBlob
from labkit.host.image.ingest import ingest_tar

if TYPE_CHECKING:
    from labkit.host.image.builder.stage import StageBuild

__all__ = ["copy_step", "origin_tree", "workdir_step"]

_URL = re.compile(r"https?://", re.IGNORECASE)


async def origin_tree(build: StageBuild, origin: str) -> tuple[SourceTree, str]:
    """The tree of `--from=`, and its words for errors. The context when `origin` is empty."""
    work = build.work
    if not origin:
        return work.context, "build context or excluded by .dockerignore"
    stage = find_stage(work.stages, origin, before=build.stage.number)
    if stage is not None:
        task = work.results.get(stage.number)
        if task is None:
            raise InvalidParameter(f"stage {origin} is not part of this build")
        return work.tree(await asyncio.shield(task)), f"stage {origin}"
    if origin.isdecimal():
        raise InvalidParameter(f"invalid from flag value {origin}: no such build stage")
    image = await work.image(origin, work.options.platform, build.emit)
    return work.tree(image), f"image {origin}"


async def copy_step(build: StageBuild, step: Copy) -> None:
    """Pick, hash, look into the cache, and write a layer when it has none."""
    opened: list[SpooledTree | UnionTree] = []
    try:
        await _copy(build, step, opened)
    finally:
        for tree in opened:
            tree.close()


async def _copy(build: StageBuild, step: Copy, opened: list[SpooledTree | UnionTree]) -> None:
    destination = build.expand(step.destination)
    if not destination:
        raise InvalidParameter(f"{step.word} failed: the destination is empty")
    chown, chmod = build.expand(step.flags.chown), build.expand(step.flags.chmod)
    if chmod and not re.fullmatch(r"[0-7]{1,5}", chmod):
        raise InvalidParameter(f"invalid chmod parameter: '{chmod}'")
    picked = await _picked(build, step, destination, opened)
    if step.flags.exclude:
        patterns = tuple(build.expand(pattern) for pattern in step.flags.exclude)
        picked = without(picked, patterns)
        if not picked:
            raise InvalidParameter(f"{step.word} failed: every source is excluded")
    if len(picked) > 1 and not destination.endswith("/"):
        raise InvalidParameter(
            f"When using {step.word} with more than one source file, the destination must be a "
            "directory and end with a /"
        )
    shown = await in_thread(fingerprint, picked)
    flags = f"--chown={chown} " if chown else ""
    flags += f"--chmod={chmod} " if chmod else ""
    flags += "--parents " if step.flags.parents else ""
    flags += "--link " if step.flags.link else ""
    comment = f"{step.word} {flags}{shown} in {destination} "
    created_by = words.nop(build.config, comment, tight=True)
    if await build.cached(created_by, build.config):
        return
    target = _absolute(build.config.get("WorkingDir") or "/", destination)
    mode = int(chmod, 8) if chmod else None
    unpack = isinstance(step, Add)

    def fill(plan: LayerPlan) -> None:
        uid, gid = _owner(build, chown)
        for item in picked:
            plan.copy(item, target, CopyOptions(uid, gid, mode, unpack))

    layer = await in_thread(_layer, build, fill, step.flags.link)
    with build.work.store.lease(layer.digest, layer.diff_id):
        await build.commit(layer, created_by, build.config)


def _owner(build: StageBuild, chown: str) -> tuple[int, int]:
    if not chown:
        return 0, 0
    tree = build.work.tree(build.image)
    try:
        return owner_ids(tree, chown)
    finally:
        tree.close()


async def _picked(
    build: StageBuild, step: Copy, destination: str, opened: list[SpooledTree | UnionTree]
) -> list[Picked]:
    """What the sources mean, downloads and heredocs included."""
    tree, where = await origin_tree(build, build.expand(step.flags.origin))
    if isinstance(tree, UnionTree):
        opened.append(tree)
    picked: list[Picked] = []
    heredocs = iter(step.heredocs)
    checksum = build.expand(step.flags.checksum)
    choose = pick_with_folders if step.flags.parents else pick
    for text in step.sources:
        if text.startswith("<<"):
            picked.append(_inline(build, next(heredocs), opened))
            continue
        source = build.expand(text)
        if isinstance(step, Add) and is_git_url(source):
            if checksum:
                raise InvalidParameter("checksum can't be specified for git sources")
            keep = step.flags.keep_git
            picked.append(await in_thread(_repository, build, source, opened, keep))
        elif isinstance(step, Add) and _URL.match(source):
            item = await in_thread(_remote, build, source, destination, opened)
            found = f"sha256:{item.tree.digest(item.node)}"
            if checksum and found != checksum:
                raise InvalidParameter(
                    f"digest mismatch {found}: {checksum}",
                    hint=f"{source} is not what the Dockerfile expects",
                )
            picked.append(item)
        elif checksum:
            raise InvalidParameter("checksum can't be specified for non-HTTP(S) sources")
        else:
            picked += await in_thread(partial(choose, tree, source, word=step.word, where=where))
    return picked


def _repository(
    build: StageBuild, source: str, opened: list[SpooledTree | UnionTree], keep_git: bool
) -> Picked:
    """ADD of a git repository: the files of one commit."""
    folder = build.work.folder()
    found = checkout(source, folder)
    tree = folder_tree(found, build.work.scratch, leave_out="" if keep_git else ".git")
    opened.append(tree)
    shutil.rmtree(folder, ignore_errors=True)
    top = tree.find("")
    assert top is not None
    return Picked(tree, top, "", is_local=False)


def _absolute(folder: str, path: str) -> str:
    """A destination in the image; a slash at the end is kept, `.` means a folder."""
    is_folder = path.endswith(("/", "/.")) or path in (".", "..")
    found = posixpath.normpath(posixpath.join("/", folder, path)).replace("//", "/")
    return found if found == "/" or not is_folder else f"{found}/"


def _layer(
    build: StageBuild, fill: Callable[[LayerPlan], None], is_linked: bool = False
) -> LayerBlob:
    """The layer that `fill` plans over the present image. Runs in a thread.

    A linked layer (`--link`) knows nothing of what is below it: it is the same over any image.
    """
    work = build.work
    base = work.tree(None if is_linked else build.image)
    plan = LayerPlan(base, work.scratch, work.time_ns())
    try:
        fill(plan)
        return ingest_tar(work.store, lambda write: plan.write(write, clamp_ns=work.clamp_ns))
    finally:
        plan.close()
        base.close()


def _inline(build: StageBuild, heredoc: Heredoc, opened: list[SpooledTree | UnionTree]) -> Picked:
    """A heredoc as a file of mode 0644."""
    text = heredoc.content
    if heredoc.expand:
        text = _expanded_text(text, build.variables(), build.work.escape)
    tree = SpooledTree(build.work.scratch)
    opened.append(tree)
    data = text.encode()
    entry = Entry(heredoc.name, mode=0o644, size=len(data), mtime_ns=build.work.time_ns())
    return Picked(tree, tree.add(heredoc.name, entry, [(0, data)]), heredoc.name, is_local=False)


def _expanded_text(text: str, variables: dict[str, str], escape: str) -> str:
    """Variables in a heredoc, as a shell expands them: its quotes are text, `\\$` is a dollar."""
    mark = re.escape(escape)
    pattern = rf"({mark}[${mark}])|({mark})|([\"' \t\r\n])"

    def protect(match: re.Match[str]) -> str:
        return match[1] or escape + (match[2] or match[3])

    return expand(re.sub(pattern, protect, text), variables, escape)


def _remote(
    build: StageBuild, url: str, destination: str, opened: list[SpooledTree | UnionTree]
) -> Picked:
    """A download: mode 0600, never unpacked, the server's time."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name and destination.endswith("/"):
        raise InvalidParameter(f"cannot determine filename for source {url}")
    name = name.replace("/", "_") or "download"
    folder = build.work.folder()
    fetched = build.work.ports.fetch(url, folder)
    tree = SpooledTree(Path(folder))
    opened.append(tree)
    size = fetched.path.stat().st_size
    entry = Entry(name, mode=0o600, size=size, mtime_ns=fetched.modified_ns)
    with open(fetched.path, "rb") as file:
        node = tree.add(name, entry, _pieces(file))
    fetched.path.unlink()
    return Picked(tree, node, name, is_local=False)


def _pieces(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while data := file.read(1 << 18):
        yield offset, data
        offset += len(data)


async def workdir_step(build: StageBuild, step: Workdir) -> None:
    """WORKDIR makes the folder as well, in a layer of its own."""
    path = words.workdir(build.config, build.expand(step.path))
    config = {**build.config, "WorkingDir": path}
    created_by = words.nop(config, f"WORKDIR {path}", tight=True)
    if await build.cached(created_by, config):
        return
    container = short_id(new_id())
    await build.say(f" ---> Running in {container}\n")

    def fill(plan: LayerPlan) -> None:
        if not plan.is_folder(path):
            plan.folder(path)

    layer = await in_thread(_layer, build, fill)
    with build.work.store.lease(layer.digest, layer.diff_id):
        await build.commit(layer, created_by, config)
    await build.say(f" ---> Removed intermediate container {container}\n")

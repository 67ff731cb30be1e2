"""A whole build as the classic builder's stream of JSON lines.

Stages that do not wait for each other run at the same time; their lines are told in the file's
order, each stage's when those before it are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator
from typing import Any

from labkit.base.dockerignore import IgnoreRules
from labkit.base.errors import InvalidParameter, LabkitError, NotFound
from labkit.base.ids import short_id
from labkit.host.image.builder.cache import BuildCache
from labkit.host.image.builder.expand import expand
from labkit.host.image.builder.instructions import Dockerfile
from labkit.host.image.builder.parser import parse
from labkit.host.image.builder.plan import Plan, make_plan
from labkit.host.image.builder.ports import BuildOptions
from labkit.host.image.builder.remote import remote_tree
from labkit.host.image.builder.stage import StageBuild
from labkit.host.image.builder.trees import SpooledTree
from labkit.host.image.builder.work import BuildPorts, StepFailed, Work, in_thread
from labkit.host.image.model import Image
from labkit.host.image.reference import Reference
from labkit.host.image.reference import parse as parse_reference
from labkit.host.image.standins.machine import architecture
from labkit.host.image.tarread import ByteSource

__all__ = ["build"]

_IGNORE_FILES = ("{dockerfile}.dockerignore", ".dockerignore")
_PREDEFINED_ALWAYS = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "SOURCE_DATE_EPOCH"}
)

Json = dict[str, Any]


async def build(
    ports: BuildPorts, options: BuildOptions, context: ByteSource
) -> AsyncGenerator[Json, None]:
    """Build from `context`, a tar (compressed or not), or `options.remote`; yields the lines.

    What is wrong before the first step (no Dockerfile, a parse error, a bad name) raises; what
    fails later is the last line, `{"errorDetail": {"code", "message"}, "error"}`. When the
    iterator is closed early, nothing of the step under way is left.
    """
    tags = [_tag(text) for text in options.tags]
    scratch = await in_thread(ports.store.layers.temporary_folder)
    tree: SpooledTree | None = None
    try:
        if options.remote:
            tree = await in_thread(remote_tree, options.remote, ports.fetch, scratch)
        else:
            tree = await in_thread(SpooledTree.from_tar, context, scratch)
        dockerfile = await in_thread(_read, tree, options)
        work, plan = _prepared(ports, options, dockerfile, tree, scratch)
        async with contextlib.aclosing(_told(work, plan, dockerfile, tags)) as lines:
            async for line in lines:
                yield line
    finally:
        if tree is not None:
            tree.close()
        await in_thread(lambda: shutil.rmtree(scratch, ignore_errors=True))


def _tag(text: str) -> Reference:
    found = parse_reference(text)
    if found.digest:
        raise InvalidParameter("build tag cannot contain a digest")
    return found.with_default_tag()


def _read(tree: SpooledTree, options: BuildOptions) -> Dockerfile:
    """The Dockerfile, parsed; then what .dockerignore excludes leaves the context."""
    name = options.dockerfile.strip("/") or "Dockerfile"
    node = tree.find(name)
    if node is None and name == "Dockerfile":
        node = tree.find("dockerfile")
    if node is None or node.is_folder:
        raise NotFound(
            f"Cannot locate specified Dockerfile: {options.dockerfile}",
            hint="docker build -f NAME names another one",
        )
    text = b"".join(data for _, data in tree.content(node))
    if not text.strip():
        raise InvalidParameter(f"the Dockerfile ({options.dockerfile}) cannot be empty")
    dockerfile = parse(text)
    for pattern in _IGNORE_FILES:
        found = tree.find(pattern.format(dockerfile=name))
        if found is not None and not found.is_folder:
            ignored = b"".join(data for _, data in tree.content(found)).decode("utf-8", "replace")
            rules = IgnoreRules(ignored)
            if rules:
                tree.leave_out(rules)
            break
    return dockerfile


def _prepared(
    ports: BuildPorts,
    options: BuildOptions,
    dockerfile: Dockerfile,
    tree: SpooledTree,
    scratch: Any,
) -> tuple[Work, Plan]:
    arguments = _global_arguments(dockerfile, options)

    def base_name(stage: Any) -> str:
        return expand(stage.base.image, arguments, dockerfile.escape)

    plan = make_plan(dockerfile, options.target, options.labels, base_name)
    sources: list[Image] = []
    for name in options.cache_from:
        with contextlib.suppress(LabkitError):  # as in Docker: a cache that is not there is none
            sources.append(ports.store.get(name))
    cache = BuildCache(ports.store, enabled=not options.no_cache, sources=sources)
    consumed = {name for step in dockerfile.arguments for name, _ in step.pairs}
    work = Work(
        ports,
        options,
        scratch,
        tree,
        dockerfile.stages,
        dockerfile.escape,
        arguments,
        cache,
        consumed,
    )
    return work, plan


def _global_arguments(dockerfile: Dockerfile, options: BuildOptions) -> dict[str, str]:
    """ARGs above the first FROM, and the platform's."""
    machine = architecture()
    wanted = (options.platform or f"linux/{machine}").split("/")
    found = {"BUILDPLATFORM": f"linux/{machine}", "BUILDOS": "linux", "BUILDARCH": machine}
    found |= {"TARGETPLATFORM": "/".join(wanted), "TARGETOS": wanted[0]}
    found |= {"TARGETARCH": wanted[1] if len(wanted) > 1 else machine}
    found |= {"TARGETVARIANT": wanted[2] if len(wanted) > 2 else "", "BUILDVARIANT": ""}
    for step in dockerfile.arguments:
        for name, default in step.pairs:
            given = options.arguments.get(name)
            if given is not None:
                found[name] = given
            elif default is not None:
                found[name] = expand(default, found, dockerfile.escape)
    return found


async def _told(
    work: Work, plan: Plan, dockerfile: Dockerfile, tags: list[Reference]
) -> AsyncGenerator[Json, None]:
    """All lines, the errors' included."""
    for number, step in enumerate(dockerfile.arguments, 1):
        yield {"stream": f"Step {number}/{plan.steps} : {step.source}\n"}
    for warning in dockerfile.warnings:
        yield {"stream": f"[Warning] {warning}\n"}
    try:
        async with contextlib.aclosing(_stages(work, plan)) as lines:
            async for line in lines:
                if not work.options.quiet:
                    yield line
        image = await work.results[plan.target.number]
        if image is None:
            raise InvalidParameter("No image was generated. Is your Dockerfile empty?")
        for line in await in_thread(_finish, work, image, tags):
            yield line
    except StepFailed as error:
        yield _failure(error.message, error.code)
    except LabkitError as error:
        yield _failure(error.message, None)
    except OSError as error:
        # The disk is full, a file is gone: what the kernel said is all there is to say.
        yield _failure(f"build failed: {error.strerror or error}", None)


def _failure(message: str, code: int | None) -> Json:
    detail: Json = {"message": message} if code is None else {"code": code, "message": message}
    return {"errorDetail": detail, "error": message}


def _finish(work: Work, image: Image, tags: list[Reference]) -> list[Json]:
    """Name the result; what is left to say."""
    lines: list[Json] = []
    given = {name for name in work.options.arguments if name.upper() not in _PREDEFINED_ALWAYS}
    unused = sorted(given - work.consumed)
    for tag in tags:
        work.store.set_tag(tag, image.id)
    if work.options.quiet:
        return [{"stream": f"{image.id}\n"}]
    if unused:
        names = " ".join(unused)
        lines.append({"stream": f"[Warning] One or more build-args [{names}] were not consumed\n"})
    lines.append({"stream": f"Successfully built {short_id(image.id)}\n"})
    lines += [{"stream": f"Successfully tagged {tag.familiar}\n"} for tag in tags]
    return lines


async def _stages(work: Work, plan: Plan) -> AsyncGenerator[Json, None]:
    """Start every stage; tell them one after the other."""
    queues: dict[int, asyncio.Queue[Json | None]] = {}
    try:
        for stage in plan.stages:
            queue: asyncio.Queue[Json | None] = asyncio.Queue()
            queues[stage.number] = queue
            build = StageBuild(work, stage, queue.put)
            work.results[stage.number] = asyncio.create_task(
                _run_stage(build, queue, plan.first_step[stage.number], plan.steps),
                name=f"build stage {stage.name}",
            )
        for stage in plan.stages:
            while (line := await queues[stage.number].get()) is not None:
                yield line
            await work.results[stage.number]
    finally:
        tasks = list(work.results.values())
        for task in tasks:
            task.cancel()
        # What a cancelled step has to clean up is part of the build.
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run_stage(
    build: StageBuild, queue: asyncio.Queue[Json | None], first_step: int, steps: int
) -> Image | None:
    try:
        return await build.run(first_step, steps)
    finally:
        await queue.put(None)

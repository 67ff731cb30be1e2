"""One stage, step by step: each instruction looks into the cache, or makes one more image."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from labkit.base.errors import Conflict, InvalidParameter, LabkitError
from labkit.base.ids import new_id, short_id
from labkit.host.image.builder import config as words
from labkit.host.image.builder.copystep import copy_step, workdir_step
from labkit.host.image.builder.expand import expand, expand_words
from labkit.host.image.builder.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    Stage,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from labkit.host.image.builder.parser import parse_trigger
from labkit.host.image.builder.plan import find_stage
from labkit.host.image.builder.runstep import run_step
from labkit.host.image.builder.work import Emit, Work, in_thread
from labkit.host.image.commit import add_layer
from labkit.host.image.index import LayerBlob
from labkit.host.image.model import Image

__all__ = ["StageBuild"]

_PREDEFINED = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
    | {"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}
)
_SIGNAL = re.compile(r"(SIG)?[A-Z]+[0-9]*([+-][0-9]+)?\Z|[0-9]{1,2}\Z", re.IGNORECASE)


class StageBuild:
    """The state of one stage: the image so far and the configuration for the next one."""

    def __init__(self, work: Work, stage: Stage, emit: Emit) -> None:
        self.work = work
        self.stage = stage
        self.emit = emit
        self.image: Image | None = None
        self.config: dict[str, Any] = {}
        self.author = ""
        self.arguments: dict[str, str] = {}
        self.has_cmd = False
        self.platform = ""

    async def say(self, text: str) -> None:
        await self.emit({"stream": text})

    # -- variables -------------------------------------------------------------------------------

    def variables(self) -> dict[str, str]:
        """What `$x` means now: ENV wins over ARG."""
        return {**self.arguments, **words.environment_of(self.config)}

    def expand(self, text: str) -> str:
        return expand(text, self.variables(), self.work.escape)

    def run_arguments(self) -> tuple[dict[str, str], dict[str, str]]:
        """Build arguments that RUN gets as environment: those that history tells, and proxies."""
        taken = words.environment_of(self.config)
        told = {name: value for name, value in self.arguments.items() if name not in taken}
        silent = {
            name: value
            for name, value in self.work.options.arguments.items()
            if name in _PREDEFINED and name not in told and name not in taken and value is not None
        }
        return told, silent

    # -- the stage -------------------------------------------------------------------------------

    async def run(self, first_step: int, steps: int) -> Image | None:
        """Build the stage; the result is None when it ends as `FROM scratch` began."""
        number = first_step
        await self.say(f"Step {number}/{steps} : {self.stage.base.source}\n")
        await self._at(self.stage.base, self._from)
        await self.say(f" ---> {short_id(self.image.id) if self.image else ''}\n")
        for step in self.stage.steps:
            number += 1
            await self.say(f"Step {number}/{steps} : {step.source}\n")
            await self.dispatch(step)
            await self.say(f" ---> {short_id(self.image.id) if self.image else ''}\n")
        if self.image is not None:
            await self.emit({"aux": {"ID": self.image.id}})
        return self.image

    async def _at(self, step: Instruction, act: Callable[[], Awaitable[None]]) -> None:
        """Errors of a step that is only wrong in its words name its line."""
        try:
            await act()
        except LabkitError as error:
            if error.hint is None:
                error.hint = f"line {step.line} of the Dockerfile: {step.source[:120]}"
            raise

    async def dispatch(self, step: Instruction) -> None:
        """Do one instruction."""
        if isinstance(step, Run):
            await self._at(step, lambda: run_step(self, step))
        elif isinstance(step, Copy | Add):
            await self._at(step, lambda: copy_step(self, step))
        elif isinstance(step, Workdir):
            await self._at(step, lambda: workdir_step(self, step))
        else:
            await self._at(step, lambda: self._note(step))

    async def _from(self) -> None:
        base = self.stage.base
        name = expand(base.image, self.work.global_arguments, self.work.escape)
        if not name:
            raise InvalidParameter(
                f"base name ({base.image}) should not be blank",
                hint="an ARG above FROM without a value? give it a default or --build-arg",
            )
        other = find_stage(self.work.stages, name, before=self.stage.number)
        if other is not None:
            # Shielded: who waits for a stage and is cancelled must not cancel it.
            self.image = await asyncio.shield(self.work.results[other.number])
        else:
            platform = expand(base.platform, self.work.global_arguments, self.work.escape)
            self.platform = platform or self.work.options.platform
            if name.lower() != "scratch":
                self.image = await self.work.image(name, self.platform, self.emit)
        if self.image is not None:
            self.config = json.loads(json.dumps(dict(self.image.defaults)))
            self.author = str(self.image.config.get("author") or "")
        if not words.environment_of(self.config).get("PATH"):
            self.config = words.set_environment(self.config, {"PATH": words.DEFAULT_PATH})
        triggers = self.config.pop("OnBuild", None) or []
        if triggers:
            await self._triggers(triggers)

    async def _triggers(self, triggers: list[str]) -> None:
        plural = "s" if len(triggers) > 1 else ""
        await self.say(f"# Executing {len(triggers)} build trigger{plural}\n")
        for trigger in triggers:
            await self.dispatch(parse_trigger(trigger, self.stage.base.line))

    # -- making images -----------------------------------------------------------------------------

    async def cached(self, created_by: str, config: Mapping[str, Any]) -> bool:
        """Take the step's result from an earlier build, if there is one."""
        epoch = self.work.options.epoch_s
        found = await in_thread(
            self.work.cache.find, self.image, created_by, config, epoch, self.platform
        )
        if found is None:
            return False
        await self.say(" ---> Using cache\n")
        self.image, self.config = found, dict(config)
        return True

    async def commit(
        self, layer: LayerBlob | None, created_by: str, config: Mapping[str, Any]
    ) -> None:
        """One more image: `layer` (None: no content) and `config` on top of the present one."""
        self.image = await in_thread(self._add, layer, created_by, config)
        self.config = dict(config)

    def _add(self, layer: LayerBlob | None, created_by: str, config: Mapping[str, Any]) -> Image:
        store, base = self.work.store, self.image
        with store.lock:
            if base is not None and store.index.image(base.id) is None:
                raise Conflict(
                    f"image {short_id(base.id)} was removed while it was being built on",
                    hint="build again; docker image prune takes the steps of running builds too",
                )
            found = add_layer(
                store,
                base,
                layer,
                defaults=config,
                created_by=created_by,
                author=self.author,
                parent=base.id if base is not None else "",
                created_ns=self.work.time_ns(),
                platform=self.platform,
            )
            return store.get(found)

    async def _note(self, step: Instruction) -> None:
        """An instruction that changes the configuration only."""
        if isinstance(step, Arg):
            comment, config = self._argument(step), self.config
        else:
            comment, config = _CHANGES[type(step)](self, step)
        created_by = words.nop(config, comment)
        if await self.cached(created_by, config):
            return
        container = short_id(new_id())
        await self.say(f" ---> Running in {container}\n")
        await self.commit(None, created_by, config)
        await self.say(f" ---> Removed intermediate container {container}\n")

    def _argument(self, step: Arg) -> str:
        shown = []
        for name, default in step.pairs:
            name = self.expand(name)
            value = None if default is None else self.expand(default)
            shown.append(name if value is None else f"{name}={value}")
            self.work.consumed.add(name)
            given = self.work.options.arguments.get(name)
            if given is not None:
                value = given
            elif value is None:
                value = self.work.global_arguments.get(name)
            if value is not None:
                self.arguments[name] = value
        return f"ARG {' '.join(shown)}"


_Change = tuple[str, dict[str, Any]]


def _env(build: StageBuild, step: Env) -> _Change:
    values = {build.expand(name): build.expand(value) for name, value in step.pairs}
    shown = " ".join(f"{name}={value}" for name, value in values.items())
    return f"ENV {shown}", words.set_environment(build.config, values)


def _label(build: StageBuild, step: Label) -> _Change:
    values = {build.expand(name): build.expand(value) for name, value in step.pairs}
    shown = " ".join(f"{name}={value}" for name, value in values.items())
    labels = {**(build.config.get("Labels") or {}), **values}
    return f"LABEL {shown}", {**build.config, "Labels": labels}


def _cmd(build: StageBuild, step: Cmd) -> _Change:
    argv = words.command_words(build.config, step.command)
    build.has_cmd = True
    return f"CMD {words.go_list(argv, quoted=True)}", {**build.config, "Cmd": argv}


def _entrypoint(build: StageBuild, step: Entrypoint) -> _Change:
    argv = words.command_words(build.config, step.command)
    config = {**build.config, "Entrypoint": argv}
    if not build.has_cmd:
        # A CMD that came with the base image was meant for the base's entrypoint.
        config.pop("Cmd", None)
    return f"ENTRYPOINT {words.go_list(argv, quoted=True)}", config


def _expose(build: StageBuild, step: Expose) -> _Change:
    ports = []
    for word in step.ports:
        ports += expand_words(word, build.variables(), build.work.escape)
    found = {**(build.config.get("ExposedPorts") or {})}
    found |= {port: {} for port in words.exposed(ports)}
    return f"EXPOSE {' '.join(ports)}", {**build.config, "ExposedPorts": found}


def _volume(build: StageBuild, step: Volume) -> _Change:
    paths = [build.expand(path) for path in step.paths]
    if not all(path.strip() for path in paths):
        raise InvalidParameter("VOLUME specified can not be an empty string")
    found = {**(build.config.get("Volumes") or {}), **{path: {} for path in paths}}
    return f"VOLUME {words.go_list(paths, quoted=False)}", {**build.config, "Volumes": found}


def _user(build: StageBuild, step: User) -> _Change:
    user = build.expand(step.user)
    return f"USER {user}", {**build.config, "User": user}


def _stop_signal(build: StageBuild, step: StopSignal) -> _Change:
    signal = build.expand(step.signal)
    if not _SIGNAL.match(signal):
        raise InvalidParameter(f"invalid signal: {signal}")
    return f"STOPSIGNAL {signal}", {**build.config, "StopSignal": signal}


def _maintainer(build: StageBuild, step: Maintainer) -> _Change:
    build.author = step.name
    return f"MAINTAINER {step.name}", build.config


def _onbuild(build: StageBuild, step: OnBuild) -> _Change:
    triggers = [*(build.config.get("OnBuild") or []), step.trigger]
    return f"ONBUILD {step.trigger}", {**build.config, "OnBuild": triggers}


def _shell(build: StageBuild, step: Shell) -> _Change:
    shown = words.go_list(step.words, quoted=False)
    return f"SHELL {shown}", {**build.config, "Shell": list(step.words)}


def _health(build: StageBuild, step: Healthcheck) -> _Change:
    value, shown = words.health(step)
    return shown, {**build.config, "Healthcheck": value}


_CHANGES: Mapping[type[Instruction], Callable[[StageBuild, Any], _Change]] = {
    Cmd: _cmd,
    Entrypoint: _entrypoint,
    Env: _env,
    Expose: _expose,
    Healthcheck: _health,
    Label: _label,
    Maintainer: _maintainer,
    OnBuild: _onbuild,
    Shell: _shell,
    StopSignal: _stop_signal,
    User: _user,
    Volume: _volume,
}

"""Docker's container Config: what an image can also say about a process.

Field meanings: Docker Engine API v1.50, schema ContainerConfig. `merged` joins a request with its
image's configuration by Docker's rules.
"""

# ruff: noqa: RUF009 - wire() declares a field, as dataclasses.field does

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.engine.wire import (
    BOOL,
    INT,
    INT64,
    SET,
    STRING,
    STRSLICE,
    list_of,
    map_of,
    optional,
    read,
    struct,
    wire,
)

__all__ = ["ContainerConfig", "Healthcheck", "command_line", "image_config", "merged"]


@dataclass(frozen=True)
class Healthcheck:
    """HEALTHCHECK: `test` is empty (inherit), ["NONE"], ["CMD", …] or ["CMD-SHELL", text].

    Durations are nanoseconds, 0 inherits the default (30 s, 30 s, 0 s, 5 s); retries 0 is 3.
    """

    test: tuple[str, ...] | None = wire("Test", STRSLICE, None, omitempty=True)
    interval_ns: int = wire("Interval", INT64, 0, omitempty=True)
    timeout_ns: int = wire("Timeout", INT64, 0, omitempty=True)
    start_period_ns: int = wire("StartPeriod", INT64, 0, omitempty=True)
    start_interval_ns: int = wire("StartInterval", INT64, 0, omitempty=True)
    retries: int = wire("Retries", INT, 0, omitempty=True)


@dataclass(frozen=True)
class ContainerConfig:
    """The portable half of a container's configuration."""

    hostname: str = wire("Hostname", STRING, "")
    domainname: str = wire("Domainname", STRING, "")
    user: str = wire("User", STRING, "")
    attach_stdin: bool = wire("AttachStdin", BOOL, False)
    attach_stdout: bool = wire("AttachStdout", BOOL, False)
    attach_stderr: bool = wire("AttachStderr", BOOL, False)
    exposed_ports: tuple[str, ...] | None = wire("ExposedPorts", SET, None, omitempty=True)
    tty: bool = wire("Tty", BOOL, False)
    open_stdin: bool = wire("OpenStdin", BOOL, False)
    stdin_once: bool = wire("StdinOnce", BOOL, False)
    env: tuple[str, ...] | None = wire("Env", list_of(STRING))
    cmd: tuple[str, ...] | None = wire("Cmd", STRSLICE)
    healthcheck: Healthcheck | None = wire("Healthcheck", struct(Healthcheck), omitempty=True)
    args_escaped: bool = wire("ArgsEscaped", BOOL, False, omitempty=True)
    image: str = wire("Image", STRING, "")
    volumes: tuple[str, ...] | None = wire("Volumes", SET)
    working_dir: str = wire("WorkingDir", STRING, "")
    entrypoint: tuple[str, ...] | None = wire("Entrypoint", STRSLICE)
    network_disabled: bool = wire("NetworkDisabled", BOOL, False, omitempty=True)
    mac_address: str = wire("MacAddress", STRING, "", omitempty=True)
    on_build: tuple[str, ...] | None = wire("OnBuild", list_of(STRING))
    labels: dict[str, str] | None = wire("Labels", map_of(STRING))
    stop_signal: str = wire("StopSignal", STRING, "", omitempty=True)
    stop_timeout: int | None = wire("StopTimeout", optional(INT), omitempty=True)
    shell: tuple[str, ...] | None = wire("Shell", STRSLICE, omitempty=True)


def image_config(config: Mapping[str, Any]) -> ContainerConfig:
    """The configuration inside an OCI image config (its `config` member, or that member itself)."""
    inner = config.get("config", config)
    return read(ContainerConfig, inner or {}, name="ImageConfig")


def _merged_env(
    own: tuple[str, ...] | None, image: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """The request's variables, then the image's whose names the request does not set."""
    if not own:
        return image
    names = {entry.partition("=")[0] for entry in own}
    extra = tuple(entry for entry in image or () if entry.partition("=")[0] not in names)
    return own + extra


def _merged_health(own: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """Each value not given comes from the image; a given test stands for itself."""
    if own is None or image is None:
        return own or image
    return Healthcheck(
        test=own.test or image.test,
        interval_ns=own.interval_ns or image.interval_ns,
        timeout_ns=own.timeout_ns or image.timeout_ns,
        start_period_ns=own.start_period_ns or image.start_period_ns,
        start_interval_ns=own.start_interval_ns or image.start_interval_ns,
        retries=own.retries or image.retries,
    )


def merged(own: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """The request completed from its image.

    An entrypoint in the request makes the image's Cmd void (it was written for the image's
    entrypoint); `[""]` clears the image's entrypoint. Labels and ports are unions, in which the
    request wins.
    """
    cmd, entrypoint = own.cmd, own.entrypoint
    args_escaped = own.args_escaped
    if not entrypoint:
        if not cmd:
            cmd, args_escaped = image.cmd, image.args_escaped
        if entrypoint is None:
            entrypoint = image.entrypoint
    if entrypoint == ("",):
        entrypoint = None
    labels = {**(image.labels or {}), **(own.labels or {})}
    return replace(
        own,
        user=own.user or image.user,
        exposed_ports=tuple(dict.fromkeys((own.exposed_ports or ()) + (image.exposed_ports or ())))
        or None,
        env=_merged_env(own.env, image.env),
        cmd=cmd,
        entrypoint=entrypoint,
        args_escaped=args_escaped,
        healthcheck=_merged_health(own.healthcheck, image.healthcheck),
        volumes=tuple(dict.fromkeys((own.volumes or ()) + (image.volumes or ()))) or None,
        working_dir=own.working_dir or image.working_dir,
        labels=labels,
        stop_signal=own.stop_signal or image.stop_signal,
        shell=own.shell or image.shell,
        on_build=own.on_build,
    )


def command_line(config: ContainerConfig) -> tuple[str, ...]:
    """Entrypoint and Cmd as one argument vector; InvalidParameter when both are empty."""
    argv = (config.entrypoint or ()) + (config.cmd or ())
    if not argv:
        raise InvalidParameter("no command specified")
    return argv

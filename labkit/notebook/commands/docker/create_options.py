"""From the flags of `run` and `create` to the body of POST /containers/create.

The result equals what Docker's client sends, field by field (measured), because an engine may
tell an absent field from an empty one. Errors are CommandError with the client's sentence, without
its `docker: ` in front.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.create_network import endpoints
from labkit.notebook.commands.docker.create_ports import exposed, published
from labkit.notebook.commands.flags import Flags

__all__ = ["create_body", "mapping", "parse_restart", "read_environment", "read_labels"]

_DEVICE_MODE = re.compile(r"[rwm]+\Z")


def create_body(flags: Flags, args: Sequence[str], cwd: Path) -> dict[str, Any]:
    """The whole body for image `args[0]` and its arguments."""
    _check(flags)
    bindings, ports = published(flags["publish"])
    ports = exposed(flags["expose"], ports)
    binds, volumes = _volumes(flags["volume"], cwd)
    attach = flags["attach"]
    stdin = bool(flags["interactive"]) or "stdin" in attach
    body: dict[str, Any] = {
        "Hostname": flags["hostname"],
        "Domainname": flags["domainname"],
        "User": flags["user"],
        "AttachStdin": stdin,
        "AttachStdout": not attach or "stdout" in attach,
        "AttachStderr": not attach or "stderr" in attach,
        "Tty": flags["tty"],
        "OpenStdin": flags["interactive"],
        "StdinOnce": flags["interactive"] and stdin,
        "Env": read_environment(flags["env-file"], flags["env"], cwd) or None,
        "Cmd": list(args[1:]) or None,
        "Image": args[0],
        "Volumes": volumes,
        "WorkingDir": flags["workdir"],
        "Entrypoint": [flags["entrypoint"]] if flags.given("entrypoint") else None,
        "OnBuild": None,
        "Labels": read_labels(flags["label-file"], flags["label"], cwd),
    }
    if ports:
        body["ExposedPorts"] = {port: {} for port in ports}
    if flags["stop-signal"]:
        body["StopSignal"] = flags["stop-signal"]
    if flags.given("stop-timeout"):
        body["StopTimeout"] = flags["stop-timeout"]
    health = _health(flags)
    if health is not None:
        body["Healthcheck"] = health
    body["HostConfig"] = _host_config(flags, cwd, binds, bindings)
    mode, body["NetworkingConfig"] = endpoints(flags)
    body["HostConfig"]["NetworkMode"] = mode
    return body


def _check(flags: Flags) -> None:
    mac = flags["mac-address"]
    if mac and not re.fullmatch(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", mac.strip()):
        raise CommandError(f"{mac} is not a valid mac address")
    swappiness = flags["memory-swappiness"]
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise CommandError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    for flag, word in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        if not _is_valid_mode(flag, flags[flag]):
            raise CommandError(f"--{flag}: invalid {word} mode")


def _is_valid_mode(flag: str, mode: str) -> bool:
    if mode in ("", "host"):
        return True
    if flag == "cgroupns":
        return mode == "private"
    if flag == "pid":
        return mode.startswith("container:") and len(mode) > len("container:")
    return False


def _volumes(specifications: Sequence[str], cwd: Path) -> tuple[list[str] | None, dict[str, Any]]:
    """Binds and anonymous volumes of -v."""
    binds: list[str] = []
    volumes: dict[str, Any] = {}
    for text in dict.fromkeys(specifications):
        source, colon, rest = text.partition(":")
        if not text or (colon and not rest) or text.startswith(":"):
            raise CommandError(f"invalid spec: {text}: empty section between colons")
        if rest.count(":") > 1:
            raise CommandError(f"invalid spec: {text}: too many colons")
        if not colon or (len(source) == 1 and source.isalpha()):
            # A single letter before the colon is a Windows drive to Docker's client, not a name.
            volumes[text] = {}
            continue
        if source.startswith("."):
            source = os.path.normpath(cwd / source)
        elif source.startswith("~"):
            source = os.path.expanduser(source)
        binds.append(f"{source}:{rest}")
    return binds or None, volumes


def _read_lines(path: Path, name: str, what: str) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"open {name}: {reason}") from None
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise CommandError(f"{name}: {what} contains invalid utf8 bytes") from None
    return [line.rstrip("\r") for line in text.split("\n")]


def _file_values(files: Sequence[str], cwd: Path, what: str, from_environment: bool) -> list[str]:
    values: list[str] = []
    for name in files:
        for line in _read_lines(cwd / name, name, what):
            line = line.lstrip()
            if not line or line.startswith("#"):
                continue
            key, equals, _ = line.partition("=")
            if any(blank in key for blank in " \t"):
                raise CommandError(
                    f"invalid env file ({name}): variable '{key}' contains whitespaces"
                )
            if not key:
                raise CommandError(f"invalid env file ({name}): no variable name on line '{line}'")
            if equals:
                values.append(line)
            elif from_environment and key in os.environ:
                values.append(f"{key}={os.environ[key]}")
            elif not from_environment:
                values.append(line)
    return values


def read_environment(files: Sequence[str], given: Sequence[str], cwd: Path) -> list[str]:
    """Variables of --env-file, then those of -e."""
    return [*_file_values(files, cwd, "env file", True), *given]


def read_labels(files: Sequence[str], given: Sequence[str], cwd: Path) -> dict[str, str]:
    """Labels of --label-file, then those of --label; later ones win."""
    return mapping([*_file_values(files, cwd, "label file", False), *given])


def mapping(values: Sequence[str]) -> dict[str, str]:
    """`a=b` pairs as a dictionary; later ones win, a missing value is empty."""
    pairs = (value.partition("=") for value in values)
    return {key: content for key, _, content in pairs}


def _health(flags: Flags) -> dict[str, Any] | None:
    times = ("interval", "timeout", "start-period", "start-interval")
    given = flags["health-cmd"] or flags["health-retries"]
    given = given or any(flags[f"health-{name}"] for name in times)
    if flags["no-healthcheck"]:
        if given:
            raise CommandError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    health: dict[str, Any] = {}
    if flags["health-cmd"]:
        health["Test"] = ["CMD-SHELL", flags["health-cmd"]]
    for name, key in zip(
        times, ("Interval", "Timeout", "StartPeriod", "StartInterval"), strict=True
    ):
        if flags[f"health-{name}"] < 0:
            raise CommandError(f"--health-{name} cannot be negative")
        if flags[f"health-{name}"]:
            health[key] = flags[f"health-{name}"]
    if flags["health-retries"] < 0:
        raise CommandError("--health-retries cannot be negative")
    if flags["health-retries"]:
        health["Retries"] = flags["health-retries"]
    return health


def parse_restart(text: str) -> dict[str, Any]:
    """`on-failure:3` as RestartPolicy."""
    name, colon, count = text.partition(":")
    if not text:
        return {"Name": "", "MaximumRetryCount": 0}
    if not name and colon:
        raise CommandError("invalid restart policy format: no policy provided before colon")
    if not colon:
        return {"Name": name, "MaximumRetryCount": 0}
    if not re.fullmatch(r"[+-]?\d+", count):
        raise CommandError("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count)}


def _device(text: str) -> dict[str, str]:
    parts = text.split(":")
    if len(parts) > 3:
        raise CommandError(f"invalid device specification: {text}")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 3:
        target, permissions = parts[1], parts[2]
    elif len(parts) == 2:
        if _DEVICE_MODE.match(parts[1]):
            permissions = parts[1]
        else:
            target = parts[1]
    return {
        "PathOnHost": source,
        "PathInContainer": target or source,
        "CgroupPermissions": permissions,
    }


def _security(flags: Flags, cwd: Path) -> tuple[dict[str, Any], list[str] | None]:
    options: list[str] = []
    paths: dict[str, Any] = {"MaskedPaths": None, "ReadonlyPaths": None}
    for text in flags["security-opt"]:
        name, equals, value = text.partition("=")
        if not equals and name != "no-new-privileges":
            name, colon, value = text.partition(":")
            if not colon:
                raise CommandError(f'Invalid --security-opt: "{text}"')
        if name == "systempaths" and value == "unconfined":
            paths = {"MaskedPaths": [], "ReadonlyPaths": []}
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            try:
                profile = (cwd / value).read_text()
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise CommandError(
                    f"opening seccomp profile ({value}) failed: open {value}: {reason}"
                ) from None
            text = "seccomp=" + re.sub(r"\s*\n\s*", "", profile)
        options.append(text)
    return paths, options or None


def _logging(flags: Flags) -> dict[str, Any]:
    options = mapping(flags["log-opt"])
    if flags["log-driver"] == "none" and options:
        raise CommandError("invalid logging opts for driver none")
    return {"Type": flags["log-driver"], "Config": options}


def _capabilities(add: Sequence[str], drop: Sequence[str]) -> dict[str, list[str] | None]:
    """Full names, sorted; ALL makes the others superfluous and adding wins over dropping."""

    def names(given: Sequence[str]) -> set[str]:
        found = {name.upper().strip() for name in given}
        found = {x if x == "ALL" or x.startswith("CAP_") else f"CAP_{x}" for x in found}
        return {"ALL"} if "ALL" in found else found

    added = names(add)
    return {"CapAdd": sorted(added) or None, "CapDrop": sorted(names(drop) - added) or None}


def _host_config(
    flags: Flags, cwd: Path, binds: list[str] | None, bindings: dict[str, Any]
) -> dict[str, Any]:
    restart = parse_restart(flags["restart"])
    if flags["rm"] and restart["Name"] not in ("", "no"):
        raise CommandError("conflicting options: cannot specify both --restart and --rm")
    paths, security = _security(flags, cwd)
    config: dict[str, Any] = {
        "Binds": binds,
        "ContainerIDFile": flags["cidfile"],
        "LogConfig": _logging(flags),
        "NetworkMode": "default",
        "PortBindings": bindings,
        "RestartPolicy": restart,
        "AutoRemove": flags["rm"],
        "VolumeDriver": flags["volume-driver"],
        "VolumesFrom": flags["volumes-from"] or None,
        "ConsoleSize": [0, 0],
        **_capabilities(flags["cap-add"], flags["cap-drop"]),
        "CgroupnsMode": flags["cgroupns"],
        "Dns": flags["dns"],
        "DnsOptions": flags["dns-option"],
        "DnsSearch": flags["dns-search"],
        "ExtraHosts": flags["add-host"] or None,
        "GroupAdd": flags["group-add"] or None,
        "IpcMode": flags["ipc"],
        "Cgroup": "",
        "Links": flags["link"] or None,
        "OomScoreAdj": flags["oom-score-adj"],
        "PidMode": flags["pid"],
        "Privileged": flags["privileged"],
        "PublishAllPorts": flags["publish-all"],
        "ReadonlyRootfs": flags["read-only"],
        "SecurityOpt": security,
        "UTSMode": flags["uts"],
        "UsernsMode": flags["userns"],
        "ShmSize": flags["shm-size"],
        "Isolation": flags["isolation"],
        **_resources(flags),
        **paths,
    }
    tmpfs = {key: value for key, _, value in (text.partition(":") for text in flags["tmpfs"])}
    optional: dict[str, Any] = {
        "Tmpfs": tmpfs,
        "StorageOpt": mapping(flags["storage-opt"]),
        "Sysctls": mapping(flags["sysctl"]),
        "Annotations": mapping(flags["annotation"]),
        "Runtime": flags["runtime"],
        "Mounts": _mounts(flags["mount"], cwd),
    }
    config |= {key: value for key, value in optional.items() if value}
    if flags.given("init"):
        config["Init"] = flags["init"]
    return config


def _mounts(mounts: Sequence[dict[str, Any]], cwd: Path) -> list[dict[str, Any]]:
    resolved = []
    for mount in mounts:
        source = mount.get("Source", "")
        if mount["Type"] == "bind" and source.startswith("."):
            mount = {**mount, "Source": os.path.normpath(cwd / source)}
        resolved.append(mount)
    return resolved


def _resources(flags: Flags) -> dict[str, Any]:
    return {
        "CpuShares": flags["cpu-shares"],
        "Memory": flags["memory"],
        "NanoCpus": flags["cpus"],
        "CgroupParent": flags["cgroup-parent"],
        "BlkioWeight": flags["blkio-weight"],
        "BlkioWeightDevice": flags["blkio-weight-device"],
        "BlkioDeviceReadBps": flags["device-read-bps"],
        "BlkioDeviceWriteBps": flags["device-write-bps"],
        "BlkioDeviceReadIOps": flags["device-read-iops"],
        "BlkioDeviceWriteIOps": flags["device-write-iops"],
        "CpuPeriod": flags["cpu-period"],
        "CpuQuota": flags["cpu-quota"],
        "CpuRealtimePeriod": flags["cpu-rt-period"],
        "CpuRealtimeRuntime": flags["cpu-rt-runtime"],
        "CpusetCpus": flags["cpuset-cpus"],
        "CpusetMems": flags["cpuset-mems"],
        "Devices": [_device(text) for text in flags["device"]],
        "DeviceCgroupRules": flags["device-cgroup-rule"] or None,
        "DeviceRequests": flags["gpus"] or None,
        "MemoryReservation": flags["memory-reservation"],
        "MemorySwap": flags["memory-swap"],
        "MemorySwappiness": flags["memory-swappiness"],
        "OomKillDisable": flags["oom-kill-disable"],
        "PidsLimit": flags["pids-limit"],
        "Ulimits": sorted(
            {limit["Name"]: limit for limit in flags["ulimit"]}.values(),
            key=lambda limit: str(limit["Name"]),
        ),
        "CpuCount": flags["cpu-count"],
        "CpuPercent": flags["cpu-percent"],
        "IOMaximumIOps": flags["io-maxiops"],
        "IOMaximumBandwidth": flags["io-maxbandwidth"],
    }

"""Reading Docker's JSON: types, defaults, merging, limits."""

from __future__ import annotations

from typing import Any

import pytest
from engine_fakes import World

from labkit.base.errors import InvalidParameter, LabkitError
from labkit.host.engine.config import ContainerConfig, command_line, image_config, merged
from labkit.host.engine.filters import parse, parse_time_ns
from labkit.host.engine.hostconfig import HostConfig
from labkit.host.engine.listing import status_text
from labkit.host.engine.signals import parse_signal
from labkit.host.engine.wire import read, write

MIB = 1 << 20


@pytest.mark.parametrize(
    ("body", "found", "field", "go"),
    [
        ({"Memory": "1g"}, "string", "Memory", "int64"),
        ({"Memory": 1.5}, "number 1.5", "Memory", "int64"),
        ({"Binds": "x"}, "string", "Binds", "[]string"),
        ({"Privileged": 1}, "number", "Privileged", "bool"),
        ({"NetworkMode": []}, "array", "NetworkMode", "string"),
        ({"LogConfig": True}, "bool", "LogConfig", "container.LogConfig"),
    ],
)
def test_a_wrong_type_is_refused_in_gos_words(
    body: dict[str, Any], found: str, field: str, go: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        read(HostConfig, body)
    assert caught.value.message == (
        f"invalid JSON: json: cannot unmarshal {found} into Go struct field HostConfig.{field} of "
        f"type {go}"
    )


def test_keys_match_without_case_unknown_ones_are_ignored_and_null_is_absent() -> None:
    found = read(HostConfig, {"memory": 7, "Nosuch": [], "Binds": None})
    assert found.memory == 7
    assert found.binds is None


def test_what_is_written_reads_back_the_same() -> None:
    body = {
        "Binds": ["/a:/b"],
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "1"}], "81/tcp": None},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "PidsLimit": None,
        "Init": False,
    }
    found = read(HostConfig, body)
    assert read(HostConfig, write(found)) == found


def test_a_command_may_be_a_string_or_a_list() -> None:
    assert read(ContainerConfig, {"Cmd": "ls"}).cmd == ("ls",)
    assert read(ContainerConfig, {"Cmd": ["ls", "-l"]}).cmd == ("ls", "-l")


def config(**values: Any) -> ContainerConfig:
    return read(ContainerConfig, values)


SHELL, EXEC = ["/bin/sh", "-c", "e"], ["e", "p"]


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "own", "expected"),
    [
        (None, ["c", "p"], None, ("c", "p")),
        (None, ["/bin/sh", "-c", "c"], None, ("/bin/sh", "-c", "c")),
        (SHELL, None, None, tuple(SHELL)),
        (SHELL, ["c"], None, (*SHELL, "c")),
        (EXEC, None, None, ("e", "p")),
        (EXEC, ["c"], None, ("e", "p", "c")),
        (EXEC, ["c"], {"Cmd": ["x"]}, ("e", "p", "x")),
        (EXEC, ["c"], {"Entrypoint": ["z"]}, ("z",)),
        (EXEC, ["c"], {"Entrypoint": [""], "Cmd": ["x"]}, ("x",)),
        (None, ["c"], {"Cmd": ["x", "y"]}, ("x", "y")),
    ],
)
def test_cmd_and_entrypoint_meet_as_docker_documents(
    entrypoint: Any, cmd: Any, own: Any, expected: tuple[str, ...]
) -> None:
    image = image_config({"config": {"Entrypoint": entrypoint, "Cmd": cmd}})
    assert command_line(merged(config(**(own or {})), image)) == expected


def test_nothing_to_run_is_no_command_specified() -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        command_line(merged(config(), image_config({})))


def test_environment_labels_ports_and_volumes_are_merged() -> None:
    image = image_config({"config": {
        "Env": ["A=1", "B=2"], "Labels": {"l": "i", "m": "i"}, "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}}, "User": "u", "StopSignal": "SIGQUIT",
    }})  # fmt: skip
    found = merged(config(Env=["B=3"], Labels={"l": "own"}, Volumes={"/w": {}}), image)
    assert found.env == ("B=3", "A=1")
    assert found.labels == {"l": "own", "m": "i"}
    assert found.exposed_ports == ("80/tcp",)
    assert found.volumes == ("/w", "/v")
    assert (found.user, found.stop_signal) == ("u", "SIGQUIT")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"Memory": MIB}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 64 * MIB, "MemorySwap": 32 * MIB},
         "Minimum memoryswap limit should be larger than memory limit, see usage"),
        ({"MemorySwap": 32 * MIB},
         "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"Memory": 16 * MIB, "MemoryReservation": 32 * MIB},
         "Minimum memory limit can not be less than memory reservation limit, see usage"),
        ({"NanoCpus": 10**15}, "Range of CPUs is from 0.01 to"),
        ({"NanoCpus": 10**9, "CpuQuota": 5000},
         "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 5}, "CPU cfs period can not be less than 1ms"),
        ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus"),
        ({"CpusetCpus": "999"}, "Requested CPUs are not available - requested 999, available: 0"),
        ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
        ({"OomScoreAdj": 2000}, "range for oom score adj is"),
        ({"RestartPolicy": {"Name": "often"}}, "invalid restart policy: unknown policy 'often'"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}},
         "maximum retry count can only be used with 'on-failure'"),
        ({"RestartPolicy": {"Name": "always"}, "AutoRemove": True},
         "can't create 'AutoRemove' container with restart policy"),
        ({"LogConfig": {"Type": "fluent"}}, "no log driver named 'fluent' is registered"),
        ({"LogConfig": {"Type": "json-file", "Config": {"nosuch": "1"}}},
         "unknown log opt 'nosuch' for json-file log driver"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-file": "0"}}},
         "max-file cannot be less than 1"),
        ({"NetworkMode": "container:c1", "Dns": ["1.1.1.1"]},
         "conflicting options: dns and the network mode"),
        ({"ExtraHosts": ["x:nonsense"]}, 'invalid IP address in add-host: "nonsense"'),
        ({"PidMode": "strange"}, "invalid PID mode: strange"),
        ({"Runtime": "nosuch"}, "unknown or invalid runtime name: nosuch"),
        ({"Binds": ["/a:b"]}, "mount path must be absolute"),
        ({"Binds": ["/a:/b", "/c:/b"]}, "Duplicate mount point: /b"),
        ({"Binds": ["/a:/b:maybe"]}, "invalid mode: maybe"),
        ({"Mounts": [{"Type": "bind", "Source": "/no/such/place", "Target": "/x"}]},
         'invalid mount config for type "bind": bind source path does not exist: /no/such/place'),
    ],
)  # fmt: skip
async def test_nonsense_on_the_host_side_is_refused_in_dockers_words(
    world: World, host: dict[str, Any], words: str
) -> None:
    with pytest.raises(LabkitError) as caught:
        await world.create("c2", HostConfig=host)
    assert words in caught.value.message
    assert not world.context.containers
    assert not world.snapshots.containers()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"WorkingDir": "here"}, "the working directory 'here' is invalid"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"StopSignal": "SIGNOSUCH"}, "invalid signal: SIGNOSUCH"),
        ({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 5}},
         "Interval in Healthcheck cannot be less than 1ms"),
    ],
)  # fmt: skip
async def test_nonsense_in_the_config_is_refused(
    world: World, body: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        await world.create(**body)
    assert words in caught.value.message


async def test_an_empty_body_is_refused(world: World) -> None:
    with pytest.raises(InvalidParameter, match="config cannot be empty"):
        await world.engine.container_create({"HostConfig": {}})


async def test_inspect_has_every_key_of_docker_28(world: World) -> None:
    await world.run()
    found = await world.engine.container_inspect("c1")
    assert set(found) == {
        "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath",
        "HostsPath", "LogPath", "Name", "RestartCount", "Driver", "Platform", "MountLabel",
        "ProcessLabel", "AppArmorProfile", "ExecIDs", "HostConfig", "GraphDriver", "Mounts",
        "Config", "NetworkSettings",
    }  # fmt: skip
    assert set(found["State"]) == {
        "Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "Pid", "ExitCode",
        "Error", "StartedAt", "FinishedAt",
    }  # fmt: skip
    assert found["LogPath"].startswith(f"/var/lib/docker/containers/{found['Id']}/")
    assert found["Config"]["Hostname"] == found["Id"][:12]
    assert found["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"


async def test_lists_are_filtered_as_docker_filters(world: World) -> None:
    (await world.run("web1", Labels={"tier": "web"})).exit(3)
    await world.ended("web1")
    await world.run("web2", Labels={"tier": "web"})
    await world.create("db", Labels={"tier": "db"}, ExposedPorts={"5432/tcp": {}})

    async def names(**filters: list[str]) -> list[str]:
        rows = await world.engine.container_list(all=True, filters=filters)
        return [row["Names"][0] for row in rows]

    assert await names() == ["/db", "/web2", "/web1"]
    assert await names(name=["web"]) == ["/web2", "/web1"]
    assert await names(name=["^/web1$"]) == ["/web1"]
    assert await names(status=["exited"]) == ["/web1"]
    assert await names(exited=["3"]) == ["/web1"]
    assert await names(label=["tier=db"]) == ["/db"]
    assert await names(before=["web2"]) == ["/web1"]
    assert await names(since=["web1"]) == ["/db", "/web2"]
    assert await names(ancestor=["busybox"], expose=["5000-6000"]) == ["/db"]
    assert await names(ancestor=["nosuch"]) == []
    running = await world.engine.container_list()
    assert [row["Names"] for row in running] == [["/web2"]]
    with pytest.raises(InvalidParameter, match="invalid filter 'status=nosuch'"):
        await names(status=["nosuch"])
    with pytest.raises(InvalidParameter, match="invalid filter 'nosuch'"):
        await names(nosuch=["x"])


async def test_status_texts_are_dockers(world: World) -> None:
    await world.create()
    container = world.context.find("c1")
    base = 1_000_000_000_000

    def text(**values: Any) -> str:
        container.state = container.state.changed(**values)
        return status_text(container, base + 180 * 10**9)

    assert text() == "Created"
    assert text(status="running", started_at_ns=base) == "Up 3 minutes"
    assert text(health={"Status": "healthy"}) == "Up 3 minutes (healthy)"
    assert text(health={"Status": "starting"}) == "Up 3 minutes (health: starting)"
    assert text(status="paused", health=None) == "Up 3 minutes (Paused)"
    assert text(status="exited", finished_at_ns=base, exit_code=137) == (
        "Exited (137) 3 minutes ago"
    )
    assert text(status="restarting") == "Restarting (137) 3 minutes ago"
    container.state = container.state.changed(status="exited")


def test_filters_come_in_two_spellings() -> None:
    assert parse('{"name":["a"],"x":{"b":true,"c":false}}') == {"name": ["a"], "x": ["b"]}
    assert parse("") == {}
    with pytest.raises(InvalidParameter):
        parse("[1]")


def test_times_are_seconds_dates_or_durations_back() -> None:
    assert parse_time_ns("5.25", 0) == 5_250_000_000
    assert parse_time_ns("1970-01-02", 0) == 86_400 * 10**9
    assert parse_time_ns("1970-01-01T01:00:00.5+01:00", 0) == 500_000_000
    assert parse_time_ns("10s", 60 * 10**9) == 50 * 10**9


def test_signals_have_many_spellings() -> None:
    assert parse_signal("KILL") == parse_signal("sigkill") == parse_signal("9") == 9
    assert parse_signal("RTMIN+3") == 37
    for wrong in ("0", "65", "NOSUCH", "", "SIG"):
        with pytest.raises(InvalidParameter):
            parse_signal(wrong)


async def test_a_named_volume_is_made_filled_and_protected(world: World) -> None:
    first = await world.create("c1", HostConfig={"Binds": ["data:/etc", "/tmp:/host:ro"]})
    await world.engine.container_start("c1")
    folder = world.context.volumes.folder("data")
    assert (folder / "passwd").exists()
    mounts = (await world.engine.container_inspect("c1"))["Mounts"]
    assert mounts[0]["Source"] == "/var/lib/docker/volumes/data/_data"
    assert (mounts[1]["Type"], mounts[1]["RW"]) == ("bind", False)
    with pytest.raises(LabkitError, match=rf"remove data: volume is in use - \[{first}\]"):
        await world.context.volumes.remove("data")
    await world.reopen()
    assert world.context.volumes.get("data").name == "data"


async def test_anonymous_volumes_go_with_their_container_when_asked(world: World) -> None:
    await world.create("c1", Volumes={"/v": {}})
    assert len(world.context.volumes.names()) == 1
    await world.engine.container_remove("c1", volumes=True)
    assert not world.context.volumes.names()


async def test_info_counts_containers_and_says_what_does_not_hold(world: World) -> None:
    await world.run()
    found = await world.engine.info()
    assert (found["Containers"], found["ContainersRunning"], found["Images"]) == (1, 1, 1)
    assert found["Swarm"]["LocalNodeState"] == "inactive"
    assert "bridge" in found["Plugins"]["Network"]
    version = world.engine.version()
    assert version["ApiVersion"] == "1.50"
    assert {part["Name"] for part in version["Components"]} == {"Engine", "labkit-shim"}


async def test_an_unknown_capability_is_refused_when_it_is_asked_for(world: World) -> None:
    body = {"Image": "busybox", "HostConfig": {"CapAdd": ["NOSUCH"]}}
    with pytest.raises(InvalidParameter, match='invalid CapAdd: unknown capability: "NOSUCH"'):
        await world.engine.container_create(body)

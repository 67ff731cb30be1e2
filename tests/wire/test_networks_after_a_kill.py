"""kill -9 of the daemon while containers join and leave networks: links and records agree after."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator

import pytest

from labkit.base.errors import SystemFailure
from labkit.host.isolation.anchor import find_anchor
from labkit.host.network import links
from labkit.host.network.namespaces import NamespaceWorker, open_namespace
from labkit.host.network.netlink import NetlinkSocket

from .conftest import Lab, private_lab

KILLS = 4


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with private_lab() as found:
        status, text = found.request("POST", "/images/create?fromImage=busybox&tag=latest")
        assert status == 200, text
        yield found


def start(lab: Lab, name: str, network: str) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "StopSignal": "SIGKILL",
        "HostConfig": {"NetworkMode": network},
    }
    status, found = lab.request("POST", f"/containers/create?name={name}", body)
    assert status == 201, found
    status, found = lab.request("POST", f"/containers/{name}/start")
    assert status == 204, found


def churn(lab: Lab, ended: threading.Event) -> None:
    """Connect, disconnect, make and remove until the daemon is gone."""
    number = 0
    while not ended.is_set():
        number += 1
        try:
            body = {"Container": "mover"}
            lab.request("POST", "/networks/blue/connect", body)
            lab.request("POST", "/networks/create", {"Name": f"n{number}"})
            lab.request("POST", "/networks/blue/disconnect", body)
            lab.request("DELETE", f"/networks/n{number}")
        except (OSError, ValueError):
            return
        except Exception:  # noqa: BLE001 - half an answer of a daemon that is dying
            return


def inside(pid: int) -> dict[str, str]:
    """Interfaces of a container by what its namespace holds: name to MAC address."""
    try:
        namespace = open_namespace(pid)
    except SystemFailure:
        return {}

    def work() -> dict[str, str]:
        with NetlinkSocket() as handle:
            return {link.name: link.mac for link in links.list_links(handle)}

    return NamespaceWorker.run_nowait(namespace, work)


def check(lab: Lab) -> None:
    """What the engine says is what the kernel has, and nothing else is there."""
    veths = 0
    for name in ("mover", "stayer"):
        _, shown = lab.request("GET", f"/containers/{name}/json")
        wanted = {
            endpoint["MacAddress"] for endpoint in shown["NetworkSettings"]["Networks"].values()
        }
        found = inside(shown["State"]["Pid"])
        del found["lo"]
        assert set(found.values()) == wanted, (name, shown["NetworkSettings"], lab.log())
        veths += len(found)
    host = find_anchor(lab.paths)
    assert host is not None

    def work() -> list[str]:
        with NetlinkSocket() as handle:
            return [link.name for link in links.list_links(handle)]

    names = NamespaceWorker.run_nowait(host.net, work)
    assert len([name for name in names if name.startswith("veth")]) == veths, names
    _, networks = lab.request("GET", "/networks")
    bridges = {f"br-{row['Id'][:12]}" for row in networks if row["Driver"] == "bridge"}
    made = {name for name in names if name.startswith("br-")}
    assert made == {name for name in bridges if name in made}
    assert len(made) == len(bridges) - 1, (names, json.dumps(networks))


def test_links_and_records_agree_whenever_the_daemon_dies(lab: Lab) -> None:
    chance = random.Random(6)
    for network in ("red", "blue"):
        assert lab.request("POST", "/networks/create", {"Name": network})[0] == 201
    start(lab, "stayer", "red")
    start(lab, "mover", "red")
    for _ in range(KILLS):
        ended = threading.Event()
        worker = threading.Thread(target=churn, args=(lab, ended))
        worker.start()
        time.sleep(chance.uniform(0.005, 0.12))
        lab.kill()
        ended.set()
        worker.join(20)
        lab.start()
        check(lab)
    for name in ("stayer", "mover"):
        lab.request("DELETE", f"/containers/{name}?force=1")

"""Published ports: on the machine's loopback, on the lab host, from containers; and the clashes."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from network_lab import NetworkLab

from labkit.base.errors import InvalidParameter, SystemFailure
from labkit.host.network.namespaces import open_namespace

WEB = ("sh", "-c", "echo hello > index.html; httpd -f -p 80")


def bindings(*ports: tuple[str, str], ip: str = "") -> dict[str, object]:
    found: dict[str, list[dict[str, str]]] = {}
    for inside, outside in ports:
        found.setdefault(inside, []).append({"HostIp": ip, "HostPort": outside})
    return {"PortBindings": found}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def get(address: str, port: int) -> str:
    """GET / of the machine's port; waits while the server inside is starting."""
    async with asyncio.timeout(10):
        while True:
            try:
                reader, writer = await asyncio.open_connection(address, port)
                writer.write(b"GET /index.html HTTP/1.0\r\n\r\n")
                text = (await reader.read()).decode()
                writer.close()
                if text:
                    return text.rpartition("\r\n\r\n")[2]
            except OSError:
                pass
            await asyncio.sleep(0.02)


async def port_of(lab: NetworkLab, name: str, inside: str = "80/tcp") -> int:
    shown = await lab.engine.container_inspect(name)
    return int(shown["NetworkSettings"]["Ports"][inside][0]["HostPort"])


async def test_a_port_answers_on_the_machine_s_loopback(lab: NetworkLab) -> None:
    port = free_port()
    await lab.start("web", *WEB, HostConfig=bindings(("80/tcp", str(port))))
    assert await get("127.0.0.1", port) == "hello\n"
    shown = await lab.engine.container_inspect("web")
    assert shown["NetworkSettings"]["Ports"] == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": str(port)},
            {"HostIp": "::", "HostPort": str(port)},
        ]
    }
    rows = (await lab.engine.container_list())[0]["Ports"]
    assert rows[0] == {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"}
    await lab.engine.container_remove("web", force=True)
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_answers_on_the_lab_host_and_from_every_container(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", *WEB, HostConfig=bindings(("80/tcp", "18080")))
    await get("127.0.0.1", 18080)
    await lab.start("near")
    await lab.start("far", network="shop")
    await lab.start("host", network="host")
    assert await lab.fetch("near", "http://172.17.0.1:18080/") == "hello\n"
    assert await lab.fetch("far", "http://172.18.0.1:18080/") == "hello\n"
    assert await lab.fetch("web", "http://172.17.0.1:18080/") == "hello\n", "hairpin"
    assert await lab.fetch("host", "http://127.0.0.1:18080/") == "hello\n"
    # The lab host's own loopback is not the containers'.
    assert await lab.fetch("near", "http://172.17.0.2/") == "hello\n"
    code, _ = await lab.exec("far", "wget", "-qO-", "-T", "1", "http://172.17.0.2/")
    assert code


async def test_udp_goes_there_and_back(lab: NetworkLab) -> None:
    await lab.start("echo", HostConfig=bindings(("9000/udp", "0")))
    port = await port_of(lab, "echo", "9000/udp")

    def listen() -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        found.bind(("0.0.0.0", 9000))
        return found

    shim = lab.engine.context.find("echo").shim
    assert shim is not None
    namespace = open_namespace(shim.init_pid)
    server = await lab.networks.worker.run(namespace, listen)
    os.close(namespace)
    loop = asyncio.get_running_loop()
    with server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        async with asyncio.timeout(10):
            for text in (b"one", b"two"):
                await loop.sock_sendall(client, text)
                data, peer = await loop.sock_recvfrom(server, 100)
                assert (data, peer[0]) == (text, "172.17.0.1")
                await loop.sock_sendto(server, b"back", peer)
                assert await loop.sock_recv(client, 100) == b"back"


async def test_a_port_that_is_given_is_not_given_twice(lab: NetworkLab) -> None:
    port = str(free_port())
    await lab.start("first", *WEB, HostConfig=bindings(("80/tcp", port)))
    with pytest.raises(SystemFailure) as caught:
        await lab.start("second", *WEB, HostConfig=bindings(("80/tcp", port)))
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in caught.value.message
    assert caught.value.message.startswith(
        "failed to set up container networking: driver failed programming external connectivity "
        "on endpoint second ("
    )
    assert "first" in (caught.value.hint or "")
    assert (await lab.engine.container_inspect("second"))["State"]["Status"] == "created"
    await lab.engine.container_remove("first", force=True)
    await lab.engine.container_start("second")


async def test_a_port_of_another_program_is_named_with_its_holder(lab: NetworkLab) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(SystemFailure, match="address already in use") as caught:
            await lab.start("web", *WEB, HostConfig=bindings(("80/tcp", str(port))))
    assert "(pid " in (caught.value.hint or "")
    assert not lab.networks.find("bridge").endpoints


async def test_random_ports_begin_at_32768_and_ranges_are_tried_in_order(lab: NetworkLab) -> None:
    body = {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}
    await lab.start("web", *WEB, HostConfig={"PublishAllPorts": True}, **body)
    assert 32768 <= await port_of(lab, "web") < 61000
    assert await port_of(lab, "web", "53/udp")
    first = free_port()
    span = f"{first}-{first + 3}"
    await lab.start("one", *WEB, HostConfig=bindings(("80/tcp", span)))
    await lab.start("two", *WEB, HostConfig=bindings(("80/tcp", span)))
    assert await port_of(lab, "one") != await port_of(lab, "two")


async def test_one_address_only(lab: NetworkLab) -> None:
    port = free_port()
    await lab.start("web", *WEB, HostConfig=bindings(("80/tcp", str(port)), ip="127.0.0.1"))
    assert await get("127.0.0.1", port) == "hello\n"
    await lab.start("near")
    code, _ = await lab.exec("near", "wget", "-qO-", f"http://172.17.0.1:{port}/")
    assert code, "127.0.0.1 of the host is not for containers"
    with pytest.raises(OSError, match=r"refused|Connect"):
        await asyncio.open_connection("::1", port)


@pytest.mark.parametrize("text", ["x", "1-0", "70000", "-1"])
async def test_ports_that_mean_nothing(lab: NetworkLab, text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid port specification"):
        await lab.start("web", HostConfig=bindings(("80/tcp", text)))


async def test_the_port_moves_along_when_its_network_is_left(lab: NetworkLab) -> None:
    await lab.network("shop")
    await lab.start("web", *WEB, network="shop", HostConfig=bindings(("80/tcp", "0")))
    port = await port_of(lab, "web")
    assert await get("127.0.0.1", port) == "hello\n"
    await lab.connect("bridge", "web")
    await lab.disconnect("shop", "web")
    assert await get("127.0.0.1", await port_of(lab, "web")) == "hello\n"

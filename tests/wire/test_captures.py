"""Recordings of packets over the lab API: start, look, follow, download, end."""

from __future__ import annotations

import http.client
import socket

from .conftest import Lab


def _download(lab: Lab, path: str) -> bytes:
    connection = http.client.HTTPConnection("lab")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(lab.paths.lab_socket))
    connection.request("GET", path)
    data = connection.getresponse().read()
    connection.close()
    return data


def test_a_ping_is_recorded_followed_and_saved(lab: Lab) -> None:
    lab.ok("network", "create", "shop")
    lab.ok("run", "-d", "--name", "web", "--network", "shop", "busybox", "sleep", "1000")
    lab.ok("run", "-d", "--name", "db", "--network", "shop", "busybox", "sleep", "1000")
    body = {"target": "web", "filter": "icmp", "packets": 100, "seconds": 30}
    status, capture = lab.request("POST", "/v1/captures", body, lab=True)
    assert status == 201
    assert capture["running"]
    lab.ok("exec", "web", "ping", "-c", "1", "db")
    base = f"/v1/captures/{capture['id']}"
    assert lab.request("POST", f"{base}/stop", lab=True)[0] == 200
    _, shown = lab.request("GET", base, lab=True)
    assert not shown["running"]
    assert {row["summary"].rpartition("echo ")[2] for row in shown["rows"]} == {
        "request seq 0", "reply seq 0",
    }  # fmt: skip
    _, later = lab.request("GET", f"{base}?after={len(shown['rows']) - 1}", lab=True)
    assert later["rows"] == []
    _, followed = lab.request("GET", f"{base}/flows", lab=True)
    assert [flow["arrived"] for flow in followed["flows"]] == [True, True]
    assert all(len(flow["hops"]) == 4 for flow in followed["flows"])
    assert any("masquerade" in rule["text"] for rule in followed["rules"])
    assert _download(lab, f"{base}/pcap")[:4] == bytes.fromhex("4d3cb2a1")
    assert lab.request("DELETE", base, lab=True)[0] == 204
    assert lab.request("GET", base, lab=True)[0] == 404
    lab.ok("rm", "-f", "web", "db")
    lab.ok("network", "rm", "shop")


def test_what_cannot_be_recorded_is_named(lab: Lab) -> None:
    status, answer = lab.request("POST", "/v1/captures", {"target": "nobody"}, lab=True)
    assert status == 404
    assert "no such container or network" in answer["message"]
    body = {"target": "bridge", "filter": "tcp prot 80"}
    status, answer = lab.request("POST", "/v1/captures", body, lab=True)
    assert status == 400
    assert "'prot'" in answer["message"]

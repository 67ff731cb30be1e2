"""The client of the Engine API: errors, streams, hijacked sessions, addresses."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from commands_fake import Answer, FakeEngine, frame

from labkit.base.errors import Conflict, NotFound, SystemFailure, Unavailable, Unsupported
from labkit.notebook.client import Client, ConnectFailed, LabClient
from labkit.notebook.endpoint import resolve
from labkit.notebook.streams import HijackedStream


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.mark.parametrize(
    ("status", "leaf"),
    [(404, NotFound), (409, Conflict), (500, SystemFailure), (501, Unsupported)],
)
def test_an_error_answer_becomes_its_leaf_of_the_error_tree(
    engine: FakeEngine, short_tmp: Path, status: int, leaf: type[Exception]
) -> None:
    engine.on("GET", "/x", Answer(status, {"message": "so it is", "hint": "try y"}))
    with engine.serving(short_tmp / "s") as address:
        client = Client(address)
        with pytest.raises(leaf, match="so it is") as caught:
            client.request("GET", "/x")
        client.close()
    assert caught.value.hint == "try y"
    assert caught.value.sentence == "Error response from daemon: so it is"


def test_an_error_that_is_not_json_keeps_its_text(engine: FakeEngine, short_tmp: Path) -> None:
    engine.on("GET", "/x", Answer(502, raw=b"bad gateway", headers={"Content-Type": "text/plain"}))
    with engine.serving(short_tmp / "s") as address, pytest.raises(SystemFailure, match="bad gate"):
        Client(address).request("GET", "/x")


def test_the_smaller_version_is_spoken(engine: FakeEngine, short_tmp: Path) -> None:
    engine.api_version = "1.41"
    with engine.serving(short_tmp / "s") as address:
        assert Client(address).api_version == "1.41"
    engine.api_version = "1.99"
    with engine.serving(short_tmp / "s") as address:
        assert Client(address).api_version == "1.50"


def test_json_values_are_found_wherever_chunks_are_cut(engine: FakeEngine, short_tmp: Path) -> None:
    values = [{"status": "é" * 40}, {"a": [1, {"b": "}{"}]}, {"status": "end"}]
    text = "".join(json.dumps(value, ensure_ascii=False) + "\r\n" for value in values).encode()

    engine.on("GET", "/x", Answer(raw=text))
    with engine.serving(short_tmp / "s") as address:
        assert list(Client(address).stream("GET", "/x")) == values


def test_an_answer_that_ends_inside_a_json_value_is_an_error(
    engine: FakeEngine, short_tmp: Path
) -> None:
    engine.on("GET", "/x", Answer(raw=b'{"a":1}\n{"b":'))
    with engine.serving(short_tmp / "s") as address, pytest.raises(SystemFailure, match="middle"):
        list(Client(address).stream("GET", "/x"))


def test_output_goes_on_after_stdin_has_ended(engine: FakeEngine, short_tmp: Path) -> None:
    def talk(connection: socket.socket) -> None:
        data = b""
        while piece := connection.recv(100):
            data += piece
        connection.sendall(frame(1, data[::-1]) + frame(2, b"done"))

    engine.on("POST", "/x", Answer(hijack=talk))
    with (
        engine.serving(short_tmp / "s") as address,
        Client(address).hijack("/x", query={"stdin": True}) as stream,
    ):
        stream.write(b"abc")
        stream.close_stdin()
        assert list(stream.frames()) == [(1, b"cba"), (2, b"done")]


def test_a_frame_cut_into_single_bytes_is_whole_again() -> None:
    ours, theirs = socket.socketpair()
    data = frame(1, b"hello") + frame(2, b"") + frame(1, b"x" * 70000)
    ours.settimeout(5)
    for number in range(20):
        theirs.sendall(data[number : number + 1])
    stream = HijackedStream(ours, b"", 101, None)  # type: ignore[arg-type]
    theirs.settimeout(5)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200000)
    theirs.sendall(data[20:])
    theirs.close()
    assert [(kind, len(text)) for kind, text in stream.frames()] == [(1, 5), (2, 0), (1, 70000)]
    stream.close()


def test_a_connection_that_the_engine_closed_is_not_used_again(
    engine: FakeEngine, short_tmp: Path
) -> None:
    engine.on("GET", "/x", {"ok": True})
    with engine.serving(short_tmp / "s") as address:
        client = Client(address)
        assert client.json("GET", "/x") == {"ok": True}
        for connection in client._idle:
            assert connection.sock is not None
            connection.sock.shutdown(socket.SHUT_RDWR)
        assert client.json("GET", "/x") == {"ok": True}
        client.close()


def test_nobody_at_the_address_is_said_as_docker_says_it(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/none.sock"
    with pytest.raises(ConnectFailed) as caught:
        Client(address).ping()
    assert caught.value.message == (
        f"Cannot connect to the Docker daemon at {address}. Is the docker daemon running?"
    )


def test_an_engine_that_hangs_up_early_is_unavailable(short_tmp: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(short_tmp / "s"))
    listener.listen()
    listener.settimeout(0.3)
    client = Client(f"unix://{short_tmp}/s", timeout_s=0.2)
    with pytest.raises(Unavailable, match="did not answer within"):
        client.ping()
    listener.close()


def test_lab_paths_are_not_given_an_engine_version(engine: FakeEngine, short_tmp: Path) -> None:
    engine.on("POST", "/v1/boxes", lambda request: Answer(body={"got": request.json}))
    with engine.serving(short_tmp / "s") as address:
        client = LabClient(address)
        assert client.json("POST", "/v1/boxes", body={"name": "x"}) == {"got": {"name": "x"}}
        client.close()


# -- which engine --------------------------------------------------------------------------


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def _store_context(folder: Path, name: str, host: str) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    document = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}
    (meta / "meta.json").write_text(json.dumps(document))


def test_without_any_setting_the_labs_own_engine_is_meant(config: Path) -> None:
    assert resolve() is None


def test_docker_host_wins_over_the_current_context(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store_context(config, "far", "tcp://far:2375")
    (config / "config.json").write_text('{"currentContext": "far"}')
    found = resolve()
    assert found is not None
    assert (found.address, found.context) == ("tcp://far:2375", "far")
    monkeypatch.setenv("DOCKER_HOST", "unix:///near.sock")
    near = resolve()
    assert near is not None
    assert near.address == "unix:///near.sock"


def test_a_context_that_does_not_exist_is_named(config: Path) -> None:
    with pytest.raises(Exception, match='context "gone": context not found'):
        resolve(context="gone")


def test_importing_the_client_brings_no_heavy_company() -> None:
    heavy = "{'docker', 'requests', 'aiohttp', 'asyncio', 'IPython', 'matplotlib', 'rich', 'yaml'}"
    code = (
        "import sys, labkit.notebook.client, labkit.notebook.commands.docker; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

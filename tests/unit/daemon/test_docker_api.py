from __future__ import annotations

import asyncio
import io
import socket

import pytest

from .conftest import Api


async def test_ping_tells_clients_everything_they_negotiate_with(api: Api) -> None:
    for method, body in (("GET", "OK"), ("HEAD", "")):
        status, text, headers = await api.ask(method, "/_ping")
        assert (status, text) == (200, body)
        assert headers["Api-Version"] == "1.50"
        assert headers["Ostype"] == "linux"
        assert headers["Builder-Version"] == "1"
        assert headers["Docker-Experimental"] == "false"
        assert headers["Swarm"] == "inactive"


async def test_any_supported_version_prefix_and_none_reach_the_same_endpoint(api: Api) -> None:
    for prefix in ("", "/v1.24", "/v1.41", "/v1.50"):
        status, body, _ = await api.ask("GET", f"{prefix}/version")
        assert (status, body["Version"]) == (200, "fake")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.23", "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.50"),
        ("2", "client version 2 is too old"),
    ],
)
async def test_other_versions_are_refused_in_dockers_words(
    api: Api, version: str, words: str
) -> None:
    status, body, _ = await api.ask("GET", f"/v{version}/version")
    assert status == 400
    assert body["message"].startswith(words)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nonsense"), ("POST", "/version"), ("GET", "/v1.50/")],
)
async def test_an_unknown_endpoint_is_404_in_json(api: Api, method: str, path: str) -> None:
    assert (await api.ask(method, path))[:2] == (404, {"message": "page not found"})


async def test_errors_of_the_engine_become_message_and_status(api: Api) -> None:
    status, body, headers = await api.ask("GET", "/v1.50/containers/nobody/json")
    assert (status, body) == (404, {"message": "No such container: nobody"})
    assert headers["Content-Type"].startswith("application/json")
    assert headers["Api-Version"] == "1.50"
    assert (await api.ask("POST", "/containers/running/start"))[:2] == (304, "")
    status, body, _ = await api.ask("POST", "/containers/broken/start")
    assert (status, body["message"]) == (400, "exec: no such file or directory")


async def test_a_defect_is_a_500_without_a_traceback(api: Api) -> None:
    status, body, _ = await api.ask("POST", "/containers/web/rename?name=x")
    assert status == 500
    assert "defect" not in body["message"]
    assert "daemon's log" in body["message"]


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"{", "application/json", "invalid JSON: "),
        (b"", "application/json", "invalid JSON: got EOF while reading request body"),
        (b"{} {}", "application/json", "unexpected content after JSON"),
        (b"[1]", "application/json", "invalid JSON: json: cannot unmarshal array"),
        (b'"x"', "application/json", "invalid JSON: json: cannot unmarshal string"),
        (b"null", "application/json", "invalid JSON: "),
        (b"\xff{}", "application/json", "invalid JSON: a string is not valid UTF-8"),
        (b'{"a":"\\ud800"}', "application/json", "invalid JSON: a string is not valid UTF-8"),
        (b'{"a":"\\u0000"}', "application/json", "invalid JSON: a string contains a NUL byte"),
        (b'{"a":NaN}', "application/json", "invalid JSON: NaN is not a JSON value"),
        (b'{"a":' + b"9" * 40 + b"}", "application/json", "invalid JSON: json: cannot"),
        (b"[" * 100_000, "application/json", "invalid JSON: exceeded max depth"),
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain)"),
    ],
)
async def test_bodies_that_are_no_json_object_are_400(
    api: Api, data: bytes, kind: str, words: str
) -> None:
    status, body, _ = await api.ask(
        "POST", "/containers/create", data=data, headers={"Content-Type": kind}
    )
    assert status == 400
    assert body["message"].startswith(words)
    assert not api.engine.asked


async def test_a_body_that_is_too_large_is_413(api: Api) -> None:
    data = io.BytesIO(b'{"a":"' + b"x" * (17 << 20) + b'"}')
    status, body, _ = await api.ask(
        "POST", "/containers/create", data=data, headers={"Content-Type": "application/json"}
    )
    assert status == 413
    assert "too large" in body["message"]


async def test_both_notations_of_filters_mean_the_same(api: Api) -> None:
    for text in ('{"label":{"a=b":true,"c":false}}', '{"label":["a=b"]}'):
        await api.ask("GET", "/containers/json?filters=" + text.replace("=", "%3D"))
    assert [asked["filters"] for _, asked in api.engine.asked] == [{"label": ["a=b"]}] * 2


@pytest.mark.parametrize("text", ["[]", "1", '{"a":1}', '{"a":[1]}', "{"])
async def test_filters_that_are_none_are_400(api: Api, text: str) -> None:
    status, body, _ = await api.ask("GET", f"/containers/json?filters={text}")
    assert (status, body) == (400, {"message": "invalid filter"})


async def test_numbers_in_the_query_are_numbers(api: Api) -> None:
    assert (await api.ask("POST", "/containers/web/stop?t=-1"))[0] == 204
    assert api.engine.asked[-1] == ("stop", {"timeout": -1, "signal": None})
    status, body, _ = await api.ask("POST", "/containers/web/stop?t=soon")
    assert (status, body["message"]) == (400, 'strconv.Atoi: parsing "soon": invalid syntax')


async def test_image_names_may_contain_slashes_escaped_or_not(api: Api) -> None:
    for name in ("docker.io/library/busybox:latest", "docker.io%2Flibrary%2Fbusybox:latest"):
        assert (await api.ask("GET", f"/v1.50/images/{name}/json"))[1] == {
            "Id": "docker.io/library/busybox:latest"
        }


async def test_a_pull_that_fails_at_once_has_a_status_and_later_an_in_band_error(api: Api) -> None:
    status, body, _ = await api.ask("POST", "/images/create?fromImage=missing&tag=latest")
    assert (status, body["message"]) == (404, "pull access denied for missing:latest")
    status, text, _ = await api.ask("POST", "/images/create?fromImage=torn&tag=sha256:ab")
    assert status == 200
    assert '"errorDetail":{"message":"the layer is gone"}' in text
    assert api.engine.asked[-1][1][0] == "torn@sha256:ab"


async def test_wait_sends_its_headers_before_the_container_ends(api: Api) -> None:
    async with api.session.post(
        "http://docker/containers/web/wait?condition=next-exit"
    ) as answer:  # entering means that the headers are here
        assert answer.status == 200
        api.engine.exits.set_result({"StatusCode": 137})
        assert await answer.json() == {"StatusCode": 137}
    assert (await api.ask("POST", "/containers/web/wait?condition=never"))[0] == 400


async def test_logs_of_no_stream_are_refused(api: Api) -> None:
    status, body, _ = await api.ask("GET", "/containers/web/logs")
    assert status == 400
    assert body["message"] == "Bad parameters: you must choose at least one stream"


async def test_a_reader_of_logs_that_leaves_is_let_go_of(api: Api) -> None:
    async with api.session.get("http://docker/containers/web/logs?stdout=1&follow=1") as answer:
        assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
        await answer.content.read(10)
        answer.close()
    await asyncio.wait_for(api.engine.logs[0].closed.wait(), 5)


async def test_a_start_goes_on_when_its_client_leaves(api: Api) -> None:
    reader, writer = await asyncio.open_unix_connection(str(api.path))
    writer.write(b"POST /containers/slow/start HTTP/1.1\r\nHost: d\r\n\r\n")
    await writer.drain()
    await asyncio.sleep(0.01)
    writer.close()
    await asyncio.sleep(0.2)
    assert ("started", "slow") in api.engine.asked
    del reader


async def _attach(api: Api, upgrade: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(api.path))
    writer.write(
        b"POST /v1.50/containers/web/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\n"
        + upgrade
        + b"Content-Type: text/plain\r\n\r\n"
    )
    return reader, writer


async def test_attach_hijacks_and_output_flows_after_the_inputs_half_close(api: Api) -> None:
    reader, writer = await _attach(api, b"Connection: Upgrade\r\nUpgrade: tcp\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert b"application/vnd.docker.multiplexed-stream" in head
    writer.write(b"typed ")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b"typed bye"
    assert api.engine.sessions[0].closed
    writer.close()


async def test_attach_without_upgrade_is_a_plain_200_and_raw_bytes(api: Api) -> None:
    reader, writer = await _attach(api, b"Content-Length: 0\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"application/vnd.docker.raw-stream" in head
    writer.close()


async def test_a_client_that_vanishes_from_a_silent_session_is_noticed(api: Api) -> None:
    """After a half-close only a hangup tells that nobody reads any more."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(api.path))
    client.sendall(
        b"POST /containers/web/attach?stream=1&stdout=1&stdin=1 HTTP/1.1\r\nHost: d\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    session = await api.engine.first_session()
    session.write_eof = lambda: None  # type: ignore[method-assign]  # the process says nothing
    await asyncio.sleep(0.02)
    client.shutdown(socket.SHUT_WR)
    await asyncio.sleep(0.05)
    assert not session.closed
    client.close()
    for _ in range(500):
        if session.closed:
            break
        await asyncio.sleep(0.01)
    assert session.closed

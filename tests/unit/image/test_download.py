"""Pulling from a registry that behaves, stumbles, or lies."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))
from fake_registry import INDEX, FakeRegistry, digest_of, serve
from trees import members

from labkit.base.errors import LabkitError, NotFound, SystemFailure, Unauthorized, Unavailable
from labkit.host.image import sources
from labkit.host.image.entry import Entry
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.reference import parse
from labkit.host.image.registry.auth import Authorizer, parse_challenges
from labkit.host.image.registry.client import RegistryClient
from labkit.host.image.registry.endpoints import endpoints, is_insecure
from labkit.host.image.registry.login import check_login, options_from_auth
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.store import ImageStore

ONE = members((Entry("one"), b"1" * 100))
TWO = members((Entry("two"), random.Random(7).randbytes(3 << 20)))
QUICK = RegistryOptions(pause_seconds=0.0, insecure=(), mirrors=())


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[tuple[FakeRegistry, str]]:
    fake = FakeRegistry()
    server = await serve(fake)
    yield fake, f"127.0.0.1:{server.port}"
    await server.close()


async def lines_of(
    store: ImageStore, name: str, options: RegistryOptions = QUICK, platform: str = ""
) -> list[dict[str, Any]]:
    chosen = PullOptions(platform=platform or "linux/amd64", offline=False, registry=options)
    return [line async for line in pull(store, name, options=chosen)]


async def test_an_image_arrives_with_the_registrys_digest(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    digest = fake.put_image("1", ONE, TWO)
    lines = await lines_of(store, f"{host}/me/app:1")
    assert lines[0] == {"status": "Pulling from me/app", "id": "1"}
    words = [line["status"] for line in lines]
    assert words.count("Pulling fs layer") == words.count("Pull complete") == 2
    assert "Downloading" in words
    assert words[-2:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {host}/me/app:1",
    ]
    image = store.get(f"{host}/me/app:1")
    assert image.repo_digests == (f"{host}/me/app@{digest}",)
    assert image.diff_ids == (digest_of(ONE), digest_of(TWO))
    assert image.id == store.get(f"{host}/me/app@{digest}").id
    assert store.inspect(image.id)["Descriptor"]["digest"] == digest
    again = [line["status"] for line in await lines_of(store, f"{host}/me/app:1")]
    assert again[-1] == f"Status: Image is up to date for {host}/me/app:1"


async def test_a_layer_that_is_here_is_not_fetched_again(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", ONE)
    fake.put_image("2", ONE, TWO)
    await lines_of(store, f"{host}/app:1")
    lines = await lines_of(store, f"{host}/app:2")
    assert [line["status"] for line in lines].count("Already exists") == 1


async def test_an_index_gives_the_platform_asked_for(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    entries = []
    for machine, layer in (("amd64", ONE), ("arm64", TWO)):
        digest = fake.put_image(f"only-{machine}", layer, architecture=machine)
        data = fake.manifests[digest][1]
        entries.append(
            {
                "mediaType": fake.manifests[digest][0],
                "digest": digest,
                "size": len(data),
                "platform": {"os": "linux", "architecture": machine},
            }
        )
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    top = fake.put_manifest("many", INDEX, index)
    await lines_of(store, f"{host}/app:many", platform="linux/arm64")
    image = store.get(f"{host}/app:many")
    assert image.config["architecture"] == "arm64"
    assert image.repo_digests == (f"{host}/app@{top}",)
    with pytest.raises(NotFound, match="no matching manifest for linux/vax in the manifest list"):
        await lines_of(store, f"{host}/app:many", platform="linux/vax")


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_broken_download_is_continued(
    store: ImageStore, registry: tuple[FakeRegistry, str], ranges: bool
) -> None:
    fake, host = registry
    fake.put_image("1", TWO)
    fake.break_after, fake.ranges = 2 << 20, ranges
    await lines_of(store, f"{host}/app:1")
    blobs = [line for line in fake.asked if "bytes=" in line]
    assert len(blobs) == 1
    assert store.get(f"{host}/app:1").size == 3 << 20


async def test_a_download_that_failed_is_resumed_by_the_next_pull(
    tmp_path: Path, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", TWO)
    fake.break_after = 2 << 20
    once = RegistryOptions(attempts=1, pause_seconds=0.0)
    store = ImageStore(tmp_path / "docker")
    with pytest.raises(Unavailable, match=r"broke off|ended after"):
        await lines_of(store, f"{host}/app:1", once)
    assert store.images() == []
    store.close()
    store = ImageStore(tmp_path / "docker")  # as after a kill of the daemon
    try:
        await lines_of(store, f"{host}/app:1", once)
        assert [line for line in fake.asked if "bytes=" in line]
        assert store.get(f"{host}/app:1").size == 3 << 20
    finally:
        store.close()


async def test_damaged_data_is_never_kept(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", ONE)
    fake.damage = True
    with pytest.raises(SystemFailure, match="verification failed for digest"):
        await lines_of(store, f"{host}/app:1")
    fake.damage = False
    fake.put_image("2", ONE, diff_ids=["sha256:" + "0" * 64])
    with pytest.raises(SystemFailure, match="does not match its diff-id"):
        await lines_of(store, f"{host}/app:2")
    assert store.images() == []
    assert not os.listdir(store.layers.folder)


@pytest.mark.parametrize(
    "manifest",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"config": {}, "layers": []}',
        b'{"config": {"digest": "sha256:x", "size": 1}, "layers": []}',
        b'{"config": {"digest": "sha256:' + b"0" * 64 + b'", "size": -1}, "layers": []}',
        b'{"manifests": [{"digest": "..", "platform": {"os": "linux", "architecture": "amd64"}}]}',
        b'{"schemaVersion": 1, "fsLayers": []}',
    ],
)
async def test_a_broken_manifest_is_one_clear_error(
    store: ImageStore, registry: tuple[FakeRegistry, str], manifest: bytes
) -> None:
    fake, host = registry
    fake.put_manifest("bad", "application/json", manifest)
    with pytest.raises(LabkitError):
        await lines_of(store, f"{host}/app:bad")
    assert store.images() == []


async def test_a_manifest_must_be_what_its_digest_says(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    digest = fake.put_image("1", ONE)
    other = fake.put_image("2", TWO)
    fake.manifests[digest] = fake.manifests[other]
    with pytest.raises(SystemFailure, match="manifest verification failed for digest"):
        await lines_of(store, f"{host}/app@{digest}")


async def test_unknown_tags_and_dead_registries_are_said_in_dockers_words(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    _, host = registry
    with pytest.raises(NotFound) as caught:
        await lines_of(store, f"{host}/app:nope")
    assert str(caught.value) == (
        f"manifest for {host}/app:nope not found: manifest unknown: manifest unknown"
    )
    with pytest.raises(Unavailable, match=r"dial tcp 127.0.0.1:9: connect: connection refused"):
        await lines_of(store, "127.0.0.1:9/app")


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_credentials_open_a_closed_registry(
    store: ImageStore, registry: tuple[FakeRegistry, str], auth: str
) -> None:
    fake, host = registry
    fake.put_image("1", ONE)
    fake.auth = auth
    options = RegistryOptions(username="ali", password="sesame")
    await lines_of(store, f"{host}/me/app:1", options)
    if auth == "bearer":
        assert fake.asked[0] == "token repository:me/app:pull"
        assert sum(1 for line in fake.asked if line.startswith("token")) == 1


async def test_wrong_or_missing_credentials_are_refused(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", ONE)
    fake.auth = "basic"
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await lines_of(store, f"{host}/app:1")
    fake.auth = "bearer"
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        await lines_of(store, f"{host}/app:1", RegistryOptions(username="ali", password="wrong"))


async def test_a_mirror_is_asked_for_official_names(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("3.7", ONE)
    await lines_of(store, "alpine:3.7", RegistryOptions(mirrors=(f"http://{host}",)))
    assert store.get("alpine:3.7").origin == "docker.io"
    assert store.get("alpine:3.7").size == 100


async def test_layers_in_zstd_and_uncompressed_are_read(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    zstandard = pytest.importorskip("zstandard")
    fake, host = registry
    packers: list[Callable[[bytes], bytes]] = [zstandard.ZstdCompressor().compress, bytes]
    for number, pack in enumerate(packers):
        fake.put_image(str(number), members((Entry(f"f{number}"), b"x" * 9)), pack=pack)
        await lines_of(store, f"{host}/app:{number}")
        assert store.get(f"{host}/app:{number}").size == 9


async def test_leaving_a_client_closes_its_connections(registry: tuple[FakeRegistry, str]) -> None:
    _, host = registry
    async with RegistryClient(parse(f"{host}/app"), QUICK):
        pass


def test_challenges_are_read_as_the_rfc_writes_them() -> None:
    found = parse_challenges('Bearer realm="https://a/t",service="s",scope="a:b:pull,push"')
    assert found[0].parameters == {
        "realm": "https://a/t",
        "service": "s",
        "scope": "a:b:pull,push",
    }
    assert parse_challenges('Basic realm="a \\"b\\""')[0].parameters["realm"] == 'a "b"'
    assert parse_challenges("") == []
    assert parse_challenges("=,=;;") == []


def test_only_this_machine_and_listed_registries_may_be_insecure() -> None:
    assert is_insecure("127.3.2.1:5000", ())
    assert is_insecure("localhost", ())
    assert is_insecure("[::1]:5000", ())
    assert not is_insecure("10.0.0.1:5000", ())
    assert is_insecure("10.0.0.1:5000", ("10.0.0.0/8",))
    assert is_insecure("reg.lan:5000", ("reg.lan",))
    assert [one.url for one in endpoints("ghcr.io", QUICK)] == ["https://ghcr.io"]


async def test_login_is_asked_of_the_registry(registry: tuple[FakeRegistry, str]) -> None:
    fake, host = registry
    fake.auth = "basic"
    good = {"username": "ali", "password": "sesame", "serveraddress": host}
    assert (await check_login(good))["Status"] == "Login Succeeded"
    with pytest.raises(SystemFailure) as caught:  # dockerd 20.10 answers 500, in these words
        await check_login({**good, "password": "wrong"})
    assert caught.value.message == (
        f"login attempt to http://{host}/v2/ failed with status: 401 Unauthorized"
    )
    with pytest.raises(SystemFailure, match=r'^Get "http://.*/v2/": no basic auth credentials$'):
        await check_login({"serveraddress": host})
    fake.auth = "bearer"
    assert (await check_login(good))["Status"] == "Login Succeeded"
    with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
        await check_login({**good, "password": "wrong"})
    assert options_from_auth({"auth": "YWxpOnNlc2FtZQ=="}).password == "sesame"
    assert options_from_auth(None).username == ""
    with pytest.raises(LabkitError, match="not base64"):
        options_from_auth({"auth": "%%%"})


async def test_the_catalog_answers_where_no_registry_does(
    store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "has_route", lambda: False)
    monkeypatch.delenv("LABKIT_OFFLINE", raising=False)
    chosen = PullOptions(offline=False, registry=QUICK)
    lines = [line["status"] async for line in pull(store, "busybox", options=chosen)]
    assert any(line.startswith("Stand-in: this machine has no route") for line in lines)
    assert sources.state().why == "this machine has no route to docker.io"
    assert sources.state(offline=True).why == "LABKIT_OFFLINE is set"


async def test_requests_refused_at_the_same_time_all_try_again_with_the_password() -> None:
    authorizer = Authorizer(RegistryOptions(username="ali", password="sesame"))
    challenges = parse_challenges('Basic realm="x"')
    session: Any = None
    assert await authorizer.answer(session, challenges, ("a",), None)
    assert await authorizer.answer(session, challenges, ("b",), None)
    assert not await authorizer.answer(session, challenges, ("b",), authorizer.header(("b",)))

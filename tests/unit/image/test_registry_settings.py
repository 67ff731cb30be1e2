"""daemon.json, certificates, disks that fill up, and what else lies around a registry's client."""

from __future__ import annotations

import datetime
import errno
import ipaddress
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_registry import INDEX, FakeRegistry, serve

from labkit.base.errors import InvalidParameter, NotFound, SystemFailure, Unauthorized, Unavailable
from labkit.host.image.blobs import BlobWriter
from labkit.host.image.pull import PullOptions, pull
from labkit.host.image.reference import parse
from labkit.host.image.registry import client as client_module
from labkit.host.image.registry.client import RegistryClient
from labkit.host.image.registry.endpoints import Endpoint, endpoints
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.registry.settings import read_settings
from labkit.host.image.registry.upload import push
from labkit.host.image.store import ImageStore

QUICK = RegistryOptions(mirrors=(), insecure=(), attempts=2, pause_seconds=0.0)
LAYER = b"x" * 700  # no tar at all: good enough where nothing is unpacked
EMPTY = bytes(10240)  # a tar without members


async def lines_of(store: ImageStore, name: str, **options: Any) -> list[Any]:
    chosen = PullOptions(offline=False, registry=options.pop("registry", QUICK), **options)
    return [line async for line in pull(store, name, options=chosen)]


# -- daemon.json -----------------------------------------------------------------------------------


def test_dockers_own_keys_are_read_and_the_variables_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_INSECURE_REGISTRIES", "first.lan:5000")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.delenv("LABKIT_REGISTRY_MIRRORS", raising=False)
    file = tmp_path / "etc/daemon.json"
    file.parent.mkdir()
    file.write_text(
        json.dumps(
            {
                "insecure-registries": ["reg.lan", "10.0.0.0/8"],
                "registry-mirrors": ["http://mirror.lan"],
                "max-concurrent-downloads": 7,
                "max-concurrent-uploads": 2,
                "max-download-attempts": 9,
                "log-driver": "not our business",
            }
        )
    )
    options = RegistryOptions()
    assert options.insecure == ("first.lan:5000", "reg.lan", "10.0.0.0/8")
    assert options.mirrors == ("http://mirror.lan",)
    assert (options.parallel, options.parallel_uploads, options.attempts) == (7, 2, 9)
    assert [one.url for one in endpoints("reg.lan", options)] == [
        "https://reg.lan",
        "http://reg.lan",
    ]
    assert [one.url for one in endpoints("docker.io", options)] == [
        "http://mirror.lan",
        "https://registry-1.docker.io",
    ]
    pushed = endpoints("docker.io", options, is_push=True)
    assert [one.url for one in pushed] == ["https://registry-1.docker.io"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"insecure-registries": "x"}',
        '{"registry-mirrors": [1]}',
        '{"max-concurrent-downloads": 0}',
    ],
)
def test_a_broken_daemon_json_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(text)
    with pytest.raises(InvalidParameter, match=r"unable to configure the daemon with file .*json"):
        read_settings(file)


def test_without_a_file_dockers_defaults_hold(tmp_path: Path) -> None:
    found = read_settings(tmp_path / "none.json")
    assert (found.downloads, found.uploads, found.attempts) == (3, 5, 5)


# -- certificates ----------------------------------------------------------------------------------


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        self.file = folder / "ca.crt"
        certificate = self._sign(self._name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, name: x509.Name, key: Any, *, is_authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, word: str) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1 and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)])
        certificate = self._sign(name, key.public_key())
        paths = self._folder / f"{word}.cert", self._folder / f"{word}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's registries are held to their certificates, as those far away are."""

    def only_https(domain: str, _: RegistryOptions, **__: Any) -> list[Endpoint]:
        return [Endpoint(f"https://{domain}", is_local=True)]

    monkeypatch.setattr(client_module, "endpoints", only_https)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "made").mkdir()
    return Authority(tmp_path / "made")


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    folder = tmp_path / "certs.d"
    folder.mkdir()
    return folder


async def test_an_authority_in_certs_d_is_believed_and_no_other(
    authority: Authority, certs: Path, strict: None
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    server = TestServer(FakeRegistry().application(), scheme="https")
    await server.start_server(ssl=context)
    try:
        host = f"127.0.0.1:{server.port}"
        options = RegistryOptions(certificates=(certs,), attempts=1)
        with pytest.raises(Unavailable) as caught:
            async with RegistryClient(parse(f"{host}/app"), options):
                pass
        assert caught.value.message == (
            f'Get "https://{host}/v2/": tls: failed to verify certificate: '
            "x509: certificate signed by unknown authority"
        )
        folder = certs / host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.file.read_bytes())
        async with RegistryClient(parse(f"{host}/app"), options):
            pass
    finally:
        await server.close()


async def test_a_clients_own_certificate_is_shown(
    authority: Authority, certs: Path, strict: None
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(*authority.issue("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    server = TestServer(FakeRegistry().application(), scheme="https")
    await server.start_server(ssl=context)
    try:
        host = f"127.0.0.1:{server.port}"
        folder = certs / host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.file.read_bytes())
        cert, key = authority.issue("client")
        (folder / "client.cert").write_bytes(cert.read_bytes())
        options = RegistryOptions(certificates=(certs,), attempts=1)
        with pytest.raises(InvalidParameter, match=r"missing client\.key for client\.cert"):
            async with RegistryClient(parse(f"{host}/app"), options):
                pass
        (folder / "client.key").write_bytes(key.read_bytes())
        async with RegistryClient(parse(f"{host}/app"), options):
            pass
    finally:
        await server.close()


# -- pulling ---------------------------------------------------------------------------------------


@pytest.fixture
async def registry() -> Any:
    fake = FakeRegistry()
    server = await serve(fake)
    yield fake, f"127.0.0.1:{server.port}"
    await server.close()


async def test_a_full_disk_ends_the_pull_at_once_and_keeps_nothing(
    store: ImageStore, registry: tuple[FakeRegistry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, host = registry
    fake.put_image("1", LAYER)

    def full(self: BlobWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(BlobWriter, "write", full)
        with pytest.raises(SystemFailure, match="no space left on device") as caught:
            await lines_of(store, f"{host}/app:1")
    assert "prune" in (caught.value.hint or "")
    assert sum(line.startswith("blob") for line in fake.asked) == 2  # config, and the layer once


async def test_all_tags_of_a_repository_are_pulled(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    for tag in ("1", "2", "latest"):
        fake.put_image(tag, EMPTY)
    words = [line["status"] for line in await lines_of(store, f"{host}/app", all_tags=True)]
    assert [word for word in words if word.startswith("Pulling from")] == ["Pulling from app"] * 3
    assert sum(word.startswith("Digest: ") for word in words) == 3
    assert [word for word in words if word.startswith("Status")] == [
        f"Status: Downloaded newer image for {host}/app"
    ]
    assert sorted(store.index.tags_in(f"{host}/app")) == ["1", "2", "latest"]
    again = [line["status"] for line in await lines_of(store, f"{host}/app", all_tags=True)]
    assert again[-1] == f"Status: Image is up to date for {host}/app"


async def test_what_is_up_to_date_costs_no_manifest(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", EMPTY)
    await lines_of(store, f"{host}/app:1")
    fake.asked.clear()
    await lines_of(store, f"{host}/app:1")
    assert fake.asked == ["manifest 1"]  # a HEAD


async def test_an_image_for_another_platform_is_taken_with_a_warning(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    fake.put_image("1", EMPTY, architecture="arm64")
    words = [
        line["status"] for line in await lines_of(store, f"{host}/app:1", platform="linux/s390x")
    ]
    assert words[-1] == (
        f"WARNING: image with reference {host}/app:1 was found but does not match the specified "
        "platform: wanted linux/s390x, actual: linux/arm64"
    )


async def test_a_mirror_that_lacks_the_image_is_passed_over_and_gets_no_password(
    store: ImageStore, registry: tuple[FakeRegistry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, host = registry
    fake.auth = "basic"

    def both(domain: str, _: RegistryOptions, **__: Any) -> list[Endpoint]:
        return [
            Endpoint(f"http://{host}", is_mirror=True, is_local=True),
            Endpoint("http://127.0.0.1:9", is_local=True),
        ]

    monkeypatch.setattr(client_module, "endpoints", both)
    options = RegistryOptions(username="ali", password="sesame", attempts=1)
    async with RegistryClient(parse("alpine"), options) as client:
        assert client.is_mirror
        with pytest.raises(Unauthorized, match="no basic auth credentials"):
            await client.manifest("latest")
    with pytest.raises(Unavailable, match="connection refused"):
        async with RegistryClient(parse("alpine"), options, skip=1):
            pass


async def test_an_index_without_this_platform_is_refused_in_dockers_words(
    store: ImageStore, registry: tuple[FakeRegistry, str]
) -> None:
    fake, host = registry
    digest = fake.put_image("one", LAYER)
    entry = {
        "mediaType": fake.manifests[digest][0],
        "digest": digest,
        "size": len(fake.manifests[digest][1]),
        "platform": {"os": "linux", "architecture": "vax"},
    }
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    fake.put_manifest("many", INDEX, index)
    with pytest.raises(NotFound, match="no matching manifest for linux/arm64 in the manifest list"):
        await lines_of(store, f"{host}/app:many", platform="linux/arm64")


# -- pushing ---------------------------------------------------------------------------------------


async def test_pushing_says_where_to_before_it_says_what_is_wrong(store: ImageStore) -> None:
    lines = push(store, "127.0.0.1:9/none:1")
    assert await anext(lines) == {"status": "The push refers to repository [127.0.0.1:9/none]"}
    with pytest.raises(NotFound, match=r"not exist locally with the tag: 127\.0\.0\.1:9/none"):
        await anext(lines)
    with pytest.raises(InvalidParameter, match="cannot push a digest reference"):
        await anext(push(store, "127.0.0.1:9/none@sha256:" + "0" * 64))


async def test_a_proxy_is_asked_for_registries_that_are_not_this_machine(
    store: ImageStore, registry: tuple[FakeRegistry, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, proxy = registry
    fake.put_image("1", EMPTY)
    monkeypatch.setenv("http_proxy", f"http://{proxy}")
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = RegistryOptions(mirrors=(), insecure=("reg.invalid:5000",), attempts=1)
    await lines_of(store, "reg.invalid:5000/app:1", registry=options)
    assert store.get("reg.invalid:5000/app:1").origin == "reg.invalid:5000"
    monkeypatch.setenv("no_proxy", "reg.invalid")
    with pytest.raises(Unavailable, match="no such host"):
        await lines_of(store, "reg.invalid:5000/app:2", registry=options)

"""The distribution specification 1.1, section by section, as tests of our registry."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from registry_kit import INDEX, MANIFEST, Pusher, descriptor, manifest_of, refusal, sha256

from labkit.daemon.registry_api.accounts import Accounts
from labkit.daemon.registry_api.app import build_registry_app
from labkit.daemon.registry_api.storage import Storage

Client = TestClient[Any, Any]
DATA = bytes(range(256)) * 40


def basic(user: str, password: str) -> dict[str, str]:
    packed = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {packed}"}


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# -- Determining Support -------------------------------------------------------------------------


async def test_a_registry_says_that_it_is_one(client: Client) -> None:
    answer = await client.get("/v2/")
    assert answer.status == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert await answer.json() == {}


# -- Pull ----------------------------------------------------------------------------------------


async def test_a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest(
    client: Client, pusher: Pusher
) -> None:
    digest = await pusher.image("me/app", "1.0", DATA)
    for reference in ("1.0", digest):
        answer = await client.get(f"/v2/me/app/manifests/{reference}")
        assert answer.status == 200
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.content_type == MANIFEST
        assert sha256(await answer.read()) == digest
        head = await client.head(f"/v2/me/app/manifests/{reference}")
        assert head.status == 200
        assert head.headers["Content-Length"] == answer.headers["Content-Length"]
        assert head.headers["Docker-Content-Digest"] == digest


async def test_what_is_not_there_has_its_own_code(client: Client, pusher: Pusher) -> None:
    await pusher.image("me/app", "1.0", DATA)
    nowhere = "sha256:" + "0" * 64
    for path, code in (
        ("/v2/me/app/manifests/2.0", "MANIFEST_UNKNOWN"),
        (f"/v2/me/app/manifests/{nowhere}", "MANIFEST_UNKNOWN"),
        ("/v2/me/other/manifests/1.0", "NAME_UNKNOWN"),
        (f"/v2/me/app/blobs/{nowhere}", "BLOB_UNKNOWN"),
        ("/v2/me/other/tags/list", "NAME_UNKNOWN"),
        ("/v2/me/app/blobs/uploads/" + "0" * 32, "BLOB_UPLOAD_UNKNOWN"),
    ):
        answer = await client.get(path)
        assert (answer.status, await refusal(answer)) == (404, code), path


async def test_words_that_name_nothing_are_refused(client: Client) -> None:
    for path, code in (
        ("/v2/Me/app/tags/list", "NAME_INVALID"),
        ("/v2/a/../../etc/manifests/x", "UNSUPPORTED"),
        ("/v2/a//b/manifests/x", "NAME_INVALID"),
        ("/v2/_uploads/manifests/x", "NAME_INVALID"),
        ("/v2/app/manifests/.hidden", "TAG_INVALID"),
        ("/v2/app/manifests/sha256:abc", "DIGEST_INVALID"),
        ("/v2/app/blobs/sha512:" + "0" * 128, "DIGEST_INVALID"),
        ("/v2/app/blobs/..%2f..%2fetc", "UNSUPPORTED"),
        ("/v2/app/blobs/uploads/..", "UNSUPPORTED"),
    ):
        answer = await client.get(path)
        assert await refusal(answer) == code, path
        assert answer.status in (400, 404, 405)


async def test_a_blob_is_served_whole_in_ranges_and_as_head(client: Client, pusher: Pusher) -> None:
    digest = await pusher.blob("me/app", DATA)
    url = f"/v2/me/app/blobs/{digest}"
    answer = await client.get(url)
    assert answer.status == 200
    assert answer.headers["Docker-Content-Digest"] == digest
    assert await answer.read() == DATA
    part = await client.get(url, headers={"Range": "bytes=100-199"})
    assert part.status == 206
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(DATA)}"
    assert await part.read() == DATA[100:200]
    rest = await client.get(url, headers={"Range": "bytes=10000-"})
    assert await rest.read() == DATA[10000:]
    beyond = await client.get(url, headers={"Range": "bytes=99999-"})
    assert beyond.status == 416
    head = await client.head(url)
    assert head.status == 200
    assert head.headers["Content-Length"] == str(len(DATA))


# -- Push: blobs ---------------------------------------------------------------------------------


async def begin(client: Client, name: str = "me/app") -> str:
    answer = await client.post(f"/v2/{name}/blobs/uploads/")
    assert answer.status == 202
    assert answer.headers["Range"] == "0-0"
    location: str = answer.headers["Location"]
    return location


async def test_post_then_put_is_a_monolithic_push(client: Client) -> None:
    location = await begin(client)
    answer = await client.put(location, params={"digest": sha256(DATA)}, data=DATA)
    assert answer.status == 201
    assert answer.headers["Docker-Content-Digest"] == sha256(DATA)
    assert await (await client.get(answer.headers["Location"])).read() == DATA
    gone = await client.get(location)
    assert gone.status == 404


async def test_one_post_with_a_digest_is_enough(client: Client) -> None:
    answer = await client.post(
        "/v2/me/app/blobs/uploads/", params={"digest": sha256(DATA)}, data=DATA
    )
    assert answer.status == 201
    assert await (await client.get(answer.headers["Location"])).read() == DATA


async def test_chunks_arrive_in_order_and_only_in_order(client: Client) -> None:
    location = await begin(client)

    def header(first: int, last: int) -> dict[str, str]:
        return {"Content-Range": f"{first}-{last}", "Content-Type": "application/octet-stream"}

    one = await client.patch(location, data=DATA[:4000], headers=header(0, 3999))
    assert (one.status, one.headers["Range"]) == (202, "0-3999")
    again = await client.patch(location, data=DATA[:4000], headers=header(0, 3999))
    assert (again.status, again.headers["Range"]) == (416, "0-3999")
    assert await refusal(again) == "RANGE_INVALID"
    gap = await client.patch(location, data=DATA[5000:6000], headers=header(5000, 5999))
    assert gap.status == 416
    short = await client.patch(location, data=b"x", headers=header(4000, 4999))
    assert (short.status, await refusal(short)) == (400, "SIZE_INVALID")
    where = await client.get(location)
    assert (where.status, where.headers["Range"]) == (204, "0-3999")
    two = await client.patch(location, data=DATA[4000:8000], headers=header(4000, 7999))
    assert two.headers["Range"] == "0-7999"
    last = await client.put(
        location,
        params={"digest": sha256(DATA)},
        data=DATA[8000:],
        headers=header(8000, len(DATA) - 1),
    )
    assert last.status == 201
    assert await (await client.get(last.headers["Location"])).read() == DATA


async def test_a_stream_needs_no_range(client: Client) -> None:
    location = await begin(client)

    async def body() -> Any:
        for start in range(0, len(DATA), 1000):
            yield DATA[start : start + 1000]

    answer = await client.patch(location, data=body())
    assert answer.headers["Range"] == f"0-{len(DATA) - 1}"
    answer = await client.put(location, params={"digest": sha256(DATA)})
    assert answer.status == 201


async def test_a_wrong_digest_keeps_nothing(client: Client, tmp_path: Path) -> None:
    location = await begin(client)
    answer = await client.put(location, params={"digest": sha256(b"other")}, data=DATA)
    assert (answer.status, await refusal(answer)) == (400, "DIGEST_INVALID")
    assert (await client.get(f"/v2/me/app/blobs/{sha256(DATA)}")).status == 404
    assert not files_below(tmp_path)


async def test_an_upload_can_be_called_off(client: Client) -> None:
    location = await begin(client)
    await client.patch(location, data=DATA)
    assert (await client.delete(location)).status == 204
    assert (await client.get(location)).status == 404
    assert (await client.delete(location)).status == 404


async def test_an_upload_goes_on_after_a_restart(client: Client, tmp_path: Path) -> None:
    location = await begin(client)
    await client.patch(location, data=DATA[:5000])
    second = build_registry_app(Storage(tmp_path / "registry"))
    async with TestClient(TestServer(second)) as other:
        where = await other.get(location)
        assert where.headers["Range"] == "0-4999"
        answer = await other.put(location, params={"digest": sha256(DATA)}, data=DATA[5000:])
        assert answer.status == 201


async def test_two_requests_of_one_upload_take_turns(client: Client) -> None:
    location = await begin(client)
    digest = sha256(DATA)
    answers = await asyncio.gather(
        *(client.put(location, params={"digest": digest}, data=DATA) for _ in range(3))
    )
    assert sorted(answer.status for answer in answers) == [201, 404, 404]


# -- Push: mounting ------------------------------------------------------------------------------


async def test_a_blob_is_mounted_from_a_repository_that_has_it(
    client: Client, pusher: Pusher
) -> None:
    digest = await pusher.blob("one/app", DATA)
    answer = await client.post(
        "/v2/two/app/blobs/uploads/", params={"mount": digest, "from": "one/app"}
    )
    assert answer.status == 201
    assert answer.headers["Location"] == f"/v2/two/app/blobs/{digest}"
    assert await (await client.get(answer.headers["Location"])).read() == DATA


async def test_a_mount_that_cannot_be_becomes_an_upload(client: Client) -> None:
    for params in (
        {"mount": sha256(DATA), "from": "nobody/has"},
        {"mount": sha256(DATA)},
    ):
        answer = await client.post("/v2/two/app/blobs/uploads/", params=params)
        assert answer.status == 202
        assert (await client.get(answer.headers["Location"])).status == 204


async def test_a_blob_of_another_repository_is_not_in_this_one(
    client: Client, pusher: Pusher
) -> None:
    digest = await pusher.blob("one/app", DATA)
    await pusher.blob("two/app", b"something else")
    assert (await client.get(f"/v2/two/app/blobs/{digest}")).status == 404


# -- Push: manifests -----------------------------------------------------------------------------


async def test_a_manifest_needs_what_it_names(client: Client, pusher: Pusher) -> None:
    await pusher.blob("me/app", b"{}")
    status, body = await pusher.manifest("me/app", "1", manifest_of(DATA))
    assert status == 400
    assert body["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    assert body["errors"][0]["detail"] == {"digest": sha256(DATA)}
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [descriptor(manifest_of(DATA), MANIFEST)],
        }
    ).encode()
    status, body = await pusher.manifest("me/app", "1", index, INDEX)
    assert (status, body["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")


async def test_an_index_over_images_that_are_here_is_taken(client: Client, pusher: Pusher) -> None:
    digest = await pusher.image("me/app", "amd64", DATA)
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {
                    **descriptor(manifest_of(DATA), MANIFEST),
                    "platform": {"os": "linux", "architecture": "amd64"},
                }
            ],
        }
    ).encode()
    assert (await pusher.manifest("me/app", "latest", index, INDEX))[0] == 201
    answer = await client.get("/v2/me/app/manifests/latest")
    assert answer.content_type == INDEX
    assert (await answer.json(content_type=None))["manifests"][0]["digest"] == digest


@pytest.mark.parametrize(
    "data",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"schemaVersion":1}',
        b'{"schemaVersion":true}',
        b'{"schemaVersion":2,"layers":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"x","size":1,"digest":"sha256:zz"},"layers":[]}',
        b'{"schemaVersion":2,"mediaType":"text/plain","layers":[]}',
        b'{"schemaVersion":2,"manifests":[],"layers":[]}',
        manifest_of(config=b"{}").replace(b'"size": 2', b'"size": -2'),
        b"[" * 100_000,
    ],
)
async def test_what_is_no_manifest_is_refused(pusher: Pusher, data: bytes) -> None:
    status, body = await pusher.manifest("me/app", "1", data)
    assert (status, body["errors"][0]["code"]) == (400, "MANIFEST_INVALID")


async def test_a_manifest_under_a_wrong_digest_is_refused(pusher: Pusher) -> None:
    await pusher.blob("me/app", b"{}")
    status, body = await pusher.manifest("me/app", "sha256:" + "0" * 64, manifest_of())
    assert (status, body["errors"][0]["code"]) == (400, "DIGEST_INVALID")


async def test_a_manifest_of_more_than_four_megabytes_is_refused(client: Client) -> None:
    answer = await client.put("/v2/me/app/manifests/1", data=io.BytesIO(b" " * (5 << 20)))
    assert (answer.status, await refusal(answer)) == (413, "MANIFEST_INVALID")


async def test_pushing_a_tag_again_moves_it(client: Client, pusher: Pusher) -> None:
    first = await pusher.image("me/app", "1", b"a")
    second = await pusher.image("me/app", "1", b"b")
    answer = await client.get("/v2/me/app/manifests/1")
    assert answer.headers["Docker-Content-Digest"] == second
    assert (await client.get(f"/v2/me/app/manifests/{first}")).status == 200


# -- Content Discovery ---------------------------------------------------------------------------


async def test_tags_come_sorted_and_in_pages(client: Client, pusher: Pusher) -> None:
    for tag in ("c", "a", "b", "A"):
        await pusher.image("me/app", tag, DATA)
    answer = await client.get("/v2/me/app/tags/list")
    assert await answer.json() == {"name": "me/app", "tags": ["A", "a", "b", "c"]}
    assert "Link" not in answer.headers
    seen, url = [], "/v2/me/app/tags/list?n=2"
    while url:
        answer = await client.get(url)
        seen.append((await answer.json())["tags"])
        link = answer.headers.get("Link", "")
        url = link.partition("<")[2].partition(">")[0]
        assert not link or link.endswith('; rel="next"')
    assert seen == [["A", "a"], ["b", "c"]]
    none = await client.get("/v2/me/app/tags/list?n=0")
    assert ((await none.json())["tags"], "Link" in none.headers) == ([], False)
    after = await client.get("/v2/me/app/tags/list?last=aa")
    assert (await after.json())["tags"] == ["b", "c"]
    wrong = await client.get("/v2/me/app/tags/list?n=-1")
    assert await refusal(wrong) == "PAGINATION_NUMBER_INVALID"


async def test_the_catalog_names_every_repository(client: Client, pusher: Pusher) -> None:
    for name in ("b", "a/deep/one", "a", "c-d/e"):
        await pusher.image(name, "1", DATA)
    await begin(client, "only/begun")
    answer = await client.get("/v2/_catalog")
    assert await answer.json() == {"repositories": ["a", "a/deep/one", "b", "c-d/e"]}
    page = await client.get("/v2/_catalog?n=3")
    assert (await page.json())["repositories"] == ["a", "a/deep/one", "b"]
    link = page.headers["Link"]
    assert link == '</v2/_catalog?n=3&last=b>; rel="next"'
    rest = await client.get(link[1:].partition(">")[0])
    assert (await rest.json())["repositories"] == ["c-d/e"]
    assert "Link" not in rest.headers


async def test_referrers_are_listed_and_filtered(client: Client, pusher: Pusher) -> None:
    subject = await pusher.image("me/app", "1", DATA)
    about = descriptor(manifest_of(DATA), MANIFEST)
    signature = manifest_of(b"sig", artifactType="test/signature", subject=about)
    await pusher.blob("me/app", b"sig")
    status, headers = await pusher.manifest("me/app", sha256(signature), signature)
    assert (status, headers["OCI-Subject"]) == (201, subject)
    bill = manifest_of(b"sig", subject=about, annotations={"kind": "bill"})
    await pusher.manifest("me/app", sha256(bill), bill)
    answer = await client.get(f"/v2/me/app/referrers/{subject}")
    assert answer.content_type == INDEX
    body = await answer.json(content_type=None)
    kinds = {item["digest"]: item["artifactType"] for item in body["manifests"]}
    assert kinds == {
        sha256(signature): "test/signature",
        # Without artifactType the config's type stands for it.
        sha256(bill): "application/vnd.oci.image.config.v1+json",
    }
    filtered = await client.get(
        f"/v2/me/app/referrers/{subject}", params={"artifactType": "test/signature"}
    )
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    found = (await filtered.json(content_type=None))["manifests"]
    assert [item["digest"] for item in found] == [sha256(signature)]
    await client.delete(f"/v2/me/app/manifests/{sha256(signature)}")
    body = await (await client.get(f"/v2/me/app/referrers/{subject}")).json(content_type=None)
    assert [item["digest"] for item in body["manifests"]] == [sha256(bill)]


async def test_a_subject_may_come_later_or_never(client: Client, pusher: Pusher) -> None:
    nowhere = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 3}
    await pusher.image("me/app", "note", b"n", subject=nowhere)
    body = await (await client.get(f"/v2/me/app/referrers/{nowhere['digest']}")).json(
        content_type=None
    )
    assert len(body["manifests"]) == 1
    empty = await client.get("/v2/me/app/referrers/sha256:" + "2" * 64)
    assert (empty.status, (await empty.json(content_type=None))["manifests"]) == (200, [])


async def test_referrers_listed_under_the_fallback_tag_count_too(
    client: Client, pusher: Pusher
) -> None:
    subject = await pusher.image("me/app", "1", DATA)
    note = await pusher.image("me/app", "note", b"n")
    entry = {**descriptor(manifest_of(b"n"), MANIFEST), "artifactType": "test/note"}
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    await pusher.manifest("me/app", subject.replace(":", "-"), index, INDEX)
    body = await (await client.get(f"/v2/me/app/referrers/{subject}")).json(content_type=None)
    assert [item["digest"] for item in body["manifests"]] == [note]


# -- Content Management --------------------------------------------------------------------------


async def test_deleting_a_manifest_takes_its_tags_along(client: Client, pusher: Pusher) -> None:
    digest = await pusher.image("me/app", "1", DATA)
    await pusher.image("me/app", "2", DATA)
    other = await pusher.image("me/app", "3", b"x")
    assert (await client.delete(f"/v2/me/app/manifests/{digest}")).status == 202
    assert (await client.get(f"/v2/me/app/manifests/{digest}")).status == 404
    tags = await (await client.get("/v2/me/app/tags/list")).json()
    assert tags["tags"] == ["3"]
    assert (await client.delete("/v2/me/app/manifests/3")).status == 202
    assert (await client.get(f"/v2/me/app/manifests/{other}")).status == 200
    assert (await client.delete("/v2/me/app/manifests/3")).status == 404


async def test_deleting_a_blob_leaves_other_repositories_alone(
    client: Client, pusher: Pusher
) -> None:
    digest = await pusher.blob("one/app", DATA)
    await pusher.blob("two/app", DATA)
    assert (await client.delete(f"/v2/one/app/blobs/{digest}")).status == 202
    assert (await client.delete(f"/v2/one/app/blobs/{digest}")).status == 404
    assert (await client.get(f"/v2/two/app/blobs/{digest}")).status == 200


async def test_content_that_nobody_has_is_collected(
    client: Client, pusher: Pusher, tmp_path: Path
) -> None:
    kept = await pusher.image("me/app", "1", b"kept")
    digest = await pusher.blob("me/app", DATA)
    await client.delete(f"/v2/me/app/blobs/{digest}")
    assert Storage(tmp_path / "registry").collect() == [digest]
    assert (await client.get(f"/v2/me/app/manifests/{kept}")).status == 200
    assert (await client.get(f"/v2/me/app/blobs/{sha256(b'kept')}")).status == 200


async def test_deleting_can_be_switched_off(tmp_path: Path) -> None:
    app = build_registry_app(Storage(tmp_path), can_delete=False)
    async with TestClient(TestServer(app)) as client:
        digest = await Pusher(client).image("me/app", "1", DATA)
        for path in (f"manifests/{digest}", f"blobs/{sha256(DATA)}"):
            answer = await client.delete(f"/v2/me/app/{path}")
            assert (answer.status, await refusal(answer)) == (405, "UNSUPPORTED")


# -- Accounts ------------------------------------------------------------------------------------


async def test_accounts_are_those_of_the_password_file(tmp_path: Path) -> None:
    import bcrypt

    def line(user: str, password: str) -> str:
        return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"

    file = tmp_path / "htpasswd"
    file.write_text(line("ada", "sesame"))
    app = build_registry_app(Storage(tmp_path / "root"), accounts=Accounts(file, "the lab"))
    async with TestClient(TestServer(app)) as client:
        stranger = await client.get("/v2/")
        assert stranger.status == 401
        assert stranger.headers["WWW-Authenticate"] == 'Basic realm="the lab"'
        assert await refusal(stranger) == "UNAUTHORIZED"
        for user, password, status in (
            ("ada", "sesame", 200),
            ("ada", "sesame", 200),
            ("ada", "wrong", 401),
            ("eve", "sesame", 401),
            ("ada", "x" * 100, 401),
        ):
            answer = await client.get("/v2/", headers=basic(user, password))
            assert answer.status == status, user
        nonsense = await client.get("/v2/", headers={"Authorization": "Basic !!!"})
        assert nonsense.status == 401
        file.write_text(line("ada", "other") + line("eve", "apple"))
        assert (await client.get("/v2/", headers=basic("ada", "sesame"))).status == 401
        assert (await client.get("/v2/", headers=basic("eve", "apple"))).status == 200


def test_a_password_file_without_bcrypt_is_refused_by_its_line(tmp_path: Path) -> None:
    from labkit.base.errors import InvalidParameter

    file = tmp_path / "htpasswd"
    file.write_text("# people\nada:$apr1$x$y\n")
    with pytest.raises(InvalidParameter, match="line 2: only bcrypt"):
        Accounts(file)

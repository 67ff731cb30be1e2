"""What the registry's tests push, and how they read a refusal."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp.test_utils import TestClient

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, kind: str = LAYER) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256(data), "size": len(data)}


def manifest_of(*layers: bytes, config: bytes = b"{}", **more: Any) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer) for layer in layers],
            **more,
        }
    ).encode()


class Pusher:
    """A client with the few steps that most tests begin with."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def blob(self, name: str, data: bytes) -> str:
        digest = sha256(data)
        answer = await self.client.post(
            f"/v2/{name}/blobs/uploads/", params={"digest": digest}, data=data
        )
        assert answer.status == 201
        return digest

    async def manifest(
        self, name: str, reference: str, data: bytes, kind: str = MANIFEST
    ) -> tuple[int, Any]:
        answer = await self.client.put(
            f"/v2/{name}/manifests/{reference}", data=data, headers={"Content-Type": kind}
        )
        text = await answer.text()
        return answer.status, json.loads(text) if text else dict(answer.headers)

    async def image(self, name: str, tag: str, *layers: bytes, **more: Any) -> str:
        for data in (b"{}", *layers):
            await self.blob(name, data)
        data = manifest_of(*layers, **more)
        status, answer = await self.manifest(name, tag, data)
        assert status == 201, answer
        return sha256(data)


async def refusal(answer: Any) -> str:
    """The code of the specification's error document."""
    body = await answer.json()
    assert set(body) == {"errors"}
    code: str = body["errors"][0]["code"]
    return code

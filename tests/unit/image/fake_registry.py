"""A registry in the test's own event loop that can lie, stumble, and ask for credentials."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class FakeRegistry:
    """Content is put in by the test; what was asked is kept in `asked`."""

    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    auth: str = ""
    """"", `basic` or `bearer`; the password is `sesame`."""
    break_after: int = 0
    """Cut the next blob answer off after that many bytes."""
    ranges: bool = True
    damage: bool = False
    """Change a byte of every blob sent."""

    def put_image(self, tag: str, *layers: bytes, **changes: Any) -> str:
        """Add an image of the given layer archives; returns the manifest's digest."""
        config = json.dumps(
            {
                "created": "2024-01-01T00:00:00Z",
                "architecture": changes.get("architecture", "amd64"),
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": changes.get("diff_ids") or [digest_of(layer) for layer in layers],
                },
            }
        ).encode()
        pack = changes.get("pack") or (lambda data: gzip.compress(data, 1, mtime=0))
        packed = [pack(layer) for layer in layers]
        descriptors = []
        for media_type, data in [(CONFIG, config), *((LAYER, data) for data in packed)]:
            self.blobs[digest_of(data)] = data
            descriptors.append(
                {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
            )
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptors[0],
                "layers": descriptors[1:],
            }
        ).encode()
        return self.put_manifest(tag, MANIFEST, manifest)

    def put_manifest(self, tag: str, media_type: str, data: bytes) -> str:
        self.manifests[tag] = self.manifests[digest_of(data)] = (media_type, data)
        return digest_of(data)

    # -- answers ---------------------------------------------------------------------------

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/", self._ping)
        app.router.add_get("/token", self._token)
        app.router.add_get("/v2/{name:.+}/tags/list", self._tags)
        app.router.add_get("/v2/{name:.+}/manifests/{reference}", self._manifest)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._blob)
        return app

    def _challenge(self, request: web.Request) -> web.Response | None:
        given = request.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(b"ali:sesame").decode()
        if not self.auth or given in (basic, "Bearer open"):
            return None
        header = 'Basic realm="x"'
        if self.auth == "bearer":
            header = f'Bearer realm="http://{request.host}/token",service="fake",scope="a,b"'
        return web.json_response(
            {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]},
            status=401,
            headers={"WWW-Authenticate": header},
        )

    async def _ping(self, request: web.Request) -> web.Response:
        return self._challenge(request) or web.json_response({})

    async def _token(self, request: web.Request) -> web.Response:
        self.asked.append(f"token {request.query.get('scope')}")
        wanted = "Basic " + base64.b64encode(b"ali:sesame").decode()
        if request.headers.get("Authorization", wanted) != wanted:
            return web.json_response({}, status=401)
        return web.json_response({"token": "open"})

    async def _tags(self, request: web.Request) -> web.Response:
        """Two at a time, so that clients must follow links."""
        tags = sorted(word for word in self.manifests if ":" not in word)
        found = [tag for tag in tags if tag > request.query.get("last", "")]
        headers = {}
        if len(found) > 2:
            headers["Link"] = f'<{request.path}?n=2&last={found[1]}>; rel="next"'
        return web.json_response({"tags": found[:2]}, headers=headers)

    async def _manifest(self, request: web.Request) -> web.Response:
        if (refusal := self._challenge(request)) is not None:
            return refusal
        reference = request.match_info["reference"]
        self.asked.append(f"manifest {reference[:12]}")
        if reference not in self.manifests:
            return web.json_response(
                {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]},
                status=404,
            )
        media_type, data = self.manifests[reference]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
        return web.Response(body=data, headers=headers)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        if (refusal := self._challenge(request)) is not None:
            return refusal
        digest = request.match_info["digest"]
        wanted = request.headers.get("Range", "")
        self.asked.append(f"blob {digest[7:15]} {wanted}".rstrip())
        if digest not in self.blobs:
            return web.Response(status=404)
        data = self.blobs[digest]
        if self.damage:
            data = data[:-1] + bytes([data[-1] ^ 1])
        status = 200
        if wanted and self.ranges:
            data, status = data[int(wanted[6:-1]) :], 206
        response = web.StreamResponse(status=status, headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        if self.break_after and len(data) > self.break_after:
            cut, self.break_after = self.break_after, 0
            await response.write(data[:cut])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(data)
        return response


async def serve(registry: FakeRegistry) -> TestServer:
    server = TestServer(registry.application(), host="127.0.0.1")
    await server.start_server()
    return server

"""One registry: the requests of the OCI distribution specification that pull and push need."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp

from labkit.base.errors import (
    Forbidden,
    LabkitError,
    NotFound,
    SystemFailure,
    Unauthorized,
    Unavailable,
)
from labkit.host.image.digests import digest_of
from labkit.host.image.reference import Reference, validate_digest
from labkit.host.image.registry.auth import Authorizer, parse_challenges
from labkit.host.image.registry.endpoints import Endpoint, endpoints
from labkit.host.image.registry.options import RegistryOptions
from labkit.host.image.registry.tls import context_for, why_refused

__all__ = ["INDEX_TYPES", "MANIFEST_TYPES", "NO_CREDENTIALS", "Manifest", "RegistryClient"]

NO_CREDENTIALS = "no basic auth credentials"

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_MAX_MANIFEST = 4 << 20
_PAGES_MAX = 1000
_HUB_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or index as it came, with the digest of exactly those bytes."""

    digest: str
    media_type: str
    data: bytes


class RegistryClient:
    """A session with the registry of one reference; a context manager.

    Entering finds an endpoint that answers. Raises Unavailable with the sentence of Docker's
    daemon when none does.
    """

    def __init__(
        self,
        reference: Reference,
        options: RegistryOptions,
        *,
        is_push: bool = False,
        skip: int = 0,
    ) -> None:
        """`skip` passes over that many endpoints: mirrors that answered, but not well."""
        self.reference = reference
        self._candidates = endpoints(reference.domain, options, is_push=is_push)
        self.position = skip
        """Which of the endpoints it is that answers."""
        self._options = options
        self._authorizer = Authorizer(options)
        self._stack = contextlib.AsyncExitStack()
        self._session: aiohttp.ClientSession
        self._base = ""
        self._ssl: ssl.SSLContext | bool = True
        self.is_mirror = False

    async def __aenter__(self) -> Self:
        last: LabkitError | None = None
        for position, endpoint in enumerate(self._candidates[self.position :], self.position):
            try:
                await self._connect(endpoint)
                self.position = position
            except Unavailable as error:
                # http answers for itself; the https try before it was a guess.
                last = error
                continue
            return self
        assert last is not None
        raise last

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _connect(self, endpoint: Endpoint) -> None:
        stack = contextlib.AsyncExitStack()
        is_hub = endpoint.url.endswith("docker.io")
        limit = _HUB_SECONDS if is_hub else self._options.connect_seconds
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=limit, sock_read=60),
                trust_env=not endpoint.is_local,
                auto_decompress=False,
                headers={"User-Agent": "labkit"},
            )
        )
        url = f"{endpoint.url}/v2/"
        host = endpoint.url.partition("://")[2].partition("/")[0]
        try:
            checked = context_for(host, self._options.certificates, verify=endpoint.verify)
            async with asyncio.timeout(limit):
                async with session.get(url, ssl=checked) as response:
                    if response.status not in (200, 401):
                        raise Unavailable(f'Get "{url}": unexpected status {response.status}')
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            await stack.aclose()
            raise _unreachable(url, error) from error
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack
        self._session, self._base, self._ssl = session, endpoint.url, checked
        self.is_mirror = endpoint.is_mirror
        if endpoint.is_mirror:
            # The credentials are the official registry's; a mirror is somebody else.
            self._options = replace(
                self._options, username="", identity_token="", registry_token=""
            )
            self._authorizer = Authorizer(self._options)

    # -- requests --------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        where: str,
        *,
        actions: str = "pull",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        data: Any = None,
        replay: bool = True,
        also_pull: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, authorized as the registry asks. `where` is below the repository or a URL.

        `replay=False` is for bodies that cannot be sent twice: a 401 is then final. `also_pull`
        is a second repository that the request reads from (a mount). `actions=""` asks for no
        scope at all, as a login does.
        """
        url = where if "://" in where else f"{self._base}/v2/{self.reference.path}/{where}"
        scopes = [f"repository:{self.reference.path}:{actions}"] if actions else []
        if also_pull:
            scopes.append(f"repository:{also_pull}:pull")
        scope = tuple(scopes)
        for attempt in (1, 2):
            sent = dict(headers or {})
            authorization = self._authorizer.header(scope)
            if authorization:
                sent["Authorization"] = authorization
            try:
                response = await self._session.request(
                    method, url, headers=sent, params=params, data=data, ssl=self._ssl
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _unreachable(url, error, method) from error
            if response.status == 401 and attempt == 1 and replay:
                challenges = parse_challenges(response.headers.get("WWW-Authenticate", ""))
                response.release()
                if await self._authorizer.answer(self._session, challenges, scope, authorization):
                    continue
                if self._options.username:
                    raise Unauthorized(
                        "unauthorized: authentication required",
                        hint=f"docker login {self.reference.domain} again",
                    )
                raise Unauthorized(NO_CREDENTIALS, hint=f"docker login {self.reference.domain}")
            try:
                yield response
            finally:
                response.release()
            return

    def absolute(self, location: str) -> str:
        """A Location header as a URL."""
        return urljoin(self._base + "/", location)

    async def failure(self, response: aiohttp.ClientResponse, what: str) -> LabkitError:
        """The error for an answer that is not the one hoped for."""
        code, message = await _registry_error(response)
        name = self.reference.familiar_name
        if response.status == 401 or code == "UNAUTHORIZED":
            return Unauthorized(
                f"unauthorized: {message or 'authentication required'}",
                hint=f"docker login {self.reference.domain}",
            )
        if code == "NAME_UNKNOWN":
            return NotFound(f"repository {name} not found: name unknown: {message}")
        if response.status == 403 or code == "DENIED":
            return Forbidden(
                f"pull access denied for {name}, repository does not exist or may require "
                "'docker login': denied: requested access to the resource is denied",
                hint=f"check the name, or docker login {self.reference.domain}",
            )
        if response.status == 404:
            return NotFound(f"{what} not found: manifest unknown: {message or 'manifest unknown'}")
        if response.status == 429:
            return Unavailable(
                f"toomanyrequests: {message or 'too many requests'}",
                hint="docker login raises the limit, a mirror avoids it",
            )
        if response.status >= 500:
            return Unavailable(f"received unexpected HTTP status: {response.status}")
        return SystemFailure(
            f"{what}: the registry answered {response.status} {code or ''} {message}".rstrip()
        )

    # -- what pull asks --------------------------------------------------------------------

    async def resolve(self, tag: str) -> str:
        """The digest a tag has now, without its manifest (a HEAD); "" where none is told.

        Raises NotFound, Unauthorized with the sentence of Docker's daemon.
        """
        where = f"manifests/{tag}"
        try:
            async with self.request("HEAD", where, headers={"Accept": _ACCEPT}) as response:
                if response.status == 200:
                    digest = response.headers.get("Docker-Content-Digest", "")
                    return digest if _DIGEST.match(digest) else ""
        except Unauthorized as error:
            url = f"{self._base}/v2/{self.reference.path}/{where}"
            raise Unauthorized(f'Head "{url}": {error.message}', hint=error.hint) from error
        # A HEAD's answer has no body, and not every registry knows HEAD here: GET says why.
        return ""

    async def tags(self) -> list[str]:
        """All tags of the repository, page by page (spec, "Listing Tags")."""
        found: list[str] = []
        where = "tags/list"
        for _ in range(_PAGES_MAX):
            async with self.request("GET", where) as response:
                if response.status != 200:
                    raise await self.failure(response, f"tags of {self.reference.familiar_name}")
                data = await _limited(response, _MAX_MANIFEST, "list of tags")
                following = response.links.get("next")
                link = following.get("url") if following is not None else None
            try:
                found += [str(tag) for tag in json.loads(data).get("tags") or ()]
            except (ValueError, AttributeError, TypeError) as error:
                raise SystemFailure("the registry's list of tags is not one") from error
            if link is None:
                break
            where = self.absolute(str(link))
        return found

    async def manifest(self, reference: str) -> Manifest:
        """A manifest by tag or digest, its bytes checked against the digest asked for.

        Raises NotFound `manifest for x not found: manifest unknown: …`.
        """
        async with self.request(
            "GET", f"manifests/{reference}", headers={"Accept": _ACCEPT}
        ) as response:
            if response.status != 200:
                raise await self.failure(response, f"manifest for {self.reference.familiar}")
            data = await _limited(response, _MAX_MANIFEST, "manifest")
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        digest = digest_of(data)
        if ":" in reference and digest != reference:
            raise SystemFailure(
                f"manifest verification failed for digest {reference}: got {digest}",
                hint="the registry or something on the way changed it",
            )
        return Manifest(digest, kind, data)

    async def small_blob(self, digest: str, limit: int) -> bytes:
        """A config: a blob small enough to be held in memory, verified."""
        validate_digest(digest)
        async with self.request("GET", f"blobs/{digest}") as response:
            if response.status != 200:
                raise await self.failure(response, f"blob {digest}")
            data = await _limited(response, limit, "image config")
        if digest_of(data) != digest:
            raise SystemFailure(f"image config verification failed for digest {digest}")
        return data

    @contextlib.asynccontextmanager
    async def blob(self, digest: str, offset: int = 0) -> AsyncIterator[aiohttp.ClientResponse]:
        """A blob's body from `offset`; status 206 says that the registry did skip."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self.request("GET", f"blobs/{digest}", headers=headers) as response:
            if response.status not in (200, 206, 416):
                raise await self.failure(response, f"blob {digest}")
            yield response


async def _limited(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    data = bytearray()
    try:
        async for piece in response.content.iter_chunked(1 << 16):
            data += piece
            if len(data) > limit:
                raise SystemFailure(f"the {what} is larger than {limit} bytes: refused")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"the {what} broke off: {error}") from error
    return bytes(data)


async def _registry_error(response: aiohttp.ClientResponse) -> tuple[str, str]:
    """Code and message of the specification's error body, or empty."""
    try:
        body = await response.json(content_type=None)
        first = body["errors"][0]
        return str(first.get("code", "")), str(first.get("message", ""))
    except (aiohttp.ClientError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return "", ""


def _unreachable(url: str, error: BaseException, method: str = "Get") -> Unavailable:
    """Docker's daemon quotes Go's network errors; these are the usual ones."""
    verb = method.capitalize()
    host = url.partition("://")[2].partition("/")[0]
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        reason = f"dial tcp: lookup {host.partition(':')[0]}: no such host"
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        problem = error.certificate_error
        words = (
            why_refused(problem)
            if isinstance(problem, ssl.SSLCertVerificationError)
            else str(problem)
        )
        reason = f"tls: failed to verify certificate: {words}"
    elif isinstance(error, aiohttp.ClientConnectorSSLError):
        reason = "http: server gave HTTP response to HTTPS client"
    elif isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno
        words = os.strerror(code).lower() if code else str(error)
        reason = f"dial tcp {host}: connect: {words}"
    elif isinstance(error, TimeoutError):
        reason = "net/http: request canceled while waiting for connection"
    else:
        reason = str(error) or type(error).__name__
    return Unavailable(
        f'{verb} "{url}": {reason}', hint="is the registry running, and is its name right?"
    )

"""Answering a registry's challenge: bearer tokens (distribution spec) and basic credentials.

A token is asked for once per scope and kept for the client's life; registries hand out tokens for
minutes, and a second 401 asks again.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Unauthorized, Unavailable
from labkit.host.image.registry.options import RegistryOptions

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Authorizer", "Challenge", "parse_challenges"]

_PARAMETER = re.compile(r'([a-zA-Z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme of a WWW-Authenticate header."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """The schemes of a WWW-Authenticate header (RFC 9110, 11.6.1)."""
    found: list[Challenge] = []
    rest = header.strip()
    while rest:
        scheme, _, rest = rest.partition(" ")
        parameters: dict[str, str] = {}
        rest = rest.lstrip()
        while (match := _PARAMETER.match(rest)) is not None:
            quoted, plain = match[2], match[3]
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters[match[1].lower()] = value
            rest = rest[match.end() :]
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", scheme):
            break
        found.append(Challenge(scheme.lower(), parameters))
    return found


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Authorizer:
    """Keeps the Authorization header for each scope of one registry."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._headers: dict[str, str] = {}

    def header(self, scope: str) -> str | None:
        """What to send for `scope`, as far as it is known."""
        if self._options.registry_token:
            return f"Bearer {self._options.registry_token}"
        return self._headers.get(scope) or self._headers.get("")

    async def answer(
        self, session: aiohttp.ClientSession, challenges: list[Challenge], scope: str
    ) -> bool:
        """Answer a 401; returns whether there is something new to send."""
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                self._headers[scope] = "Bearer " + await self._token(session, challenge, scope)
                return True
            if challenge.scheme == "basic" and self._options.username:
                header = _basic(self._options.username, self._options.password)
                if self._headers.get("") == header:
                    return False
                self._headers[""] = header
                return True
        return False

    async def _token(self, session: aiohttp.ClientSession, challenge: Challenge, scope: str) -> str:
        realm = challenge.parameters["realm"]
        query = {"service": challenge.parameters.get("service", ""), "scope": scope}
        query = {key: value for key, value in query.items() if value}
        options = self._options
        if options.identity_token:
            form = {
                **query,
                "grant_type": "refresh_token",
                "refresh_token": options.identity_token,
                "client_id": "labkit",
            }
            response = await session.post(realm, data=form)
        else:
            headers = {}
            if options.username:
                headers["Authorization"] = _basic(options.username, options.password)
                query["account"] = options.username
            response = await session.get(realm, params=query, headers=headers)
        async with response:
            if response.status in (401, 403):
                raise Unauthorized(
                    "unauthorized: incorrect username or password", hint="docker login again"
                )
            if response.status != 200:
                raise Unavailable(
                    f"the token server {realm} answered {response.status}",
                    hint="try again in a moment",
                )
            body: Any = await response.json(content_type=None)
        token = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not token:
            raise Unavailable(f"the token server {realm} sent no token")
        return token

"""Answering a registry's challenge: bearer tokens (distribution spec) and basic credentials.

A token is asked for once per set of scopes and used until shortly before it ends; a 401 asks again.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.base.errors import Unauthorized, Unavailable
from labkit.host.image.registry.options import RegistryOptions

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Authorizer", "Challenge", "parse_challenges"]

_TOKEN_SECONDS_MIN = 60.0
"""What a token is good for when its server does not say (distribution's token specification)."""
_TOKEN_MARGIN_SECONDS = 10.0
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
    """Keeps the Authorization header for each set of scopes of one registry."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._basic = ""
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    def header(self, scopes: tuple[str, ...]) -> str | None:
        """What to send for these scopes, as far as it is known and still good."""
        if self._options.registry_token:
            return f"Bearer {self._options.registry_token}"
        token, until = self._tokens.get(scopes, ("", 0.0))
        if token and time.monotonic() < until:
            return f"Bearer {token}"
        return self._basic or None

    async def answer(
        self,
        session: aiohttp.ClientSession,
        challenges: list[Challenge],
        scopes: tuple[str, ...],
        refused: str | None,
    ) -> bool:
        """Answer a 401; returns whether there is something else to send than what was refused.

        Several requests at once may be refused before the first of them is answered.

        Raises Unauthorized when the token server refuses, Unavailable when it does not answer.
        """
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                self._tokens[scopes] = await self._token(session, challenge, scopes)
                return True
            if challenge.scheme == "basic" and self._options.username:
                header = _basic(self._options.username, self._options.password)
                self._basic = header
                return header != refused
        return False

    async def _token(
        self, session: aiohttp.ClientSession, challenge: Challenge, scopes: tuple[str, ...]
    ) -> tuple[str, float]:
        """A token and until when it is good (monotonic seconds)."""
        import aiohttp

        realm = challenge.parameters["realm"]
        query = [("service", challenge.parameters.get("service", ""))]
        options = self._options
        try:
            if options.identity_token:
                form = [*query, ("scope", " ".join(scopes)), ("grant_type", "refresh_token")]
                form += [("refresh_token", options.identity_token), ("client_id", "labkit")]
                response = await session.post(realm, data=dict(form))
            else:
                headers = {}
                query += [("scope", scope) for scope in scopes]
                if options.username:
                    headers["Authorization"] = _basic(options.username, options.password)
                    query.append(("account", options.username))
                asked = [(key, value) for key, value in query if value]
                response = await session.get(realm, params=asked, headers=headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"the token server {realm} does not answer: {error}") from error
        async with response:
            return await _read_token(response, realm)


async def _read_token(response: aiohttp.ClientResponse, realm: str) -> tuple[str, float]:
    if response.status in (401, 403):
        raise Unauthorized(
            "unauthorized: incorrect username or password", hint="docker login again"
        )
    if response.status != 200:
        raise Unavailable(
            f"the token server {realm} answered {response.status}", hint="try again in a moment"
        )
    try:
        body: Any = await response.json(content_type=None)
    except ValueError:
        body = None
    found = body if isinstance(body, dict) else {}
    token = found.get("token") or found.get("access_token")
    if not isinstance(token, str) or not token:
        raise Unavailable(f"the token server {realm} sent no token")
    seconds = found.get("expires_in")
    if not isinstance(seconds, int | float) or seconds < _TOKEN_SECONDS_MIN:
        seconds = _TOKEN_SECONDS_MIN
    return token, time.monotonic() + seconds - _TOKEN_MARGIN_SECONDS

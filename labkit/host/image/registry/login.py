"""Credentials as Docker's clients send them, and the question whether a registry takes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import InvalidParameter, Unauthorized
from labkit.host.image.reference import DEFAULT_DOMAIN, Reference
from labkit.host.image.registry.client import RegistryClient
from labkit.host.image.registry.options import RegistryOptions

__all__ = ["check_login", "options_from_auth"]

_HUB_NAMES = ("", "https://index.docker.io/v1/", "index.docker.io", "docker.io")


def options_from_auth(auth: Mapping[str, Any] | None) -> RegistryOptions:
    """Options from a decoded X-Registry-Auth header (or a `POST /auth` body).

    Raises InvalidParameter when its `auth` field is not base64 of `user:password`.
    """
    auth = auth or {}
    username, password = str(auth.get("username") or ""), str(auth.get("password") or "")
    packed = auth.get("auth")
    if packed and not username:
        try:
            text = base64.b64decode(str(packed), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise InvalidParameter("invalid X-Registry-Auth: auth is not base64") from error
        username, _, password = text.partition(":")
    return RegistryOptions(
        username=username,
        password=password,
        identity_token=str(auth.get("identitytoken") or ""),
        registry_token=str(auth.get("registrytoken") or ""),
    )


async def check_login(auth: Mapping[str, Any]) -> dict[str, str]:
    """`docker login`: ask the registry; returns {"Status": …, "IdentityToken": ""}.

    Raises Unauthorized with the registry's sentence, Unavailable when it does not answer.
    """
    server = str(auth.get("serveraddress") or "")
    domain = DEFAULT_DOMAIN if server in _HUB_NAMES else server
    domain = domain.removeprefix("https://").removeprefix("http://").partition("/")[0]
    options = options_from_auth(auth)
    async with (
        RegistryClient(Reference(domain, "library/none"), options) as client,
        client.request("GET", client.absolute("/v2/"), actions="pull") as response,
    ):
        if response.status != 200:
            raise Unauthorized(
                f"login attempt to {client.absolute('/v2/')} failed with status: "
                f"{response.status} {response.reason}",
                hint="check the user name and the password",
            )
    return {"Status": "Login Succeeded", "IdentityToken": ""}

"""The question whether a registry takes a name and a password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.base.errors import InvalidParameter, SystemFailure, Unauthorized, Unavailable
from labkit.host.image.reference import DEFAULT_DOMAIN, Reference, split_domain
from labkit.host.image.registry.client import NO_CREDENTIALS, RegistryClient
from labkit.host.image.registry.credentials import options_from_auth

__all__ = ["check_login", "options_from_auth"]

_HUB_NAMES = ("", "https://index.docker.io/v1/", "index.docker.io", "docker.io")


async def check_login(auth: Mapping[str, Any]) -> dict[str, str]:
    """`docker login`: ask the registry; returns {"Status": …, "IdentityToken": ""}.

    Raises Unauthorized where a token server refuses, SystemFailure with Docker's sentence where
    the registry itself does (dockerd answers 500 there), or where it cannot be reached.
    """
    server = str(auth.get("serveraddress") or "")
    domain = DEFAULT_DOMAIN if server in _HUB_NAMES else server
    domain = domain.removeprefix("https://").removeprefix("http://").partition("/")[0]
    try:
        split_domain(f"{domain}/none")
    except InvalidParameter:
        raise InvalidParameter(f"invalid registry endpoint {server[:100]}") from None
    options = options_from_auth(auth)
    nobody = Reference(domain, "library/none")
    try:
        async with RegistryClient(nobody, options, is_push=True) as client:
            await _try(client)
    except Unavailable as error:
        raise SystemFailure(error.message, hint=error.hint) from error
    return {"Status": "Login Succeeded", "IdentityToken": ""}


async def _try(client: RegistryClient) -> None:
    url = client.absolute("/v2/")
    try:
        async with client.request("GET", url, actions="") as response:
            if response.status != 200:
                raise SystemFailure(
                    f"login attempt to {url} failed with status: "
                    f"{response.status} {response.reason}",
                    hint="check the user name and the password",
                )
    except Unauthorized as error:
        if error.message == NO_CREDENTIALS:
            raise SystemFailure(f'Get "{url}": {error.message}', hint=error.hint) from error
        raise Unauthorized(f'Get "{url}": {error.message}', hint=error.hint) from error

"""Credentials as Docker's clients send them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.host.image.registry.options import RegistryOptions

__all__ = ["options_from_auth"]


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

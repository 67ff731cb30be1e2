"""Docker's config.json as far as registries go: credentials, helpers, proxies, headers.

A credential lies in the file itself (`auths`, base64 of `user:password`) or with a helper program,
`docker-credential-NAME`, that is asked through its stdin (`get`, `store`, `erase`): no secret is
ever an argument of a program. Reference: docker login, "Credential stores".
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.errors import CommandError
from labkit.notebook.endpoint import config_folder, load_config

__all__ = [
    "INDEX_SERVER",
    "Credentials",
    "all_credentials",
    "auth_header",
    "auth_headers",
    "credentials_for",
    "encoded",
    "erase",
    "header_fields",
    "proxy_arguments",
    "registry_key",
    "store",
    "stored_in_clear",
]

INDEX_SERVER = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"  # noqa: S105 - the name under which helpers keep identity tokens
_MISSING = "credentials not found in native keychain"
_PROXIES = ("httpProxy", "httpsProxy", "ftpProxy", "noProxy", "allProxy")
_HELPER_S = 60.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one registry is told: a password, or a token that stands for it."""

    server: str
    user: str = ""
    password: str = ""
    token: str = ""

    def fields(self) -> dict[str, str]:
        """As the API takes it (AuthConfig)."""
        found = {
            "username": self.user,
            "password": self.password,
            "serveraddress": self.server,
            "identitytoken": self.token,
        }
        return {name: value for name, value in found.items() if value}


def registry_key(server: str) -> str:
    """The name under which a registry's credentials are kept: its host, without scheme or path."""
    if server in ("", "docker.io", "index.docker.io", "registry-1.docker.io") or (
        server.rstrip("/") == INDEX_SERVER.rstrip("/")
    ):
        return INDEX_SERVER
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _helper(config: Mapping[str, Any], server: str) -> str:
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict) and helpers.get(server):
        return str(helpers[server])
    return str(config.get("credsStore") or "")


def _ask_helper(name: str, action: str, given: str) -> str:
    """One call of a helper; raises CommandError with what it said."""
    if not name or "/" in name:
        raise CommandError(f"invalid credential helper: {name!r}")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, action],
            input=given.encode(),
            capture_output=True,
            timeout=_HELPER_S,
            check=False,
        )
    except FileNotFoundError:
        raise CommandError(
            f'exec: "{program}": executable file not found in $PATH, out: ``'
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{program}: {error}, out: ``") from None
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        raise CommandError(f"exit status {done.returncode}, out: `{said}`")
    return said


def _decoded(server: str, entry: Mapping[str, Any]) -> Credentials:
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        with suppress(binascii.Error, ValueError):
            text = base64.b64decode(str(entry["auth"])).decode()
            user, _, password = text.partition(":")
    token = str(entry.get("identitytoken") or "")
    return Credentials(server, user, password.strip("\0"), token)


def credentials_for(server: str) -> Credentials | None:
    """What is known about the registry `server` (a key), or None; a helper is asked if set."""
    config = load_config()
    helper = _helper(config, server)
    if helper:
        return _from_helper(helper, server)
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    for name, entry in auths.items():
        if isinstance(entry, dict) and server in (name, registry_key(name)):
            found = _decoded(server, entry)
            return found if found.user or found.token else None
    return None


def _from_helper(helper: str, server: str) -> Credentials | None:
    try:
        found = json.loads(_ask_helper(helper, "get", server))
        user, secret = str(found["Username"]), str(found["Secret"])
    except CommandError as error:
        if _MISSING in error.message:
            return None
        raise CommandError(f"error getting credentials - err: {error.message}") from None
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            f"error getting credentials: docker-credential-{helper} spoke no JSON"
        ) from None
    if user == _TOKEN_USER:
        return Credentials(server, token=secret)
    return Credentials(server, user, secret)


def all_credentials() -> dict[str, Credentials]:
    """Every registry's credentials, for a build that may pull from any of them."""
    config = load_config()
    auths = config.get("auths")
    names = [name for name in auths if isinstance(name, str)] if isinstance(auths, dict) else []
    helpers = config.get("credHelpers")
    names += [name for name in helpers if name not in names] if isinstance(helpers, dict) else []
    store = str(config.get("credsStore") or "")
    if store:
        with suppress(CommandError, ValueError, AttributeError):
            names += [
                name for name in json.loads(_ask_helper(store, "list", "")) if name not in names
            ]
    found: dict[str, Credentials] = {}
    for name in sorted(names):
        with suppress(CommandError):
            entry = credentials_for(name)
            if entry is not None:
                found[name] = entry
    return found


def encoded(value: Any) -> str:
    """base64url JSON, as the API's headers want it."""
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def auth_header(domain: str) -> dict[str, str]:
    """X-Registry-Auth for one request about an image of `domain`."""
    key = INDEX_SERVER if domain == "docker.io" else domain
    found = credentials_for(key)
    return {"X-Registry-Auth": encoded(found.fields() if found else {})}


def auth_headers() -> dict[str, str]:
    """X-Registry-Config for a build."""
    every = {name: found.fields() for name, found in all_credentials().items()}
    return {"X-Registry-Config": encoded(every)}


def header_fields() -> dict[str, str]:
    """HttpHeaders of the configuration: sent with every request, credentials' headers aside."""
    found = load_config().get("HttpHeaders")
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items() if name.lower() != "user-agent"}


def proxy_arguments(address: str) -> dict[str, str]:
    """Build arguments from `proxies`, each name in upper and lower case."""
    proxies = load_config().get("proxies")
    if not isinstance(proxies, dict):
        return {}
    chosen = proxies.get(address) or proxies.get("default")
    if not isinstance(chosen, dict):
        return {}
    found = {}
    for key in _PROXIES:
        value = chosen.get(key)
        if value:
            name = key.removesuffix("Proxy") + "_proxy"
            found[name.upper()] = found[name] = str(value)
    return found


# -- keeping -------------------------------------------------------------------------------


def stored_in_clear(server: str) -> Path | None:
    """The file that will hold this registry's password as it is; None where a helper keeps it."""
    return None if _helper(load_config(), server) else config_folder() / "config.json"


def store(found: Credentials) -> None:
    """Keep credentials. Raises CommandError when a helper or the disk refuses."""
    config = load_config()
    helper = _helper(config, found.server)
    if helper:
        secret = {
            "ServerURL": found.server,
            "Username": _TOKEN_USER if found.token else found.user,
            "Secret": found.token or found.password,
        }
        try:
            _ask_helper(helper, "store", json.dumps(secret, separators=(",", ":")) + "\n")
        except CommandError as error:
            raise CommandError(f"error storing credentials - err: {error.message}") from None
        entry: dict[str, str] = {}
    else:
        # A token replaces the password; the user's name alone is kept beside it.
        text = f"{found.user}:{'' if found.token else found.password}"
        entry = {"auth": base64.b64encode(text.encode()).decode()}
        if found.token:
            entry["identitytoken"] = found.token
    auths = config.get("auths") if isinstance(config.get("auths"), dict) else {}
    assert isinstance(auths, dict)
    _write({**config, "auths": dict(sorted({**auths, found.server: entry}.items()))})


def erase(server: str) -> None:
    """Forget a registry's credentials, under whichever of its spellings they are kept."""
    config = load_config()
    key = registry_key(server)
    spellings = [server]
    if key != INDEX_SERVER:
        spellings += [key, f"http://{key}", f"https://{key}"]
    helper = _helper(config, key)
    if helper:
        try:
            for name in spellings:
                _ask_helper(helper, "erase", name)
        except CommandError as error:
            if _MISSING not in error.message:
                raise CommandError(f"error erasing credentials - err: {error.message}") from None
    auths = config.get("auths")
    if not isinstance(auths, dict) or not set(spellings) & set(auths):
        return
    _write(
        {**config, "auths": {name: entry for name, entry in auths.items() if name not in spellings}}
    )


def _write(config: Mapping[str, Any]) -> None:
    """Replace config.json; its mode is kept, a new one is its owner's alone."""
    folder = config_folder()
    # A link stays a link: what it leads to is replaced.
    path = Path(os.path.realpath(folder / "config.json"))
    kept = {key: value for key, value in config.items() if value != {} or key == "auths"}
    text = json.dumps(kept, indent="\t", ensure_ascii=False)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        fd, name = tempfile.mkstemp(prefix="config.json", dir=path.parent)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), mode)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandError(f"open {path}: {(error.strerror or '').lower()}") from None

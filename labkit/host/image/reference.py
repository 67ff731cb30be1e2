"""Names of images: `[domain/]path[:tag][@digest]`, as the distribution project defines them.

Grammar and the normalisation rules: github.com/distribution/reference (regexp.go, normalize.go).
`alpine` means `docker.io/library/alpine:latest`; people are shown the familiar `alpine:latest`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from labkit.base.errors import InvalidParameter

__all__ = [
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "Reference",
    "familiar_name",
    "parse",
    "split_domain",
    "validate_digest",
]

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?\Z"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}\Z")
_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_INVALID = "invalid reference format"


@dataclass(frozen=True, slots=True)
class Reference:
    """One parsed name. `tag` and `digest` are empty where none was given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Full repository name: `docker.io/library/alpine`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """Repository name as people write it: `alpine`."""
        return familiar_name(self.name)

    @property
    def suffix(self) -> str:
        """`:tag`, `@digest`, both, or nothing."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def canonical(self) -> str:
        """Everything spelt out; the default tag only where neither tag nor digest was given."""
        return self.name + self.with_default_tag().suffix

    @property
    def familiar(self) -> str:
        """As Docker prints it: `alpine:latest`, `me/app:1`, `alpine@sha256:…`."""
        return self.familiar_name + self.with_default_tag().suffix

    def with_default_tag(self) -> Reference:
        """The same name with `latest` where it says nothing (Docker's TagNameOnly)."""
        if self.tag or self.digest:
            return self
        return replace(self, tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same repository under another tag.

        Raises InvalidParameter `invalid tag format`.
        """
        if re.fullmatch(_TAG, tag) is None:
            raise InvalidParameter("invalid tag format")
        return replace(self, tag=tag, digest="")

    def with_digest(self, digest: str) -> Reference:
        """The same repository pinned to `digest`."""
        validate_digest(digest)
        return replace(self, tag="", digest=digest)

    def __str__(self) -> str:
        return self.name + self.suffix


def familiar_name(name: str) -> str:
    """`docker.io/library/x` → `x`, `docker.io/me/x` → `me/x`, anything else as it is."""
    domain, _, path = name.partition("/")
    if domain != DEFAULT_DOMAIN:
        return name
    short = path.removeprefix(_OFFICIAL)
    # docker.io/library/a/b is not the official repository a/b.
    return path if "/" in short and path.startswith(_OFFICIAL) else short


def split_domain(text: str) -> tuple[str, str]:
    """Domain and remainder of a name as typed: the first part is a domain only if it looks so."""
    first, slash, rest = text.partition("/")
    looks_like_domain = (
        first == "localhost" or "." in first or ":" in first or first.lower() != first
    )
    if not slash or not looks_like_domain:
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def validate_digest(digest: str) -> None:
    """Check `algorithm:hex`; raises InvalidParameter with the go-digest library's sentences."""
    algorithm, _, encoded = digest.partition(":")
    if re.fullmatch(_DIGEST, digest) is None and not re.fullmatch(
        r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", digest
    ):
        raise InvalidParameter("invalid checksum digest format")
    if algorithm not in _HEX_LENGTH:
        raise InvalidParameter("unsupported digest algorithm")
    if len(encoded) != _HEX_LENGTH[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if re.fullmatch(r"[a-f0-9]+", encoded) is None:
        raise InvalidParameter("invalid checksum digest format")


def parse(text: str) -> Reference:
    """Parse a name as typed by a person or sent by a client.

    Raises InvalidParameter with Docker's sentences (`invalid reference format` and its variants).
    """
    if _IDENTIFIER.match(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = split_domain(text)
    name_part = remainder.partition(":")[0]
    if name_part.lower() != name_part:
        raise InvalidParameter(
            f"{_INVALID}: repository name ({name_part}) must be lowercase",
            hint=f"write it as {name_part.lower().removeprefix(_OFFICIAL)}",
        )
    match = _REFERENCE.match(f"{domain}/{remainder}")
    if match is None:
        raise InvalidParameter(_INVALID)
    path, tag, digest = match["path"], match["tag"] or "", match["digest"] or ""
    if len(match["domain"]) + 1 + len(path) > _MAX_NAME:
        raise InvalidParameter("repository name must not be more than 255 characters")
    if digest:
        validate_digest(digest)
    return Reference(match["domain"], path, tag, digest)

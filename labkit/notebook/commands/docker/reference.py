"""Names of images as people type them and as the API wants them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labkit.base.errors import CommandError
from labkit.notebook.commands.gotext import go_quote

__all__ = ["ImageName", "check_platform", "parse_image_name"]

_PATH = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z"
)
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}\Z")


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name taken apart: `docker.io`, `library/alpine`, tag and digest ("" where absent)."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def canonical(self) -> str:
        """`docker.io/library/alpine`, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """`alpine`, `me/app`, `registry:5000/app`: what people type, without tag and digest."""
        if self.domain == "docker.io":
            return self.path.removeprefix("library/")
        return self.canonical

    def shown(self) -> str:
        """The familiar name with its tag or digest, `latest` where it has neither."""
        if self.digest:
            tag = f":{self.tag}" if self.tag else ""
            return f"{self.familiar}{tag}@{self.digest}"
        return f"{self.familiar}:{self.tag or 'latest'}"


def _invalid(detail: str = "") -> CommandError:
    return CommandError(f"invalid reference format{detail}")


def parse_image_name(text: str) -> ImageName:
    """Take a name apart; raises CommandError with the client's sentence."""
    if re.fullmatch(r"[a-f0-9]{64}", text):
        raise CommandError(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.match(digest):
        raise _invalid()
    head, slash, tail = rest.partition("/")
    has_domain = bool(slash) and (
        "." in head or ":" in head or head == "localhost" or head.lower() != head
    )
    domain, path = (head, tail) if has_domain else ("docker.io", rest)
    if domain == "index.docker.io":
        domain = "docker.io"
    path, colon, tag = path.partition(":")
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if path.lower() != path and _PATH.match(path.lower()):
        raise _invalid(f": repository name ({path}) must be lowercase")
    if not _PATH.match(path) or not _DOMAIN.match(domain) or (colon and not _TAG.match(tag)):
        raise _invalid()
    return ImageName(domain, path, tag, digest)


_PLATFORM_WORDS = frozenset(
    {
        *("linux", "windows", "darwin", "freebsd", "amd64", "arm64", "arm", "386", "i386"),
        *("x86_64", "aarch64", "armhf", "armel", "riscv64", "ppc64le", "s390x", "mips64le"),
        *("loong64", "wasm", "js", "android", "netbsd", "openbsd", "solaris", "plan9", "aix"),
    }
)


def check_platform(text: str) -> None:
    """Refuse what is no OS[/ARCH[/VARIANT]], in the client's words."""
    problem = f"error parsing specified platform: {go_quote(text)}"
    parts = text.split("/")
    for part in parts:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+(\([A-Za-z0-9_.-]+\))?", part):
            raise CommandError(
                f"error parsing specified platform: {go_quote(part)} is an invalid component of "
                f"{go_quote(text)}: platform specifier component must match "
                '"^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise CommandError(f"{problem}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1 and text.lower() not in _PLATFORM_WORDS:
        raise CommandError(f"{problem}: unknown operating system or architecture: invalid argument")

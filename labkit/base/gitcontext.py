"""A git repository as a build context: `URL#ref:folder`, fetched by the system's git.

Only the one commit is fetched, without history. Reference: docker build, "Git repositories".
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from labkit.base.errors import InvalidParameter

__all__ = ["checkout", "is_git_url", "split_git_url"]

_HTTP_GIT = re.compile(r"https?://.*\.git(?:#.+)?\Z", re.DOTALL)
_PREFIXES = ("git://", "github.com/", "git@", "ssh://git@")
_TIMEOUT_S = 600.0


def is_git_url(text: str) -> bool:
    """Whether Docker's client would clone `text` rather than download it."""
    return bool(_HTTP_GIT.match(text)) or text.startswith(_PREFIXES)


def split_git_url(text: str) -> tuple[str, str, str]:
    """Repository, ref (`HEAD` where none is given) and folder of `URL#ref:folder`."""
    address, _, fragment = text.partition("#")
    ref, _, folder = fragment.partition(":")
    if address.startswith("github.com/"):
        address = f"https://{address}"
    return address, ref or "HEAD", folder


def checkout(text: str, target: Path) -> Path:
    """Fetch into the empty folder `target`; returns the folder that is the context.

    Blocking. Raises InvalidParameter with git's own words.
    """
    address, ref, folder = split_git_url(text)
    if ref.startswith("-") or address.startswith("-"):
        raise InvalidParameter(f"invalid git reference: {ref}")
    # Nothing of the user's configuration that could run a program has a say over a stranger's
    # repository: no hooks, no templates, and nobody is asked for a password.
    _git(target, "init", "--quiet", "--template=", ".")
    _git(target, "remote", "add", "origin", address)
    try:
        _git(target, "fetch", "--quiet", "--depth", "1", "--no-tags", "origin", ref)
    except InvalidParameter as error:
        if "does not support shallow" not in error.message:
            raise
        # A plain file server: it has only whole histories to give.
        _git(target, "fetch", "--quiet", "--no-tags", "origin", ref)
    _git(target, "checkout", "--quiet", "FETCH_HEAD")
    if (target / ".gitmodules").exists():
        _git(target, "submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1")
    top = target.resolve()
    found = (top / folder.strip("/")).resolve()
    if not found.is_relative_to(top) or not found.is_dir():
        raise InvalidParameter(
            f"error setting git checkout to {folder!r}: not a folder of the repository"
        )
    return found


def _git(folder: Path, *words: str) -> None:
    safe = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never")
    try:
        done = subprocess.run(
            ["git", *safe, *words],
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise InvalidParameter(
            'unable to find "git": a repository as build context needs it',
            hint="install git, or give a folder or a tar archive",
        ) from None
    except subprocess.TimeoutExpired:
        raise InvalidParameter(f"git {words[0]} did not end within {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace")
        raise InvalidParameter(
            "unable to 'git clone' to temporary context directory: error fetching: "
            f"{said}: exit status {done.returncode}"
        )

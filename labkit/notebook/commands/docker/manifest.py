"""`docker manifest inspect`: what a registry keeps under a name, without pulling the image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.config_file import auth_header
from labkit.notebook.commands.docker.reference import parse_image_name

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["inspect"]

_NOT_FOUND = 404


def inspect(call: Call) -> None:
    """Show a manifest, or a list of them, as Docker's client indents it.

    Docker's client asks the registry itself. Here the daemon does, because the registries that the
    student runs are the lab host's.
    """
    if not call.client.is_local_lab:
        raise CommandError(
            "docker manifest inspect works with the lab's own engine only: another engine's API "
            "does not hand out manifests"
        )
    from labkit.notebook.client import ApiError, LabClient

    name = parse_image_name(call.args[0])
    suffix = f"@{name.digest}" if name.digest else f":{name.tag or 'latest'}"
    lab = LabClient()
    try:
        found = lab.request(
            "GET",
            "/v1/images/manifest",
            query={"of": f"{name.canonical}{suffix}", "insecure": call.flags["insecure"]},
            headers=auth_header(name.domain),
        )
    except ApiError as error:
        if error.status == _NOT_FOUND:
            raise CommandError(f"no such manifest: {name.shown()}") from None
        raise
    finally:
        lab.close()
    call.surface.out(_indented(found.json()))


def _indented(document: dict[str, Any]) -> str:
    """Three blanks for a list, a tab for one manifest: as Docker's client prints them."""
    indent: str | int = 3 if "manifests" in document else "\t"
    return json.dumps(document, indent=indent, ensure_ascii=False) + "\n"

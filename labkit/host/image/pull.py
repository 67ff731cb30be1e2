"""`docker pull` as a stream of the lines Docker sends while it works."""

from __future__ import annotations

from labkit.base.errors import NotFound
from labkit.host.image.reference import Reference

__all__ = ["denied"]


def denied(reference: Reference, catalog_names: list[str]) -> NotFound:
    """Docker's sentence for an image no registry will give us, and what there is instead."""
    return NotFound(
        f"pull access denied for {reference.familiar_name}, repository does not exist or may "
        "require 'docker login': denied: requested access to the resource is denied",
        hint="without a network this lab can build: " + ", ".join(catalog_names),
    )

"""`volume create` and `volume rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker.create_options import mapping

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["create", "remove", "update"]


def create(call: Call) -> None:
    """Create a volume and print its name."""
    flags = call.flags
    body: dict[str, Any] = {"Driver": flags["driver"]}
    if flags["opt"]:
        body["DriverOpts"] = mapping(flags["opt"])
    if flags["label"]:
        body["Labels"] = mapping(flags["label"])
    name = call.args[0] if call.args else flags["name"]
    if call.args and flags["name"]:
        raise CommandError(
            "conflicting options: cannot specify a volume-name through both --name and as a "
            "positional arg"
        )
    if name:
        body["Name"] = name
    answer = call.client.request("POST", "/volumes/create", json=body).json()
    call.surface.out(f"{answer['Name']}\n")


def remove(call: Call) -> int:
    """Remove volumes."""
    failed = 0
    for name in call.args:
        if not name:
            raise CommandError("volume name cannot be empty")
        try:
            call.client.request("DELETE", f"/volumes/{name}", query={"force": call.flags["force"]})
        except LabkitError as error:
            call.surface.err(getattr(error, "sentence", error.message) + "\n")
            failed = 1
            continue
        call.surface.out(f"{name}\n")
    return failed


def update(call: Call) -> None:
    """Change a volume of a cluster; every other kind is refused, as Docker's client does."""
    found = call.client.request("GET", f"/volumes/{call.args[0]}").json()
    if not found.get("ClusterVolume"):
        raise CommandError("can only update cluster volumes")
    spec = {**found["ClusterVolume"]["Spec"], "Availability": call.flags["availability"]}
    version = found["ClusterVolume"]["Version"]["Index"]
    query = {"version": version}
    call.client.request("PUT", f"/volumes/{call.args[0]}", query=query, json={"Spec": spec})

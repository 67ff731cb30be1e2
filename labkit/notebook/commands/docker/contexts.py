"""`context`: the engines that Docker's configuration knows by name. All of it is local."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.context_store import load_context, places
from labkit.notebook.commands.formatting import View, show
from labkit.notebook.endpoint import config_folder, load_config, read_contexts

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["inspect", "listing", "set_current", "show_current", "use"]

_VIEW = View(
    type_name="*formatter.clientContextContext",
    headings={
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "DockerEndpoint": "DOCKER ENDPOINT",
        "Error": "ERROR",
        "Current": "",  # a mark, not a column
    },
    table="{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
    quiet="{{.Name}}",
)


def _current(call: Call) -> str:
    if os.environ.get("DOCKER_HOST"):
        return "default"
    name = os.environ.get("DOCKER_CONTEXT") or load_config().get("currentContext")
    return call.client.context_name or str(name or "default")


def listing(call: Call) -> None:
    """List contexts."""
    current = _current(call)
    default = call.client.address if current == "default" else ""
    rows: list[dict[str, Any]] = [
        {
            "Name": "default",
            "Description": "Current DOCKER_HOST based configuration",
            "DockerEndpoint": default,
            "Error": "",
            "Current": current == "default",
        }
    ]
    for name, meta in sorted(read_contexts().items()):
        rows.append(
            {
                "Name": name,
                "Description": (meta.get("Metadata") or {}).get("Description", ""),
                "DockerEndpoint": (meta.get("Endpoints") or {}).get("docker", {}).get("Host", ""),
                "Error": "",
                "Current": name == current,
            }
        )
    rows.sort(key=lambda row: str(row["Name"]))
    show(call.surface, _VIEW, rows, call.flags["format"], quiet=call.flags["quiet"])
    if os.environ.get("DOCKER_HOST"):
        call.surface.err(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use a "
            "context, either set the global --context flag, or unset DOCKER_HOST environment "
            "variable.\n"
        )


def show_current(call: Call) -> None:
    """Print the name of the current context."""
    call.surface.out(f"{_current(call)}\n")


def use(call: Call) -> None:
    """Make a context the current one, in Docker's own configuration file."""
    name = call.args[0]
    if name != "default":
        load_context(name)
    set_current(name)
    call.surface.out(f"{name}\n")
    call.surface.err(f'Current context is now "{name}"\n')
    if name != "default" and os.environ.get("DOCKER_HOST"):
        call.surface.err(
            "Warning: DOCKER_HOST environment variable overrides the active context. To use "
            f'"{name}", either set the global --context flag, or unset DOCKER_HOST environment '
            "variable.\n"
        )


def set_current(name: str) -> None:
    """Write the current context into Docker's configuration file. Raises CommandError."""
    config = load_config()
    if name == "default":
        config.pop("currentContext", None)
    else:
        config["currentContext"] = name
    file = config_folder() / "config.json"
    if config or file.exists():
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = file.with_name(f".config.json.{os.getpid()}")
            temporary.write_text(json.dumps(config, indent="\t"))
            temporary.replace(file)
        except OSError as error:
            raise CommandError(f"cannot write {file}: {error.strerror}") from None


def inspect(call: Call) -> int:
    """Details of contexts."""
    from labkit.notebook.commands.docker.inspect import print_found

    def fetch(name: str) -> dict[str, Any]:
        if name == "default":
            host = call.client.address
            return {
                "Name": "default",
                "Metadata": {},
                "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}},
                "TLSMaterial": {},
                "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
            }
        folder, secrets = places(name)
        docker = secrets / "docker"
        files = sorted(file.name for file in docker.iterdir()) if docker.is_dir() else []
        return {
            **load_context(name),
            "TLSMaterial": {"docker": files} if files else {},
            "Storage": {"MetadataPath": str(folder), "TLSPath": str(secrets)},
        }

    return print_found(call, fetch, call.args or [_current(call)])

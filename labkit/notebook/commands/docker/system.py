"""`version` and `info`."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError, LabkitError
from labkit.base.quantities import format_binary_size
from labkit.notebook.commands.gotemplate import (
    TemplateError,
    TemplateSyntaxError,
    go_json,
    render,
)

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["info", "version"]

_SYNTAX = 64
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _client_version(call: Call) -> dict[str, Any]:
    from labkit import __version__

    machine = platform.machine()
    return {
        "Platform": {"Name": "labkit"},
        "Version": __version__,
        "ApiVersion": "1.50",
        "DefaultAPIVersion": "1.50",
        "GitCommit": "",
        "GoVersion": "",
        "PythonVersion": platform.python_version(),
        "Os": "linux",
        "Arch": _ARCHITECTURES.get(machine, machine),
        "BuildTime": "",
        "Context": call.client.context_name or "default",
    }


def _for_templates(client: Mapping[str, Any]) -> dict[str, Any]:
    """Templates go by the names of the client's types, which JSON spells differently."""
    return {**client, "APIVersion": client["ApiVersion"]}


def _pairs(indent: int, pairs: list[tuple[str, Any]]) -> str:
    width = 20 - indent
    return "".join(
        f"{' ' * indent}{key + ':':<{width}}{value}\n"
        for key, value in pairs
        if value not in ("", None)
    )


def _build_time(text: str) -> str:
    """RFC 3339 as the client shows it."""
    from datetime import datetime

    try:
        day, _, rest = text.partition(".")
        moment = datetime.fromisoformat(day if rest else text)
    except ValueError:
        return text
    return f"{moment:%a %b} {moment.day:>2} {moment:%H:%M:%S %Y}"


def _client_text(client: Mapping[str, Any]) -> str:
    return f"Client: {client['Platform']['Name']}\n" + _pairs(
        1,
        [
            ("Version", client["Version"]),
            ("API version", client["ApiVersion"]),
            ("Python version", client["PythonVersion"]),
            ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
            ("Context", client["Context"]),
        ],
    )


def _server_text(server: Mapping[str, Any]) -> str:
    name = (server.get("Platform") or {}).get("Name")
    text = f"\nServer: {name}\n" if name else "\nServer:\n"
    for component in server.get("Components") or ():
        details = dict(component.get("Details") or {})
        text += f" {component['Name']}:\n"
        pairs: list[tuple[str, Any]] = [("Version", component.get("Version"))]
        if component["Name"] == "Engine":
            api = details.get("ApiVersion", "")
            least = details.get("MinAPIVersion")
            pairs += [
                ("API version", f"{api} (minimum version {least})" if least else api),
                ("Go version", details.get("GoVersion")),
                ("Git commit", details.get("GitCommit")),
                ("Built", _build_time(details.get("BuildTime") or "")),
                ("OS/Arch", f"{details.get('Os')}/{details.get('Arch')}"),
                ("Experimental", details.get("Experimental")),
            ]
        else:
            pairs += sorted(details.items())
        text += _pairs(2, pairs)
    return text


def _evaluate(template: str, data: Mapping[str, Any], name: str, type_name: str) -> str:
    try:
        return render(template, data, type_name=type_name)
    except TemplateSyntaxError as error:
        raise CommandError(f"template parsing error: {error}", _SYNTAX) from None
    except TemplateError as error:
        text = str(error)
        if name:
            text = text.replace("template: :", f"template: {name}:", 1)
            text = text.replace('executing ""', f'executing "{name}"', 1)
        raise CommandError(text) from None


def _print_evaluated(
    call: Call, template: str, data: Mapping[str, Any], name: str, type_name: str
) -> None:
    """The evaluated template; where that fails the client still ends the line it began."""
    try:
        call.surface.out(_evaluate(template, data, name, type_name) + "\n")
    except CommandError as error:
        if error.exit_code != _SYNTAX:
            call.surface.out("\n")
        raise


def version(call: Call) -> int:
    """Versions of client and engine."""
    client = _client_version(call)
    server: dict[str, Any] | None = None
    failure: LabkitError | None = None
    try:
        server = call.client.request("GET", "/version").json()
        client["ApiVersion"] = call.client.api_version
    except LabkitError as error:
        failure = error
    template = call.flags["format"]
    data = {"Client": _for_templates(client), "Server": server and _with_short_names(server)}
    if template == "json":
        call.surface.out(go_json({"Client": client, "Server": server}) + "\n")
    elif template:
        _print_evaluated(call, template, data, "version", "system.versionInfo")
    else:
        call.surface.out(_client_text(client))
        if server is not None:
            call.surface.out(_server_text(server))
    if failure is not None:
        raise failure
    return 0


def _with_short_names(server: Mapping[str, Any]) -> dict[str, Any]:
    """Templates also know APIVersion, as the client's type spells it, and what JSON leaves out."""
    missing = {"Experimental": False, "BuildTime": "", "KernelVersion": "", "MinAPIVersion": ""}
    return {**missing, **server, "APIVersion": server.get("ApiVersion", "")}


def _security(options: list[str]) -> str:
    if not options:
        return ""
    text = " Security Options:\n"
    for option in options:
        fields = dict(item.partition("=")[::2] for item in option.split(","))
        text += f"  {fields.pop('name', option)}\n"
        text += "".join(f"   {key.title()}: {value}\n" for key, value in fields.items())
    return text


def _plugins(plugins: Mapping[str, Any]) -> str:
    text = " Plugins:\n"
    for kind in ("Volume", "Network", "Authorization", "Log"):
        names = plugins.get(kind)
        if names or kind != "Authorization":
            text += f"  {kind}: {' '.join(names or ())}\n"
    return text


def _swarm(swarm: Mapping[str, Any]) -> str:
    state = swarm.get("LocalNodeState") or "inactive"
    text = f" Swarm: {state}\n"
    if state in ("inactive", "locked"):
        return text
    text += f"  NodeID: {swarm.get('NodeID', '')}\n"
    if swarm.get("Error"):
        text += f"  Error: {swarm['Error']}\n"
    manager = "true" if swarm.get("ControlAvailable") else "false"
    return f"{text}  Is Manager: {manager}\n  Node Address: {swarm.get('NodeAddr', '')}\n"


def _line(indent: int, key: str, value: Any) -> str:
    return "" if value in ("", None) else f"{' ' * indent}{key}: {value}\n"


def _server_info(found: Mapping[str, Any]) -> str:
    text = "Server:\n" + _line(1, "Containers", found.get("Containers", 0))
    for key in ("Running", "Paused", "Stopped"):
        text += _line(2, key, found.get(f"Containers{key}", 0))
    text += _line(1, "Images", found.get("Images", 0))
    text += _line(1, "Server Version", found.get("ServerVersion"))
    text += _line(1, "Storage Driver", found.get("Driver"))
    text += "".join(_line(2, key, value) for key, value in found.get("DriverStatus") or ())
    text += _line(1, "Logging Driver", found.get("LoggingDriver"))
    text += _line(1, "Cgroup Driver", found.get("CgroupDriver"))
    text += _line(1, "Cgroup Version", found.get("CgroupVersion"))
    text += _plugins(found.get("Plugins") or {}) + _swarm(found.get("Swarm") or {})
    if found.get("Runtimes"):
        text += _line(1, "Runtimes", " ".join(sorted(found["Runtimes"])))
        text += _line(1, "Default Runtime", found.get("DefaultRuntime"))
    text += _line(1, "Init Binary", found.get("InitBinary"))
    for key, field in (("containerd", "Containerd"), ("runc", "Runc"), ("init", "Init")):
        commit = (found.get(f"{field}Commit") or {}).get("ID", "")
        text += f" {key} version: {commit}\n"
    text += _security(found.get("SecurityOptions") or [])
    return text + _machine(found)


def _machine(found: Mapping[str, Any]) -> str:
    text = "".join(
        _line(1, title, found.get(key))
        for title, key in (
            ("Kernel Version", "KernelVersion"),
            ("Operating System", "OperatingSystem"),
            ("OSType", "OSType"),
            ("Architecture", "Architecture"),
            ("CPUs", "NCPU"),
        )
    )
    text += _line(1, "Total Memory", format_binary_size(found.get("MemTotal") or 0))
    text += "".join(
        _line(1, title, found.get(key))
        for title, key in (("Name", "Name"), ("ID", "ID"), ("Docker Root Dir", "DockerRootDir"))
    )
    text += _line(1, "Debug Mode", _boolean(found.get("Debug")))
    for title, key in (
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
    ):
        text += _line(1, title, found.get(key))
    text += _block("Labels", found.get("Labels"))
    text += _line(1, "Experimental", _boolean(found.get("ExperimentalBuild")))
    registry = found.get("RegistryConfig") or {}
    insecure = [
        *(
            name
            for name, index in (registry.get("IndexConfigs") or {}).items()
            if not index.get("Secure", True)
        ),
        *(registry.get("InsecureRegistryCIDRs") or ()),
    ]
    text += _block("Insecure Registries", insecure)
    text += _block("Registry Mirrors", registry.get("Mirrors"))
    text += _line(1, "Live Restore Enabled", _boolean(found.get("LiveRestoreEnabled")))
    text += _line(1, "Product License", found.get("ProductLicense"))
    pools = found.get("DefaultAddressPools")
    text += _block(
        "Default Address Pools",
        [f"Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools or ()],
    )
    return text + "\n"


def _block(title: str, lines: Any) -> str:
    return (
        "".join(f"{line}\n" for line in (f" {title}:", *(f"  {x}" for x in lines))) if lines else ""
    )


def _boolean(value: Any) -> str:
    return "true" if value else "false"


def info(call: Call) -> int:
    """Everything the engine says about itself."""
    client = _client_version(call)
    template = call.flags["format"]
    found: dict[str, Any] = {}
    failure: LabkitError | None = None
    try:
        found = call.client.request("GET", "/info").json()
    except LabkitError as error:
        failure = error
    debug = bool(os.environ.get("DEBUG"))
    if template:
        described = {**found, "ClientInfo": {"Debug": debug, **client, "Plugins": []}}
        if template == "json":
            call.surface.out(go_json(described) + "\n")
        else:
            _print_evaluated(call, template, described, "", "system.dockerInfo")
    else:
        call.surface.out(
            f"Client: labkit\n Version:    {client['Version']}\n"
            f" Context:    {client['Context']}\n Debug Mode: {_boolean(debug)}\n\n"
        )
        if found:
            call.surface.out(_server_info(found))
            for warning in found.get("Warnings") or ():
                call.surface.err(f"{warning}\n")
    if failure is not None:
        raise failure
    return 0

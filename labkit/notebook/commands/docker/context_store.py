"""`context create`, `update`, `rm`, `export`, `import`: engines that Docker's configuration names.

A context is a folder of its own below `contexts/` of Docker's configuration folder, named by the
hash of its name, as Docker's client keeps it: what is made here, the real client finds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.base.errors import CommandError
from labkit.notebook.endpoint import config_folder, load_config, read_contexts

if TYPE_CHECKING:
    from labkit.notebook.commands.tree import Call

__all__ = ["create", "export", "import_context", "load_context", "places", "remove", "update"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+\Z")
_FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_KEYS = frozenset({"from", "host", "skip-tls-verify", *_FILES})
# What a context may weigh, so that an archive from somewhere cannot fill the disk.
_BYTES_MAX = 10 * 1024 * 1024


def places(name: str) -> tuple[Path, Path]:
    """Where a context's description and its certificates lie."""
    key = hashlib.sha256(name.encode()).hexdigest()
    root = config_folder() / "contexts"
    return root / "meta" / key, root / "tls" / key


def load_context(name: str) -> dict[str, Any]:
    """A context's description. Raises CommandError with the client's sentence."""
    found = read_contexts().get(name)
    if found is None:
        raise CommandError(
            f'context "{name}": context not found: open {places(name)[0]}/meta.json: '
            "no such file or directory",
            hint="docker context ls shows the contexts that exist",
        )
    return found


def _check_name(name: str) -> None:
    if name == "default":
        raise CommandError('"default" is a reserved context name')
    if not name:
        raise CommandError("context name cannot be empty")
    if not _NAME.match(name):
        raise CommandError(
            f'context name "{name}" is invalid, names are validated against regexp '
            '"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def _default_endpoint(call: Call) -> dict[str, Any]:
    return {"Host": call.client.address, "SkipTLSVerify": False}


def _description_of(call: Call, name: str) -> dict[str, Any]:
    if name == "default":
        return {
            "Metadata": {"Description": "Current DOCKER_HOST based configuration"},
            "Endpoints": {"docker": _default_endpoint(call)},
        }
    return load_context(name)


def _endpoint(
    call: Call, options: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, bytes] | None]:
    """What `--docker key=value,…` describes, with its certificates.

    None stands for those of the context that `from` names. Raises CommandError.
    """
    problem = "unable to create docker endpoint config: "
    for key in options:
        if key not in _KEYS:
            raise CommandError(f"{problem}unrecognized config key: {key}")
    if "from" in options:
        try:
            found = _description_of(call, options["from"])
        except CommandError as error:
            raise CommandError(f"{problem}{error.message}") from None
        return dict(found["Endpoints"]["docker"]), None
    certificates = {}
    for key, file in _FILES.items():
        if options.get(key):
            path = os.path.expanduser(options[key])
            try:
                certificates[file] = (call.cwd / path).read_bytes()
            except OSError as error:
                reason = (error.strerror or "").lower()
                raise CommandError(f"{problem}open {options[key]}: {reason}") from None
    word = options.get("skip-tls-verify", "false")
    if word not in _TRUE | _FALSE:
        raise CommandError(f'{problem}skip-tls-verify: parsing "{word}": invalid syntax')
    endpoint = {"Host": options.get("host", ""), "SkipTLSVerify": word in _TRUE}
    return endpoint, certificates


def _options(call: Call) -> dict[str, str]:
    return dict(
        pair.partition("=")[::2] for text in call.flags["docker"] for pair in text.split(",")
    )


def _write(name: str, meta: Mapping[str, Any], certificates: Mapping[str, bytes]) -> None:
    """Store a context; what it had before is replaced."""
    folder, secrets = places(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".meta.json.{os.getpid()}"
        temporary.write_text(json.dumps(meta, separators=(",", ":"), ensure_ascii=False))
        temporary.replace(folder / "meta.json")
        shutil.rmtree(secrets, ignore_errors=True)
        for file, content in certificates.items():
            (secrets / "docker").mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(secrets / "docker" / file, os.O_WRONLY | os.O_CREAT, 0o600)
            with open(descriptor, "wb") as target:
                target.write(content)
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from None


def _certificates(name: str) -> dict[str, bytes]:
    folder = places(name)[1] / "docker"
    if not folder.is_dir():
        return {}
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def _exists(name: str) -> bool:
    return name in read_contexts()


def create(call: Call) -> None:
    """Make a context: of options, or as a copy."""
    name, flags = call.args[0], call.flags
    _check_name(name)
    if _exists(name):
        raise CommandError(f'context "{name}" already exists')
    source = flags["from"]
    if flags["docker"]:
        endpoint, found = _endpoint(call, _options(call))
        certificates = _certificates(_options(call)["from"]) if found is None else found
        described: dict[str, Any] = {}
    else:
        base = _description_of(call, source or _current(call))
        endpoint = base["Endpoints"]["docker"]
        described = dict(base.get("Metadata") or {})
        certificates = _certificates(source or _current(call))
    if flags["description"]:
        described["Description"] = flags["description"]
    meta = {"Name": name, "Metadata": described, "Endpoints": {"docker": endpoint}}
    _write(name, meta, certificates)
    call.surface.out(f"{name}\n")
    call.surface.err(f'Successfully created context "{name}"\n')


def _current(call: Call) -> str:
    if os.environ.get("DOCKER_HOST"):
        return "default"
    named = os.environ.get("DOCKER_CONTEXT") or load_config().get("currentContext")
    return call.client.context_name or str(named or "default")


def update(call: Call) -> None:
    """Change a context's description or its engine."""
    name, flags = call.args[0], call.flags
    _check_name(name)
    meta = dict(load_context(name))
    certificates = _certificates(name)
    if flags["description"]:
        meta["Metadata"] = {**(meta.get("Metadata") or {}), "Description": flags["description"]}
    if flags["docker"]:
        endpoint, found = _endpoint(call, _options(call))
        certificates = _certificates(_options(call)["from"]) if found is None else found
        meta["Endpoints"] = {**(meta.get("Endpoints") or {}), "docker": endpoint}
    _write(name, meta, certificates)
    call.surface.out(f"{name}\n")
    call.surface.err(f'Successfully updated context "{name}"\n')


def remove(call: Call) -> int:
    """Remove contexts; the one in use only when forced."""
    failed = []
    current = _current(call)
    for name in call.args:
        try:
            _remove(call, name, current)
        except CommandError as error:
            failed.append(error.message)
        else:
            call.surface.out(f"{name}\n")
    if failed:
        raise CommandError("\n".join(failed))
    return 0


def _remove(call: Call, name: str, current: str) -> None:
    force = call.flags["force"]
    if name == "default":
        raise CommandError('context "default" cannot be removed')
    if not _exists(name):
        if force:
            return
        raise CommandError(f'context "{name}" does not exist')
    if name == current:
        if not force:
            raise CommandError(f'context "{name}" is in use, set -f flag to force remove')
        from labkit.notebook.commands.docker.contexts import set_current

        set_current("default")
    for folder in places(name):
        shutil.rmtree(folder, ignore_errors=True)


# -- archives ------------------------------------------------------------------------------


def export(call: Call) -> None:
    """A context with its certificates as a tar archive."""
    name = call.args[0]
    target = call.args[1] if len(call.args) > 1 else f"{name}.dockercontext"
    if name != "default":
        _check_name(name)
    content = _archive(_description_of(call, name), _certificates(name))
    if target == "-":
        if getattr(call.surface, "stdout_is_terminal", False):
            raise CommandError("cowardly refusing to export to a terminal, specify a file path")
        call.surface.out_bytes(content)
        return
    try:
        descriptor = os.open(call.cwd / target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise CommandError(f"open {target}: {(error.strerror or '').lower()}") from None
    call.surface.err(f'Written file "{target}"\n')


def _archive(meta: Mapping[str, Any], certificates: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "meta.json", json.dumps(meta, separators=(",", ":")).encode(), 0o644)
        for folder in ("tls", *(("tls/docker",) if certificates else ())):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o700
            tar.addfile(member)
        for file, content in certificates.items():
            _add(tar, f"tls/docker/{file}", content, 0o600)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def import_context(call: Call) -> None:
    """A context from an archive that `context export` has made."""
    name, source = call.args
    if _exists(name):
        raise CommandError(f'context "{name}" already exists')
    if source == "-":
        if call.surface.stdin is None:
            raise CommandError("there is no stdin to read from")
        content = call.surface.stdin.read(_BYTES_MAX + 1)
    else:
        try:
            with open(call.cwd / source, "rb") as file:
                content = file.read(_BYTES_MAX + 1)
        except OSError as error:
            raise CommandError(f"open {source}: {(error.strerror or '').lower()}") from None
    if len(content) > _BYTES_MAX:
        raise CommandError(f"read: the max limit of {_BYTES_MAX} bytes has been exceeded")
    _check_name(name)
    members = _members(content)
    try:
        meta = json.loads(members.pop("meta.json"))
        meta = {**meta, "Name": name}
    except KeyError:
        raise CommandError("invalid context: no metadata found") from None
    except (ValueError, TypeError) as error:
        raise CommandError(f"invalid context: {error}") from None
    prefix = "tls/docker/"
    certificates = {
        path.removeprefix(prefix): data
        for path, data in members.items()
        if path.startswith(prefix) and "/" not in path.removeprefix(prefix)
    }
    _write(name, meta, certificates)
    call.surface.out(f"{name}\n")
    call.surface.err(f'Successfully imported context "{name}"\n')


def _members(content: bytes) -> dict[str, bytes]:
    """The files of a tar or zip archive by path; paths are names here, never opened."""
    found: dict[str, bytes] = {}
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and entry.file_size <= _BYTES_MAX:
                        found[entry.filename] = archive.read(entry)
        elif content:
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isreg() else None
                    if file is not None:
                        found[member.name] = file.read(_BYTES_MAX)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise CommandError(f"invalid context: {error}") from None
    return found

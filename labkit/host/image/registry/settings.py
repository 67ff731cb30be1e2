"""What the lab is told about registries: `LABKIT_HOME/etc/daemon.json` and two variables.

The file is Docker's own (dockerd's reference, "Daemon configuration file"); of it these keys are
read: `insecure-registries`, `registry-mirrors`, `max-concurrent-downloads`,
`max-concurrent-uploads`, `max-download-attempts`. Certificates lie as Docker has them, in
`certs.d/HOST:PORT/` (`*.crt` authorities, `NAME.cert` with `NAME.key` for a client's own), below
`LABKIT_HOME/etc` and then below `/etc/docker`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.base.errors import InvalidParameter
from labkit.base.paths import LabPaths

__all__ = ["Settings", "certificate_folders", "read_settings"]

_MACHINE_CERTS = Path("/etc/docker/certs.d")
_LISTS = ("insecure-registries", "registry-mirrors")
_NUMBERS = ("max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts")


@dataclass(frozen=True, slots=True)
class Settings:
    """The numbers are Docker's defaults unless the file says otherwise."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    downloads: int = 3
    uploads: int = 5
    attempts: int = 5


def _folder() -> Path:
    return LabPaths.from_environment().home / "etc"


def certificate_folders() -> tuple[Path, ...]:
    """Where `certs.d/HOST:PORT` may be, first match first."""
    return (_folder() / "certs.d", _MACHINE_CERTS)


def _words(variable: str) -> tuple[str, ...]:
    return tuple(os.environ.get(variable, "").replace(",", " ").split())


def read_settings(file: Path | None = None) -> Settings:
    """The settings in force now; the variables come before the file.

    Raises InvalidParameter naming the file and the key that cannot be used.
    """
    file = file or _folder() / "daemon.json"
    found = _read(file)
    for key in _LISTS:
        values = found.get(key, [])
        if not isinstance(values, list) or not all(isinstance(word, str) for word in values):
            raise _unusable(file, f"{key} must be a list of strings")
    for key in _NUMBERS:
        value = found.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _unusable(file, f"{key} must be a number of at least 1")
    plain = Settings()
    return Settings(
        insecure=(*_words("LABKIT_INSECURE_REGISTRIES"), *found.get("insecure-registries", ())),
        mirrors=(*_words("LABKIT_REGISTRY_MIRRORS"), *found.get("registry-mirrors", ())),
        downloads=found.get("max-concurrent-downloads", plain.downloads),
        uploads=found.get("max-concurrent-uploads", plain.uploads),
        attempts=found.get("max-download-attempts", plain.attempts),
    )


def _unusable(file: Path, why: str) -> InvalidParameter:
    return InvalidParameter(
        f"unable to configure the daemon with file {file}: {why}", hint="mend or remove the file"
    )


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file, str(error)) from error
    if not isinstance(found, dict):
        raise _unusable(file, "it must hold a JSON object")
    return found

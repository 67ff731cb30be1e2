"""How values of `build`'s flags are read, where that is not as for every command."""

from __future__ import annotations

from labkit.base.errors import CommandError
from labkit.notebook.commands.docker.reference import parse_image_name
from labkit.notebook.commands.docker.validators import VALIDATORS as RUN_VALIDATORS
from labkit.notebook.commands.docker.validators import validate_environment
from labkit.notebook.commands.flags import Validators

__all__ = ["VALIDATORS"]


def _tag(text: str) -> str:
    try:
        parse_image_name(text)
    except CommandError as error:
        raise ValueError(error.message) from None
    return text


VALIDATORS: Validators = {
    "build-arg": validate_environment,
    "tag": _tag,
    **{name: RUN_VALIDATORS[name] for name in ("add-host", "memory-swap", "ulimit")},
}

"""The `docker` command line: `main` carries one out, `complete` proposes the next word.

The commands themselves are tables (`table_*.py`); the functions that they name are in the other
modules and imported when used. Output, messages and exit codes are those of Docker's client.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.base.errors import CommandError, LabkitError
from labkit.notebook.commands.docker.table_build import BUILD_COMMANDS
from labkit.notebook.commands.docker.table_container import CONTAINER_COMMANDS
from labkit.notebook.commands.docker.table_image import IMAGE_COMMANDS
from labkit.notebook.commands.docker.table_resource import RESOURCE_COMMANDS
from labkit.notebook.commands.docker.table_run import RUN_COMMANDS
from labkit.notebook.commands.docker.table_system import SYSTEM_COMMANDS
from labkit.notebook.commands.flags import FlagError, FlagHelp, Validators, parse_flags
from labkit.notebook.commands.tree import Call, Command, Group, Tree, check_operands, help_text

if TYPE_CHECKING:
    from labkit.notebook.client import Client
    from labkit.notebook.commands.completion import Completion
    from labkit.notebook.commands.surface import Surface

__all__ = ["CLIENT_VERSION", "COMMANDS", "complete", "main"]

# The client whose output is reproduced.
CLIENT_VERSION = "28.2.2"

COMMANDS = Tree(
    program="docker",
    description="A self-sufficient runtime for containers",
    commands=(
        *CONTAINER_COMMANDS,
        *RUN_COMMANDS,
        *IMAGE_COMMANDS,
        *BUILD_COMMANDS,
        *RESOURCE_COMMANDS,
        *SYSTEM_COMMANDS,
    ),
    groups=(
        Group("builder", "Manage builds"),
        Group("container", "Manage containers"),
        Group("context", "Manage contexts"),
        Group("image", "Manage images"),
        Group("manifest", "Manage Docker image manifests and manifest lists"),
        Group("network", "Manage networks"),
        Group("system", "Manage Docker"),
        Group("volume", "Manage volumes"),
    ),
    common=(
        *("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search"),
        *("version", "info"),
    ),
    options="""
    --config string    | Location of client config files (default "~/.docker")
-c, --context string   | Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker context use")
-D, --debug            | Enable debug mode
-H, --host list        | Daemon socket to connect to
-l, --log-level string | Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")
    --tls              | Use TLS; implied by --tlsverify
    --tlscacert string | Trust certs signed only by this CA (default "~/.docker/ca.pem")
    --tlscert string   | Path to TLS certificate file (default "~/.docker/cert.pem")
    --tlskey string    | Path to TLS key file (default "~/.docker/key.pem")
    --tlsverify        | Use TLS and verify the remote
-v, --version          | Print version information and quit
""",  # noqa: E501 - wrapped when printed
)

_LOG_LEVELS = frozenset({"trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"})

# Commands of Docker that this client does not have; the real client can be pointed at the lab.
_ELSEWHERE = frozenset(
    {
        *("buildx", "checkpoint", "compose", "config", "manifest", "node", "plugin", "secret"),
        *("service", "stack", "swarm", "trust"),
    }
)


def main(argv: Sequence[str], *, client: Client, surface: Surface, cwd: Path) -> int:
    """Carry out `docker ARGV`; returns the exit code and never raises for what a user did.

    Relative paths are meant from `cwd`. KeyboardInterrupt reaches the container where Docker's
    client forwards it, and ends any other command with 130.
    """
    try:
        return _main(argv, client, surface, cwd)
    except CommandError as error:
        if error.message:
            surface.err(error.message + "\n")
        _give_hint(surface, error)
        return error.exit_code
    except LabkitError as error:
        surface.err(getattr(error, "sentence", error.message) + "\n")
        _give_hint(surface, error)
        return 1
    except BrokenPipeError:
        return 1  # whoever read our output has enough
    except KeyboardInterrupt:
        return 130


def _give_hint(surface: Surface, error: LabkitError) -> None:
    give = getattr(surface, "hint", None)
    if give is not None and error.hint:
        give(error.hint)


def _main(argv: Sequence[str], client: Client, surface: Surface, cwd: Path) -> int:
    columns = getattr(surface, "help_columns", 80)
    try:
        options, words = parse_flags(COMMANDS.option_table, argv, interspersed=False)
    except FlagHelp:
        surface.out(help_text(COMMANDS, "", None, columns))
        return 0
    except FlagError as error:
        raise CommandError(
            f"{error}\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\n"
            "Run 'docker --help' for more information",
            125,
        ) from None
    if options["version"]:
        surface.out(f"Docker version {CLIENT_VERSION}, build labkit\n")
        return 0
    if options["log-level"] not in _LOG_LEVELS:
        raise CommandError(f"Unable to parse logging level: {options['log-level']}")
    if options["host"] or options["context"]:
        from labkit.notebook.client import Client

        client = Client.from_environment(
            host=options["host"][-1] if options["host"] else None,
            context=options["context"] or None,
        )
    if words[:1] == ["help"]:
        return _help_topic(words[1:], client, surface, columns)
    if not words:
        surface.out(help_text(COMMANDS, "", None, columns))
        return 0
    return _dispatch(words, client, surface, cwd, columns)


def _help_topic(words: Sequence[str], client: Client, surface: Surface, columns: int) -> int:
    path, command, rest = COMMANDS.find(words)
    if rest and command is None:
        raise CommandError(f"unknown help topic: {' '.join(words)}")
    surface.out(help_text(COMMANDS, path, command, columns, foreign=_foreign(client)))
    return 0


def _foreign(client: Client) -> str:
    """What ends the sentence of a flag that this engine does not have; "" without an engine."""
    try:
        answer = client.request("GET", "/_ping")
    except (AttributeError, LabkitError):
        return ""
    return "(Windows only)" if answer.headers.get("Ostype", "linux") == "linux" else ""


def _dispatch(
    words: Sequence[str], client: Client, surface: Surface, cwd: Path, columns: int
) -> int:
    path, command, rest = COMMANDS.find(words)
    if not isinstance(command, Command):
        return _group(path, command, rest, surface, columns)
    name = f"docker {path}"
    try:
        flags, operands = parse_flags(
            command.table,
            rest,
            interspersed=command.interspersed,
            validators=_validators(command),
        )
    except FlagHelp as request:
        if request.deprecated:
            surface.out("Flag shorthand -h has been deprecated, use --help\n")
        surface.out(help_text(COMMANDS, path, command, columns, foreign=_foreign(client)))
        return 0
    except FlagError as error:
        usage = f"{name} {command.usage}".rstrip()
        raise CommandError(
            f"{error}\n\nUsage:  {usage}\n\nRun '{name} --help' for more information", 125
        ) from None
    check_operands(name, command, operands)
    call = Call(command, name, flags, operands, client, surface, cwd)
    return call.run("labkit.notebook.commands.docker")


def _group(
    path: str, group: Group | None, rest: Sequence[str], surface: Surface, columns: int
) -> int:
    if group is None:
        word = rest[0]
        hint = None
        if word in _ELSEWHERE:
            hint = (
                f"docker {word} is not part of this lab's client; "
                'with eval "$(labkit env)" the real docker client talks to the same engine'
            )
        raise CommandError(
            f"docker: unknown command: docker {word}\n\nRun 'docker --help' for more information",
            hint=hint,
        )
    text = help_text(COMMANDS, path, group, columns)
    if not rest:
        surface.err(text)
        return 0
    if rest[0] in ("--help", "-h"):
        surface.out(text)
        return 0
    name = f"docker {path}"
    if rest[0].startswith("-"):
        raise CommandError(
            f"unknown flag: {rest[0]}\n\nUsage:  {name} COMMAND\n\n"
            f"Run '{name} --help' for more information",
            125,
        )
    raise CommandError(
        f"docker: unknown command: {name} {rest[0]}\n\nUsage:  {name}\n\n"
        f"Run '{name} --help' for more information"
    )


def _validators(command: Command) -> Validators:
    if command.path == "image build":
        from labkit.notebook.commands.docker.build_flags import VALIDATORS as BUILD_VALIDATORS

        return BUILD_VALIDATORS
    if not command.path.startswith(("container run", "container create", "container exec")):
        return {}
    from labkit.notebook.commands.docker.validators import VALIDATORS

    return VALIDATORS


def complete(words: Sequence[str], current: str, *, client: Client) -> list[Completion]:
    """What may stand where `current` stands, after the complete `words` (without `docker`).

    Names of containers and images are asked of the engine, for at most 100 ms; where it does not
    answer there are none.
    """
    from labkit.notebook.commands.completion import propose

    return propose(COMMANDS, words, current, client)

"""Commands on the engine as a whole, as tables.

Each table of flags reads: spellings and kind of value, a bar, and the sentence of `--help`. A kind that
is missing means a switch; a default is what the sentence ends with.
"""

# ruff: noqa: E501 - the sentences are wrapped when they are printed

from __future__ import annotations

from labkit.notebook.commands.tree import Command

__all__ = ["SYSTEM_COMMANDS"]

_ENDPOINT = """

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

"""


def _about(sentence: str, word: str) -> str:
    return (
        f'{sentence}{_ENDPOINT}$ docker context {word} my-context --description "some description" '
        '--docker "host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file"'
    )


SYSTEM_COMMANDS = (
    Command(
        "system df",
        "[OPTIONS]",
        "Show docker disk usage",
        "disk:disk_usage",
        operands=(0, 0),
        flags="""
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-v, --verbose       | Show detailed information on space usage
""",
    ),
    Command(
        "system events",
        "[OPTIONS]",
        "Get real time events from the server",
        "events:events",
        operands=(0, 0),
        spellings=("events",),
        flags="""
-f, --filter filter | Filter output based on conditions provided
    --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
    --since string  | Show all events created since timestamp
    --until string  | Stream events until this timestamp
""",
    ),
    Command(
        "system info",
        "[OPTIONS]",
        "Display system-wide information",
        "system:info",
        operands=(0, 0),
        spellings=("info",),
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
""",
    ),
    Command(
        "system prune",
        "[OPTIONS]",
        "Remove unused data",
        "prune:system",
        operands=(0, 0),
        flags="""
-a, --all           | Remove all unused images not just dangling ones
    --filter filter | Provide filter values (e.g. "label=<key>=<value>")
-f, --force         | Do not prompt for confirmation
    --volumes       | Prune anonymous volumes
""",
    ),
    Command(
        "inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        "inspect:anything",
        operands=(1, None),
        completes="object",
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-s, --size          | Display total file sizes if the type is container
    --type string   | Only inspect objects of the given type
""",
    ),
    Command(
        "version",
        "[OPTIONS]",
        "Show the Docker version information",
        "system:version",
        operands=(0, 0),
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
""",
    ),
    Command(
        "context create",
        "[OPTIONS] CONTEXT",
        _about("Create a context", "create"),
        "context_store:create",
        operands=(1, 1),
        flags="""
    --description string     | Description of the context
    --docker stringToString  | set the docker endpoint (default [])
    --from string            | create context from a named context
""",
    ),
    Command(
        "context export",
        "[OPTIONS] CONTEXT [FILE|-]",
        "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        "context_store:export",
        operands=(1, 2),
        completes="context",
    ),
    Command(
        "context import",
        "CONTEXT FILE|-",
        "Import a context from a tar or zip file",
        "context_store:import_context",
        operands=(2, 2),
    ),
    Command(
        "context rm",
        "CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        "context_store:remove",
        operands=(1, None),
        spellings=("context remove",),
        completes="context",
        flags="""
-f, --force | Force the removal of a context in use
""",
    ),
    Command(
        "context update",
        "[OPTIONS] CONTEXT",
        _about("Update a context", "update"),
        "context_store:update",
        operands=(1, 1),
        completes="context",
        flags="""
    --description string    | Description of the context
    --docker stringToString | set the docker endpoint (default [])
""",
    ),
    Command(
        "context ls",
        "[OPTIONS]",
        "List contexts",
        "contexts:listing",
        operands=(0, 0),
        spellings=("context list",),
        flags="""
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-q, --quiet         | Only show context names
""",
    ),
    Command(
        "context show",
        "",
        "Print the name of the current context",
        "contexts:show_current",
        operands=(0, 0),
    ),
    Command(
        "context use",
        "CONTEXT",
        "Set the current docker context",
        "contexts:use",
        operands=(1, 1),
        completes="context",
    ),
    Command(
        "context inspect",
        "[OPTIONS] [CONTEXT] [CONTEXT...]",
        "Display detailed information on one or more contexts",
        "contexts:inspect",
        operands=(0, None),
        completes="context",
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
""",
    ),
)

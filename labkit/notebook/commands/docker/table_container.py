"""Commands on containers, as tables: names, operands, flags.

Each table of flags reads: spellings and kind of value, a bar, and the sentence of `--help`. A kind that
is missing means a switch; a default is what the sentence ends with.
"""

# ruff: noqa: E501 - the sentences are wrapped when they are printed

from __future__ import annotations

from labkit.notebook.commands.tree import Command

__all__ = ["CONTAINER_COMMANDS"]

CONTAINER_COMMANDS = (
    Command(
        "container attach",
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        "run:attach",
        operands=(1, 1),
        spellings=("attach",),
        completes="container",
        flags="""
    --detach-keys string | Override the key sequence for detaching a container
    --no-stdin           | Do not attach STDIN
    --sig-proxy          | Proxy all received signals to the process (default true)
""",
    ),
    Command(
        "container commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Create a new image from a container's changes",
        "images:commit",
        operands=(1, 2),
        spellings=("commit",),
        completes="container",
        flags="""
-a, --author string  | Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
-c, --change list    | Apply Dockerfile instruction to the created image
-m, --message string | Commit message
-p, --pause          | Pause container during commit (default true)
""",
    ),
    Command(
        "container cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tdocker cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        """Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.""",
        "archive:copy",
        operands=(2, 2),
        spellings=("cp",),
        completes="container",
        flags="""
-a, --archive     | Archive mode (copy all uid/gid information)
-L, --follow-link | Always follow symbol link in SRC_PATH
-q, --quiet       | Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
""",
    ),
    Command(
        "container diff",
        "CONTAINER",
        "Inspect changes to files or directories on a container's filesystem",
        "containers:diff",
        operands=(1, 1),
        spellings=("diff",),
        completes="container",
    ),
    Command(
        "container exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        "execute:execute",
        operands=(2, None),
        spellings=("exec",),
        interspersed=False,
        completes="container",
        flags="""
-d, --detach             | Detached mode: run command in the background
    --detach-keys string | Override the key sequence for detaching a container
-e, --env list           | Set environment variables
    --env-file list      | Read in a file of environment variables
-i, --interactive        | Keep STDIN open even if not attached
    --privileged         | Give extended privileges to the command
-t, --tty                | Allocate a pseudo-TTY
-u, --user string        | Username or UID (format: "<name|uid>[:<group|gid>]")
-w, --workdir string     | Working directory inside the container
""",
    ),
    Command(
        "container export",
        "[OPTIONS] CONTAINER",
        "Export a container's filesystem as a tar archive",
        "archive:export",
        operands=(1, 1),
        spellings=("export",),
        completes="container",
        flags="""
-o, --output string | Write to a file, instead of STDOUT
""",
    ),
    Command(
        "container inspect",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers",
        "inspect:containers",
        operands=(1, None),
        completes="container",
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-s, --size          | Display total file sizes
""",
    ),
    Command(
        "container kill",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Kill one or more running containers",
        "containers:kill",
        operands=(1, None),
        spellings=("kill",),
        completes="container",
        flags="""
-s, --signal string | Signal to send to the container
""",
    ),
    Command(
        "container logs",
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        "logs:logs",
        operands=(1, 1),
        spellings=("logs",),
        completes="container",
        flags="""
    --details      | Show extra details provided to logs
-f, --follow       | Follow log output
    --since string | Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
-n, --tail string  | Number of lines to show from the end of the logs (default "all")
-t, --timestamps   | Show timestamps
    --until string | Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
""",
    ),
    Command(
        "container ls",
        "[OPTIONS]",
        "List containers",
        "listing:containers",
        operands=(0, 0),
        spellings=(
            "container list",
            "container ps",
            "ps",
        ),
        flags="""
-a, --all           | Show all containers (default shows just running)
-f, --filter filter | Filter output based on conditions provided
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-n, --last int      | Show n last created containers (includes all states) (default -1)
-l, --latest        | Show the latest created container (includes all states)
    --no-trunc      | Don't truncate output
-q, --quiet         | Only display container IDs
-s, --size          | Display total file sizes
""",
    ),
    Command(
        "container pause",
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        "containers:pause",
        operands=(1, None),
        spellings=("pause",),
        completes="container",
    ),
    Command(
        "container port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container",
        "containers:port",
        operands=(1, 2),
        spellings=("port",),
        completes="container",
    ),
    Command(
        "container prune",
        "[OPTIONS]",
        "Remove all stopped containers",
        "prune:containers",
        operands=(0, 0),
        flags="""
    --filter filter | Provide filter values (e.g. "until=<timestamp>")
-f, --force         | Do not prompt for confirmation
""",
    ),
    Command(
        "container rename",
        "CONTAINER NEW_NAME",
        "Rename a container",
        "containers:rename",
        operands=(2, 2),
        spellings=("rename",),
        completes="container",
    ),
    Command(
        "container restart",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Restart one or more containers",
        "containers:restart",
        operands=(1, None),
        spellings=("restart",),
        completes="container",
        flags="""
-s, --signal string | Signal to send to the container
-t, --timeout int   | Seconds to wait before killing the container
""",
    ),
    Command(
        "container rm",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Remove one or more containers",
        "containers:remove",
        operands=(1, None),
        spellings=(
            "container remove",
            "rm",
        ),
        completes="container",
        flags="""
-f, --force   | Force the removal of a running container (uses SIGKILL)
-l, --link    | Remove the specified link
-v, --volumes | Remove anonymous volumes associated with the container
""",
    ),
    Command(
        "container start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start one or more stopped containers",
        "run:start",
        operands=(1, None),
        spellings=("start",),
        completes="container",
        flags="""
-a, --attach                | Attach STDOUT/STDERR and forward signals
    --checkpoint string     | Restore from this checkpoint
    --checkpoint-dir string | Use a custom checkpoint storage directory
    --detach-keys string    | Override the key sequence for detaching a container
-i, --interactive           | Attach container's STDIN
""",
    ),
    Command(
        "container stats",
        "[OPTIONS] [CONTAINER...]",
        "Display a live stream of container(s) resource usage statistics",
        "stats:stats",
        operands=(0, None),
        spellings=("stats",),
        completes="container",
        flags="""
-a, --all           | Show all containers (default shows just running)
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
    --no-stream     | Disable streaming stats and only pull the first result
    --no-trunc      | Do not truncate output
""",
    ),
    Command(
        "container stop",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Stop one or more running containers",
        "containers:stop",
        operands=(1, None),
        spellings=("stop",),
        completes="container",
        flags="""
-s, --signal string | Signal to send to the container
-t, --timeout int   | Seconds to wait before killing the container
""",
    ),
    Command(
        "container top",
        "CONTAINER [ps OPTIONS]",
        "Display the running processes of a container",
        "containers:top",
        operands=(1, None),
        spellings=("top",),
        interspersed=False,
        completes="container",
    ),
    Command(
        "container unpause",
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        "containers:unpause",
        operands=(1, None),
        spellings=("unpause",),
        completes="container",
    ),
    Command(
        "container update",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Update configuration of one or more containers",
        "containers:update",
        operands=(1, None),
        spellings=("update",),
        completes="container",
        flags="""
    --blkio-weight uint16      | Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    --cpu-period int           | Limit CPU CFS (Completely Fair Scheduler) period
    --cpu-quota int            | Limit CPU CFS (Completely Fair Scheduler) quota
    --cpu-rt-period int        | Limit the CPU real-time period in microseconds
    --cpu-rt-runtime int       | Limit the CPU real-time runtime in microseconds
-c, --cpu-shares int           | CPU shares (relative weight)
    --cpus decimal             | Number of CPUs
    --cpuset-cpus string       | CPUs in which to allow execution (0-3, 0,1)
    --cpuset-mems string       | MEMs in which to allow execution (0-3, 0,1)
-m, --memory bytes             | Memory limit
    --memory-reservation bytes | Memory soft limit
    --memory-swap bytes        | Swap limit equal to memory plus swap: -1 to enable unlimited swap
    --pids-limit int           | Tune container pids limit (set -1 for unlimited)
    --restart string           | Restart policy to apply when a container exits
""",
    ),
    Command(
        "container wait",
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        "containers:wait",
        operands=(1, None),
        spellings=("wait",),
        completes="container",
    ),
)

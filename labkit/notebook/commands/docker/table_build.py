"""Commands that build images and speak with registries, as tables.

Each table of flags reads: spellings and kind of value, a bar, and the sentence of `--help`. A kind that
is missing means a switch; a default is what the sentence ends with.
"""

# ruff: noqa: E501 - the sentences are wrapped when they are printed

from __future__ import annotations

from labkit.notebook.commands.tree import Command

__all__ = ["BUILD_COMMANDS"]

BUILD_COMMANDS = (
    Command(
        "image build",
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        "build:build",
        operands=(1, 1),
        spellings=("build", "builder build"),
        flags="""
    --add-host list         | Add a custom host-to-IP mapping ("host:ip")
    --build-arg list        | Set build-time variables
    --cache-from strings    | Images to consider as cache sources
    --cgroup-parent string  | Set the parent cgroup for the "RUN" instructions during build
    --compress              | Compress the build context using gzip
    --cpu-period int        | Limit the CPU CFS (Completely Fair Scheduler) period
    --cpu-quota int         | Limit the CPU CFS (Completely Fair Scheduler) quota
-c, --cpu-shares int        | CPU shares (relative weight)
    --cpuset-cpus string    | CPUs in which to allow execution (0-3, 0,1)
    --cpuset-mems string    | MEMs in which to allow execution (0-3, 0,1)
    --disable-content-trust | Skip image verification (default true)
-f, --file string           | Name of the Dockerfile (Default is "PATH/Dockerfile")
    --force-rm              | Always remove intermediate containers
    --iidfile string        | Write the image ID to the file
    --isolation string      | Container isolation technology
    --label list            | Set metadata for an image
-m, --memory bytes          | Memory limit
    --memory-swap bytes     | Swap limit equal to memory plus swap: -1 to enable unlimited swap
    --network string        | Set the networking mode for the RUN instructions during build (default "default")
    --no-cache              | Do not use cache when building the image
    --platform string       | Set platform if server is multi-platform capable
    --pull                  | Always attempt to pull a newer version of the image
-q, --quiet                 | Suppress the build output and print image ID on success
    --rm                    | Remove intermediate containers after a successful build (default true)
    --security-opt strings  | Security options
    --shm-size bytes        | Size of "/dev/shm"
    --squash                | Squash newly built layers into a single new layer
-t, --tag list              | Name and optionally a tag in the "name:tag" format
    --target string         | Set the target build stage to build.
    --ulimit ulimit         | Ulimit options (default [])
""",
    ),
    Command(
        "builder prune",
        "",
        "Remove build cache",
        "build:prune",
        operands=(0, 0),
        flags="""
-a, --all                | Remove all unused build cache, not just dangling ones
    --filter filter      | Provide filter values (e.g. "until=24h")
-f, --force              | Do not prompt for confirmation
    --keep-storage bytes | Amount of disk space to keep for cache
""",
    ),
    Command(
        "login",
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
        "login:login",
        operands=(0, 1),
        flags="""
-p, --password string | Password or Personal Access Token (PAT)
    --password-stdin  | Take the Password or Personal Access Token (PAT) from stdin
-u, --username string | Username
""",
    ),
    Command(
        "logout",
        "[SERVER]",
        "Log out from a registry.\nIf no server is specified, the default is defined by the daemon.",
        "login:logout",
        operands=(0, 1),
    ),
)

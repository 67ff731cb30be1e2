"""Commands on images, as tables: names, operands, flags.

Each table of flags reads: spellings and kind of value, a bar, and the sentence of `--help`. A kind that
is missing means a switch; a default is what the sentence ends with.
"""

# ruff: noqa: E501 - the sentences are wrapped when they are printed

from __future__ import annotations

from labkit.notebook.commands.tree import Command

__all__ = ["IMAGE_COMMANDS"]

IMAGE_COMMANDS = (
    Command(
        "image history",
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        "images:history",
        operands=(1, 1),
        spellings=("history",),
        completes="image",
        flags="""
    --format string   | Format output using a custom template:
                      | 'table':            Print output in table format with column headers (default)
                      | 'table TEMPLATE':   Print output in table format using the given Go template
                      | 'json':             Print in JSON format
                      | 'TEMPLATE':         Print output using the given Go template.
                      | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-H, --human           | Print sizes and dates in human readable format (default true)
    --no-trunc        | Don't truncate output
    --platform string | Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
-q, --quiet           | Only show image IDs
""",
    ),
    Command(
        "image import",
        "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        "archive:import_image",
        operands=(1, 2),
        spellings=("import",),
        flags="""
-c, --change list     | Apply Dockerfile instruction to the created image
-m, --message string  | Set commit message for imported image
    --platform string | Set platform if server is multi-platform capable
""",
    ),
    Command(
        "image inspect",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        "inspect:images",
        operands=(1, None),
        completes="image",
        flags="""
-f, --format string   | Format output using a custom template:
                      | 'json':             Print in JSON format
                      | 'TEMPLATE':         Print output using the given Go template.
                      | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
    --platform string | Inspect a specific platform of the multi-platform image.
                      | If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
                      | 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
""",
    ),
    Command(
        "image load",
        "[OPTIONS]",
        "Load an image from a tar archive or STDIN",
        "archive:load",
        operands=(0, 0),
        spellings=("load",),
        flags="""
-i, --input string    | Read from tar archive file, instead of STDIN
    --platform string | Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
-q, --quiet           | Suppress the load output
""",
    ),
    Command(
        "image ls",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        "listing:images",
        operands=(0, 1),
        spellings=(
            "image list",
            "images",
        ),
        completes="image",
        flags="""
-a, --all           | Show all images (default hides intermediate images)
    --digests       | Show digests
-f, --filter filter | Filter output based on conditions provided
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
    --no-trunc      | Don't truncate output
-q, --quiet         | Only show image IDs
    --tree          | List multi-platform images as a tree (EXPERIMENTAL)
""",
    ),
    Command(
        "image prune",
        "[OPTIONS]",
        "Remove unused images",
        "prune:images",
        operands=(0, 0),
        flags="""
-a, --all           | Remove all unused images, not just dangling ones
    --filter filter | Provide filter values (e.g. "until=<timestamp>")
-f, --force         | Do not prompt for confirmation
""",
    ),
    Command(
        "image pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        "images:pull",
        operands=(1, 1),
        spellings=("pull",),
        completes="catalog",
        flags="""
-a, --all-tags              | Download all tagged images in the repository
    --disable-content-trust | Skip image verification (default true)
    --platform string       | Set platform if server is multi-platform capable
-q, --quiet                 | Suppress verbose output
""",
    ),
    Command(
        "image push",
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        "images:push",
        operands=(1, 1),
        spellings=("push",),
        completes="image",
        flags="""
-a, --all-tags              | Push all tags of an image to the repository
    --disable-content-trust | Skip image signing (default true)
    --platform string       | Push a platform-specific manifest as a single-platform image to the registry.
                            | Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
                            | 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
-q, --quiet                 | Suppress verbose output
""",
    ),
    Command(
        "image rm",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        "images:remove",
        operands=(1, None),
        spellings=(
            "image remove",
            "rmi",
        ),
        completes="image",
        flags="""
-f, --force            | Force removal of the image
    --no-prune         | Do not delete untagged parents
    --platform strings | Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
    Command(
        "image save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        "archive:save",
        operands=(1, None),
        spellings=("save",),
        completes="image",
        flags="""
-o, --output string   | Write to a file, instead of STDOUT
    --platform string | Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
    Command(
        "image tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        "images:tag",
        operands=(2, 2),
        spellings=("tag",),
        completes="image",
    ),
    Command(
        "manifest inspect",
        "[OPTIONS] MANIFEST",
        "Display an image manifest, or manifest list",
        "manifest:inspect",
        operands=(1, 1),
        flags="""
    --insecure | Allow communication with an insecure registry
""",
    ),
    Command(
        "search",
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        "images:search",
        operands=(1, 1),
        flags="""
-f, --filter filter | Filter output based on conditions provided
    --format string | Pretty-print search using a Go template
    --limit int     | Max number of search results
    --no-trunc      | Don't truncate output
""",
    ),
)

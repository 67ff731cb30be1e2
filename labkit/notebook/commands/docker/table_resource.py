"""Commands on networks and volumes, as tables.

Each table of flags reads: spellings and kind of value, a bar, and the sentence of `--help`. A kind that
is missing means a switch; a default is what the sentence ends with.
"""

# ruff: noqa: E501 - the sentences are wrapped when they are printed

from __future__ import annotations

from labkit.notebook.commands.tree import Command

__all__ = ["RESOURCE_COMMANDS"]

RESOURCE_COMMANDS = (
    Command(
        "network connect",
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        "networks:connect",
        operands=(2, 2),
        completes="network",
        flags="""
    --alias strings         | Add network-scoped alias for the container
    --driver-opt strings    | driver options for the network
    --gw-priority int       | Highest gw-priority provides the default gateway. Accepts positive and negative values.
    --ip string             | IPv4 address (e.g., "172.30.100.104")
    --ip6 string            | IPv6 address (e.g., "2001:db8::33")
    --link list             | Add link to another container
    --link-local-ip strings | Add a link-local address for the container
""",
    ),
    Command(
        "network create",
        "[OPTIONS] NETWORK",
        "Create a network",
        "networks:create",
        operands=(1, 1),
        flags="""
    --attachable         | Enable manual container attachment
    --aux-address map    | Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
    --config-from string | The network from which to copy the configuration
    --config-only        | Create a configuration only network
-d, --driver string      | Driver to manage the Network (default "bridge")
    --gateway strings    | IPv4 or IPv6 Gateway for the master subnet
    --ingress            | Create swarm routing-mesh network
    --internal           | Restrict external access to the network
    --ip-range strings   | Allocate container ip from a sub-range
    --ipam-driver string | IP Address Management Driver (default "default")
    --ipam-opt map       | Set IPAM driver specific options (default map[])
    --ipv4               | Enable or disable IPv4 address assignment (default true)
    --ipv6               | Enable or disable IPv6 address assignment
    --label list         | Set metadata on a network
-o, --opt map            | Set driver specific options (default map[])
    --scope string       | Control the network's scope
    --subnet strings     | Subnet in CIDR format that represents a network segment
""",
    ),
    Command(
        "network disconnect",
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        "networks:disconnect",
        operands=(2, 2),
        completes="network",
        flags="""
-f, --force | Force the container to disconnect from a network
""",
    ),
    Command(
        "network inspect",
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        "inspect:networks",
        operands=(1, None),
        completes="network",
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-v, --verbose       | Verbose output for diagnostics
""",
    ),
    Command(
        "network ls",
        "[OPTIONS]",
        "List networks",
        "listing:networks",
        operands=(0, 0),
        spellings=("network list",),
        flags="""
-f, --filter filter | Provide filter values (e.g. "driver=bridge")
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
    --no-trunc      | Do not truncate the output
-q, --quiet         | Only display network IDs
""",
    ),
    Command(
        "network prune",
        "[OPTIONS]",
        "Remove all unused networks",
        "prune:networks",
        operands=(0, 0),
        flags="""
    --filter filter | Provide filter values (e.g. "until=<timestamp>")
-f, --force         | Do not prompt for confirmation
""",
    ),
    Command(
        "network rm",
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        "networks:remove",
        operands=(1, None),
        spellings=("network remove",),
        completes="network",
        flags="""
-f, --force | Do not error if the network does not exist
""",
    ),
    Command(
        "volume create",
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        "volumes:create",
        operands=(0, 1),
        flags="""
    --availability string     | Cluster Volume availability ("active", "pause", "drain") (default "active")
-d, --driver string           | Specify volume driver name (default "local")
    --group string            | Cluster Volume group (cluster volumes)
    --label list              | Set metadata for a volume
!   --name string             | Specify volume name
    --limit-bytes bytes       | Minimum size of the Cluster Volume in bytes
-o, --opt map                 | Set driver specific options (default map[])
    --required-bytes bytes    | Maximum size of the Cluster Volume in bytes
    --scope string            | Cluster Volume access scope ("single", "multi") (default "single")
    --secret map              | Cluster Volume secrets (default map[])
    --sharing string          | Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")
    --topology-preferred list | A topology that the Cluster Volume would be preferred in
    --topology-required list  | A topology that the Cluster Volume must be accessible from
    --type string             | Cluster Volume access type ("mount", "block") (default "block")
""",
    ),
    Command(
        "volume inspect",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        "inspect:volumes",
        operands=(1, None),
        completes="volume",
        flags="""
-f, --format string | Format output using a custom template:
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
""",
    ),
    Command(
        "volume ls",
        "[OPTIONS]",
        "List volumes",
        "listing:volumes",
        operands=(0, 0),
        spellings=("volume list",),
        flags="""
    --cluster       | Display only cluster volumes, and use cluster volume list formatting
-f, --filter filter | Provide filter values (e.g. "dangling=true")
    --format string | Format output using a custom template:
                    | 'table':            Print output in table format with column headers (default)
                    | 'table TEMPLATE':   Print output in table format using the given Go template
                    | 'json':             Print in JSON format
                    | 'TEMPLATE':         Print output using the given Go template.
                    | Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates
-q, --quiet         | Only display volume names
""",
    ),
    Command(
        "volume prune",
        "[OPTIONS]",
        "Remove unused local volumes",
        "prune:volumes",
        operands=(0, 0),
        flags="""
-a, --all           | Remove all unused volumes, not just anonymous ones
    --filter filter | Provide filter values (e.g. "label=<label>")
-f, --force         | Do not prompt for confirmation
""",
    ),
    Command(
        "volume update",
        "[OPTIONS] [VOLUME]",
        "Update a volume (cluster volumes only)",
        "volumes:update",
        operands=(1, 1),
        completes="volume",
        flags="""
    --availability string | Cluster Volume availability ("active", "pause", "drain") (default "active")
""",
    ),
    Command(
        "volume rm",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        "volumes:remove",
        operands=(1, None),
        spellings=("volume remove",),
        completes="volume",
        flags="""
-f, --force | Force the removal of one or more volumes
""",
    ),
)

"""Who is alive, and what everybody should know, by rumour: SWIM and an endpoint table."""

from labkit.cluster.gossip.node import Gossip, GossipOptions
from labkit.cluster.gossip.table import Record, Table
from labkit.cluster.gossip.types import Change, Member, Status

__all__ = ["Change", "Gossip", "GossipOptions", "Member", "Record", "Status", "Table"]

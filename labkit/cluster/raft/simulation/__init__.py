"""Raft under a seeded world: servers with disks, faults, and a judge who sees everything."""

from labkit.cluster.raft.simulation.cluster import Cluster, Settings
from labkit.cluster.raft.simulation.judge import Judge, Verdict

__all__ = ["Cluster", "Judge", "Settings", "Verdict"]

"""The swarm's managers as they really run: Raft on the wall clock, on disks and on sockets."""

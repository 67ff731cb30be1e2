"""The real world: the wall clock, real disks, real chance."""

"""Many hosts. This floor decides and never acts: no clock, no socket, no dice of its own."""

"""Breaking a cluster on purpose, and keeping a record of it."""

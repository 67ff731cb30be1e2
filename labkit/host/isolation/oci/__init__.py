"""`labkit-oci`: the isolation core behind the command line of an OCI runtime.

podman, containerd and others start containers through a small program that takes a folder with a
config.json and answers to create, start, state, kill and delete. This is such a program, so that
they run containers on labkit's core. It is started afresh for every word: imports stay bare.

Specification: https://github.com/opencontainers/runtime-spec (runtime.md, config.md,
config-linux.md); where it is silent, behaviour and sentences follow runc.
"""

__all__: list[str] = []

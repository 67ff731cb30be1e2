"""Containers started by another OCI runtime, crun or runc, instead of our own core.

`docker run --runtime crun` shows that the runtime is a part that can be swapped: the shim, its log,
its terminal and everything above stay the same.
"""

from labkit.host.isolation.foreign.registry import Runtimes

__all__ = ["Runtimes"]

"""What people touch: clients of the sockets, command grammars, magics, pictures, grading.

Nothing in here imports `labkit.host`, `labkit.cluster` or `labkit.daemon`: a notebook talks to
the same wire APIs as every other client.
"""

from __future__ import annotations

__all__: list[str] = []

"""One tile for each kind of namespace: the host's, or the container's own."""

from __future__ import annotations

import html
from collections.abc import Mapping

__all__ = ["MEANINGS", "tiles"]

MEANINGS = {
    "uts": "host name",
    "pid": "process ids",
    "mnt": "mounts",
    "net": "network",
    "ipc": "shared memory",
    "cgroup": "cgroup root",
    "user": "user ids",
}

# Blue and orange of the Okabe-Ito palette, told apart without colour by fill, word and border.
_OWN = "background:#0072b2;border:2px solid #0072b2;color:#fff"
_SHARED = "background:transparent;border:2px dashed #999;color:inherit"


def tiles(name: str, namespaces: Mapping[str, int], isolated: Mapping[str, bool]) -> str:
    """A strip of HTML: what `name` has of its own and what it shares with the host."""
    cells = []
    for kind, meaning in MEANINGS.items():
        if kind not in namespaces:
            continue
        own = isolated.get(kind, False)
        word = "its own" if own else "the host's"
        cells.append(
            f'<div role="listitem" style="{_OWN if own else _SHARED};border-radius:6px;'
            'padding:.35em .7em;min-width:7.2em;line-height:1.35">'
            f'<div style="font-weight:600">{kind}</div>'
            f'<div style="font-size:.85em">{meaning}</div>'
            f'<div style="font-size:.85em"><b>{word}</b></div>'
            f'<div style="font-size:.75em;opacity:.8">{namespaces[kind]}</div></div>'
        )
    own_count = sum(1 for kind in MEANINGS if isolated.get(kind))
    return (
        f'<div style="margin:.3em 0"><div style="margin-bottom:.3em">Box <b>{html.escape(name)}</b>'
        f" has {own_count} of {len(cells)} namespaces of its own</div>"
        '<div role="list" style="display:flex;flex-wrap:wrap;gap:.4em">'
        + "".join(cells)
        + "</div></div>"
    )

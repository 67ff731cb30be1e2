"""A few shapes of SVG as text, for the static twins of views."""

from __future__ import annotations

from html import escape

__all__ = ["Drawing", "fit", "text_on"]

_STYLE = """
svg{--fg:#1f2328;--soft:#656d76;--line:#d0d7de;--back:#ffffff;--panel:#f6f8fa}
@media (prefers-color-scheme:dark){svg{--fg:#e6edf3;--soft:#9198a1;--line:#3d444d;--back:#111418;
--panel:#1b2027}}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:var(--fg)}
.m{font-family:ui-monospace,"SFMono-Regular",Menlo,"DejaVu Sans Mono",monospace}
.s{fill:var(--soft)}.b{font-weight:600}
"""

_LIGHT_TEXT = {"#0072B2"}


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on one of the palette's colours."""
    return "#ffffff" if colour in _LIGHT_TEXT else "#111111"


def fit(text: str, width: float, size: float = 12, *, mono: bool = False) -> str:
    """`text`, shortened with an ellipsis to about `width` pixels at this font size."""
    room = max(1, int(width / (size * (0.61 if mono else 0.56))))
    return text if len(text) <= room else text[: max(1, room - 1)].rstrip() + "…"


class Drawing:
    """An SVG document under construction. Coordinates are pixels."""

    def __init__(self, width: int, title: str, description: str) -> None:
        self.width = width
        self._title = title
        self._description = description
        self._parts: list[str] = []

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        stroke: str = "none",
        radius: float = 6,
        dash: str = "",
        stroke_width: float = 1,
    ) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="{stroke_width:g}"{dashed}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        classes: str = "",
        fill: str = "",
        anchor: str = "start",
    ) -> None:
        style = f' style="fill:{fill}"' if fill else ""
        kind = f' class="{classes}"' if classes else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"{kind}{style}>'
            f"{escape(text)}</text>"
        )

    def raw(self, markup: str) -> None:
        """Markup that the caller has escaped."""
        self._parts.append(markup)

    def document(self, height: float) -> str:
        """The whole document on its own background, readable in light and dark pages."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{height:g}" '
            f'viewBox="0 0 {self.width} {height:g}" role="img" '
            f'aria-label="{escape(self._title, quote=True)}">'
            f"<title>{escape(self._title)}</title><desc>{escape(self._description)}</desc>"
            f"<style>{_STYLE}</style>"
            f'<rect width="100%" height="100%" rx="10" fill="var(--back)"/>'
            + "".join(self._parts)
            + "</svg>"
        )

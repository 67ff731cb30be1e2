"""Colours and the few rules of CSS that outputs of magics share.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by readers with any
common form of colour blindness; nothing is said by colour alone. Text and surfaces take
JupyterLab's variables, or VS Code's, so that light and dark themes both hold.
"""

from __future__ import annotations

__all__ = ["CSS", "OKABE_ITO", "note_html", "with_style"]

OKABE_ITO = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
}

CSS = """
.lk{--lk-fg:var(--jp-ui-font-color1,var(--vscode-foreground,inherit));
--lk-soft:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#777));
--lk-font:var(--jp-ui-font-family,var(--vscode-font-family,system-ui,sans-serif));
--lk-line:var(--jp-border-color2,var(--vscode-panel-border,#8884));
--lk-edge:var(--jp-border-color1,var(--vscode-panel-border,#8888));
--lk-mono:var(--jp-code-font-family,var(--vscode-editor-font-family,monospace));
--lk-groove:var(--jp-layout-color3,var(--vscode-input-background,#8883));
--lk-hover:var(--jp-layout-color2,var(--vscode-list-hoverBackground,#8881));
color:var(--lk-fg);font-family:var(--lk-font);
font-size:13px;line-height:1.45}
.lk-scroll{overflow-x:auto;max-width:100%}
.lk table.lk-table{border-collapse:collapse;margin:2px 0 4px;font-size:12.5px;border:0;
font-variant-numeric:tabular-nums}
.lk table.lk-table th,.lk table.lk-table td{text-align:left;vertical-align:top;white-space:pre;
padding:4px 14px 4px 8px;border:0;max-width:none;
border-bottom:1px solid var(--lk-line)}
.lk table.lk-table th{font-weight:600;font-size:11px;letter-spacing:.03em;
color:var(--lk-soft);border-bottom:1px solid var(--lk-edge)}
.lk table.lk-table th button{all:unset;font:inherit;letter-spacing:inherit;cursor:pointer}
.lk table.lk-table th button:focus-visible{outline:2px solid #0072B2;outline-offset:2px}
.lk table.lk-table th button::after{content:'\\2195';opacity:.35;margin-left:5px}
.lk table.lk-table th[aria-sort=ascending] button::after{content:'\\2191';opacity:1}
.lk table.lk-table th[aria-sort=descending] button::after{content:'\\2193';opacity:1}
.lk table.lk-table td.lk-mono{font-family:var(--lk-mono);font-size:12px}
.lk table.lk-table tbody tr{background:transparent}
.lk table.lk-table tbody tr:hover{background:var(--lk-hover)}
.lk-dot{display:inline-block;width:8px;height:8px;border-radius:50%;margin-right:6px;
border:2px solid;box-sizing:border-box;vertical-align:1px}
.lk-note{display:inline-block;font-size:12px;padding:1px 9px;border-radius:9px;
border:1px solid var(--lk-edge);color:var(--lk-soft)}
.lk-bad{border-color:#D55E00;color:var(--lk-fg)}
.lk-next{font-size:13px}.lk-next b{color:var(--lk-soft);font-weight:600}
.lk code{font-family:var(--lk-mono);font-size:12px;background:none;padding:0}
.lk-layer{display:grid;grid-template-columns:9.5em 13em minmax(8em,22em) 11em;gap:0 12px;
align-items:center;padding:2px 0}
.lk-bar{height:8px;border-radius:4px;background:var(--lk-groove);overflow:hidden}
.lk-bar>i{display:block;height:100%;background:#0072B2;border-radius:4px}
.lk-bar.lk-done>i{background:#009E73}
.lk-charts{display:flex;flex-wrap:wrap;gap:6px 18px;margin:2px 0 6px}
.lk-charts svg{width:440px;max-width:100%;height:auto}
.lk-charts text{fill:var(--lk-fg);font:11px var(--lk-font)}
.lk-charts .t{font-weight:600;font-size:12px}
.lk-charts .s{fill:var(--lk-soft);font-size:10.5px}.lk-charts .a{fill:none;stroke:var(--lk-edge)}
.lk-term{border:1px solid var(--lk-line);border-radius:10px;overflow:hidden;
resize:vertical;min-height:140px;background:var(--jp-layout-color1,transparent)}
.lk-term iframe{display:block;width:100%;height:calc(100% - 8px);border:0}
.lk-under{display:flex;gap:10px;align-items:center;flex-wrap:wrap;font-size:12px;margin:3px 2px;
color:var(--lk-soft)}
.lk button.lk-tab{font:600 12px var(--lk-font);cursor:pointer;
color:var(--lk-fg);background:var(--jp-layout-color1,transparent);
border:1px solid var(--lk-edge);border-radius:7px;padding:2px 11px}
.lk pre.lk-paste{user-select:all;padding:6px 10px;border:1px solid var(--lk-line);
border-radius:7px;white-space:pre-wrap}
"""


def with_style(body: str) -> str:
    """An HTML output that carries the rules it needs."""
    return f"<style>{CSS}</style><div class='lk'>{body}</div>"


def note_html(text: str, *, bad: bool = False) -> str:
    """A small framed remark; `text` is escaped already."""
    return with_style(f"<span class='lk-note{' lk-bad' if bad else ''}'>{text}</span>")

"""Colours and the few rules of CSS that outputs of magics share.

Colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), told apart by readers with any
common form of colour blindness; nothing is said by colour alone. Text and surfaces take
JupyterLab's variables, so that light and dark themes both hold, with fallbacks elsewhere.
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
.lk{color:var(--jp-ui-font-color1,inherit);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
font-size:13px;line-height:1.45}
.lk-scroll{overflow-x:auto;max-width:100%}
.lk table.lk-table{border-collapse:collapse;margin:2px 0 4px;font-size:12.5px;border:0;
font-variant-numeric:tabular-nums}
.lk table.lk-table th,.lk table.lk-table td{text-align:left;vertical-align:top;white-space:pre;
padding:4px 14px 4px 8px;border:0;max-width:none;
border-bottom:1px solid var(--jp-border-color2,#8884)}
.lk table.lk-table th{font-weight:600;font-size:11px;letter-spacing:.03em;
color:var(--jp-ui-font-color2,#777);border-bottom:1px solid var(--jp-border-color1,#8888)}
.lk table.lk-table td.lk-mono{font-family:var(--jp-code-font-family,monospace);font-size:12px}
.lk table.lk-table tbody tr{background:transparent}
.lk table.lk-table tbody tr:hover{background:var(--jp-layout-color2,#8881)}
.lk-dot{display:inline-block;width:8px;height:8px;border-radius:50%;margin-right:6px;
border:2px solid;box-sizing:border-box;vertical-align:1px}
.lk-note{display:inline-block;font-size:12px;padding:1px 9px;border-radius:9px;
border:1px solid var(--jp-border-color1,#8888);color:var(--jp-ui-font-color2,#777)}
.lk-bad{border-color:#D55E00;color:var(--jp-ui-font-color1,inherit)}
.lk-next{font-size:13px}.lk-next b{color:var(--jp-ui-font-color2,#777);font-weight:600}
.lk code{font-family:var(--jp-code-font-family,monospace);font-size:12px;background:none;padding:0}
.lk-layer{display:grid;grid-template-columns:9.5em 13em minmax(8em,22em) 11em;gap:0 12px;
align-items:center;padding:2px 0}
.lk-bar{height:8px;border-radius:4px;background:var(--jp-layout-color3,#8883);overflow:hidden}
.lk-bar>i{display:block;height:100%;background:#0072B2;border-radius:4px}
.lk-bar.lk-done>i{background:#009E73}
.lk-term{border:1px solid var(--jp-border-color2,#8884);border-radius:10px;overflow:hidden;
resize:vertical;min-height:140px;background:var(--jp-layout-color1,transparent)}
.lk-term iframe{display:block;width:100%;height:calc(100% - 8px);border:0}
.lk-under{display:flex;gap:10px;align-items:center;flex-wrap:wrap;font-size:12px;margin:3px 2px;
color:var(--jp-ui-font-color2,#777)}
.lk button.lk-tab{font:600 12px var(--jp-ui-font-family,system-ui,sans-serif);cursor:pointer;
color:var(--jp-ui-font-color1,inherit);background:var(--jp-layout-color1,transparent);
border:1px solid var(--jp-border-color1,#8888);border-radius:7px;padding:2px 11px}
.lk pre.lk-paste{user-select:all;padding:6px 10px;border:1px solid var(--jp-border-color2,#8884);
border-radius:7px;white-space:pre-wrap}
"""


def with_style(body: str) -> str:
    """An HTML output that carries the rules it needs."""
    return f"<style>{CSS}</style><div class='lk'>{body}</div>"


def note_html(text: str, *, bad: bool = False) -> str:
    """A small framed remark; `text` is escaped already."""
    return with_style(f"<span class='lk-note{' lk-bad' if bad else ''}'>{text}</span>")

"""Docker's listings as HTML; the text twin stays what Docker's client prints."""

from __future__ import annotations

from html import escape

from labkit.notebook.commands.surface import Table
from labkit.notebook.magics.style import OKABE_ITO, with_style

__all__ = ["table_html"]

_MONOSPACE = {"CONTAINER ID", "IMAGE ID", "ID", "COMMAND", "CREATED BY", "DIGEST", "CMD", "PID"}
_MAX_ROWS = 500
# Sorting by a click on a heading. It lies in the output itself, so it works wherever the browser
# is given HTML unfiltered, long after the kernel has gone; elsewhere the headings are just words.
# Sizes, percentages and ages are compared as the amounts they stand for.
_SORT = """
const button=event.target.closest('button');if(button){
const head=button.closest('th'),body=this.parentNode.tBodies[0];
const at=head.cellIndex;
const up=head.getAttribute('aria-sort')!=='ascending';
const units={b:1,kb:1e3,mb:1e6,gb:1e9,tb:1e12,kib:1024,mib:1048576,gib:1073741824,second:1,
minute:60,hour:3600,day:86400,week:604800,month:2592000,year:31536000};
const shape=/^(?:up |exited \\(\\d+\\) )?(?:about |less than )?(an?|[-\\d.]+) ?([a-z%]*)/i;
const amount=text=>{const found=shape.exec(text);if(!found)return NaN;
const unit=found[2].toLowerCase().replace(/s$/,'');
return(/^an?$/i.test(found[1])?1:parseFloat(found[1]))*(units[unit]||1);};
const key=row=>row.cells[at].textContent.trim();
const rows=[...body.rows].sort((one,other)=>{const a=key(one),b=key(other),m=amount(a),n=amount(b);
return(Number.isNaN(m)||Number.isNaN(n)||m===n?a.localeCompare(b,undefined,{numeric:true}):m-n)*(up?1:-1);});
body.append(...rows);
for(const other of head.parentNode.cells)other.removeAttribute('aria-sort');
head.setAttribute('aria-sort',up?'ascending':'descending');}
"""


def table_html(table: Table) -> str:
    """The table as HTML. Rows beyond 500 are left to the text twin, and the table says so."""
    sortable = len(table.rows) > 1
    shape = "<button type='button'>{}</button>" if sortable else "{}"
    head = "".join(
        f"<th scope='col'>{shape.format(escape(title)) if title else ''}</th>"
        for title in table.columns
    )
    sorting = f' onclick="{escape(_SORT, quote=True)}"' if sortable else ""
    body = "".join(
        "<tr>" + "".join(map(_cell, table.columns, row)) + "</tr>" for row in table.rows[:_MAX_ROWS]
    )
    html = (
        "<div class='lk-scroll'><table class='lk-table'>"
        f"<thead{sorting}><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    if len(table.rows) > _MAX_ROWS:
        html += f"<span class='lk-note'>and {len(table.rows) - _MAX_ROWS} more rows</span>"
    return with_style(html)


def _cell(title: str, text: str) -> str:
    if title == "STATUS":
        return f"<td>{_dot(text)}{escape(text)}</td>"
    style = " class='lk-mono'" if title in _MONOSPACE else ""
    return f"<td{style}>{escape(text)}</td>"


def _dot(status: str) -> str:
    """A mark before a status: filled while something runs, hollow when not."""
    if status.startswith("Up"):
        colour, filled = ("orange", False) if "(Paused)" in status else ("green", True)
    elif status.startswith("Restarting"):
        colour, filled = "orange", True
    elif status.startswith("Exited"):
        return _mark("#888888" if status.startswith("Exited (0)") else OKABE_ITO["vermillion"])
    else:
        colour, filled = "blue", False
    return _mark(OKABE_ITO[colour], filled=filled)


def _mark(colour: str, *, filled: bool = False) -> str:
    inside = colour if filled else "transparent"
    style = f"border-color:{colour};background:{inside}"
    return f"<i class='lk-dot' aria-hidden='true' style='{style}'></i>"

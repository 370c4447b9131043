"""A self-contained HTML page: escaping, tables, figures, style; no network.

Whatever comes from a file or a configuration goes through `text`. The page also forbids itself to
load anything, and to run anything but the one script of this module, should that ever be
forgotten. It can be read without the script, which sorts tables and saves figures.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import TYPE_CHECKING

from arraycal.calib.figures import encode
from arraycal.calib.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

    from arraycal.calib.figures import Picture

__all__ = ["Html", "details", "figure", "figure_elements", "page", "table", "text"]

#: Columns sort at a click, what is missing stays last; figures are saved as the vector graphics
#: they are. Both buttons are made here, so that without a script there is none that does nothing.
SCRIPT = """
"use strict";
const makeButton = (label, title, act) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.title = title;
  button.addEventListener("click", act);
  return button;
};
const compare = (isNumber, a, b) =>
  isNumber ? parseFloat(a.replaceAll(",", "")) - parseFloat(b.replaceAll(",", ""))
           : a.localeCompare(b, "en", {numeric: true});
const sort = (head, column) => {
  const body = head.closest("table").tBodies[0];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const cell of head.parentNode.cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const isNumber = head.classList.contains("n");
  const rows = Array.from(body.rows, row => [row.cells[column].textContent.trim(), row]);
  const isMissing = text => text === "" || text.startsWith("\u2013");
  rows.sort(([a], [b]) => isMissing(a) || isMissing(b) ? isMissing(a) - isMissing(b)
                                                       : sign * compare(isNumber, a, b));
  body.append(...rows.map(([, row]) => row));
};
for (const row of document.querySelectorAll("table.sortable thead tr"))
  Array.from(row.cells).forEach((head, column) => head.replaceChildren(
    makeButton(head.textContent, "sort by this column", () => sort(head, column))));
const save = image => {
  const bytes = Uint8Array.from(atob(image.src.split(",")[1]), c => c.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: "image/svg+xml"}));
  const name = document.title.split(":")[0] + " " + image.alt;
  link.download = name.replace(/[^A-Za-z0-9]+/g, "-") + ".svg";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
for (const image of document.querySelectorAll("figure img[src^='data:image/svg']"))
  image.parentNode.append(makeButton("SVG", "save this figure as vector graphics",
                                     () => save(image)));
"""
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
#: Nothing but inline style, inline images and the script above.
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{SCRIPT_HASH}'"
)

STYLE = """
:root{color-scheme:light dark;
--ink:#1b1f24;--quiet:#5b6470;--line:#dfe3e8;--back:#fff;--soft:#f5f7f9;
--good:#0b7a4b;--warn:#9a5b00;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{
--ink:#e6e9ed;--quiet:#9aa4b0;--line:#333a43;--back:#14171b;--soft:#1c2127;
--good:#4cc38a;--warn:#f0b456;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1.25rem 4rem;max-width:84rem;background:var(--back);
color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.5rem;margin:0 0 .2rem}
h2{font-size:1.15rem;margin:2.2rem 0 .7rem}
h3{font-size:1rem;margin:1.2rem 0 .4rem}
p{margin:.4rem 0}
.quiet{color:var(--quiet)}
nav,a{color:var(--quiet)}
nav{font-size:.87rem;margin-bottom:.5rem}
.verdict{border-left:.4rem solid var(--tone);background:var(--soft);
padding:.8rem 1.1rem;margin:1.1rem 0}
.verdict strong{color:var(--tone);font-size:1.15rem}
.verdict ul{margin:.3rem 0 0;padding-left:1.2rem}
.usable{--tone:var(--good)}
.degraded{--tone:var(--warn)}
.unusable{--tone:var(--bad)}
.flagged{--tone:var(--warn)}
.nothing-to-do{--tone:var(--quiet)}
td a,td span{color:var(--tone,inherit)}
td a{font-weight:600}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.9rem;
margin:1.1rem 0}
dt{color:var(--quiet);font-size:.82rem}
dd{margin:0;font-size:1.05rem;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .45rem;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--quiet);font-weight:600}
.n{text-align:right;white-space:nowrap}
.b{white-space:nowrap}
th button{font:inherit;text-align:inherit;white-space:inherit;
color:inherit;background:none;border:0;padding:0;cursor:pointer}
th button:hover,th button:focus-visible{text-decoration:underline}
th[aria-sort=ascending] button::after{content:" \N{UPWARDS ARROW}"}
th[aria-sort=descending] button::after{content:" \N{DOWNWARDS ARROW}"}
tr.bad td{color:var(--bad)}
tr.warn td{color:var(--warn)}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,31rem),1fr));
grid-auto-flow:dense;gap:1.2rem;align-items:start;margin:1rem 0}
.figures .whole{grid-column:1/-1}
.figures.natural{display:flex;flex-wrap:wrap}
figure{position:relative;margin:0;padding:.7rem;background:#fff;border:1px solid var(--line);
border-radius:6px;max-width:100%}
figure img{display:block;width:100%;max-width:100%;height:auto}
.small img,.natural img{width:auto}
figcaption{color:#5b6470;font-size:.82rem;margin-top:.4rem;width:0;min-width:100%}
figure button{position:absolute;top:.35rem;right:.35rem;font:inherit;font-size:.72rem;
color:#5b6470;background:#fff;border:1px solid #dfe3e8;border-radius:4px;padding:0 .35rem;
cursor:pointer;opacity:.75}
figure button:hover,figure button:focus-visible{opacity:1;color:#1b1f24}
details{margin:.6rem 0}
summary{cursor:pointer;font-weight:600;padding:.2rem 0}
pre{background:var(--soft);padding:.9rem;overflow-x:auto;font-size:.82rem;line-height:1.4}
td:last-child{overflow-wrap:anywhere}
.w{min-width:10rem}
th.n,th.b{white-space:normal}
@media (max-width:80rem){th,td{padding:.22rem .35rem}}
@media (max-width:40rem){body{padding:.9rem .7rem 3rem}
h1{font-size:1.25rem}
dl{grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.6rem}
th,td{padding:.2rem .4rem}
figure{padding:.4rem;overflow-x:auto}
figure img{width:auto;max-width:max(100%,30rem)}
figcaption{width:auto;min-width:0}}
@media print{:root{color-scheme:light;
--ink:#000;--back:#fff;--soft:#f5f7f9;--quiet:#444;--line:#bbb;
--good:#0b7a4b;--warn:#9a5b00;--bad:#b3261e}
body{max-width:none;padding:0;font-size:10pt}
table{font-size:7.5pt}
th,td{padding:.15rem .35rem}
th,th.n,.b{white-space:normal}
.w{min-width:0}
figure,tr,.verdict{break-inside:avoid}
h2{break-after:avoid}
.wide{overflow:visible}
.figures{display:block}
figure{width:fit-content;margin-bottom:.6rem}
figure img{width:auto}
figure button{display:none}
pre{white-space:pre-wrap}}
"""


#: Figures wider than the first take a row of their own, narrower than the second are not enlarged.
WHOLE_IN, SMALL_IN = 6.6, 4.0


class Html(str):
    """Text that is HTML already, every part of it escaped."""

    __slots__ = ()


def text(value: object) -> str:
    """Escape text for an element or an attribute.

    Examples
    --------
    >>> text("<LST & co>")
    '&lt;LST &amp; co&gt;'
    """
    return escape(printable(str(value)))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: str = "",
    tones: Sequence[str] = (),
    sortable: bool = True,
) -> str:
    """Build a table.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : iterable of sequence of str
        Cells as plain text, or as `Html`.
    numbers : str
        One letter a column, ``n`` for numbers (aligned right), ``b`` for text that is not
        broken, ``w`` for long text that needs its width, anything else for text.
    tones : sequence of str
        Class of each row (``bad``, ``warn``, empty).
    sortable : bool
        Whether the order of the rows is the reader's.

    Returns
    -------
    str
        HTML.
    """
    kinds = [f' class="{kind}"' if kind in "nbw" else "" for kind in numbers.ljust(len(header))]
    head = "".join(
        f"<th{kind}>{text(cell)}</th>" for kind, cell in zip(kinds, header, strict=False)
    )
    body = []
    for number, row in enumerate(rows):
        tone = f' class="{tones[number]}"' if number < len(tones) and tones[number] else ""
        cells = "".join(
            f"<td{kind}>{cell if isinstance(cell, Html) else text(cell)}</td>"
            for kind, cell in zip(kinds, row, strict=False)
        )
        body.append(f"<tr{tone}>{cells}</tr>")
    order = ' class="sortable"' if sortable and len(body) > 1 else ""
    return (
        f'<div class="wide"><table{order}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(uri: str, name: str, caption: str, size: str = "") -> str:
    """Build a figure from a data URI of our own making; `size` is its class."""
    picture = f'<img src="{uri}" alt="{text(name)}">'
    told = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    kind = f' class="{size}"' if size else ""
    return f"<figure{kind}>{picture}{told}</figure>"


def figure_elements(pictures: Iterable[Picture], *, natural: bool = False) -> str:
    """Build the figures of a section; nothing without any.

    Parameters
    ----------
    pictures : iterable of Picture
        What to show: side by side as the window has room, wide ones in a row of their own.
    natural : bool
        Whether all keep the size they were drawn in, for those that are to be compared.
    """
    parts = [
        figure(encode(drawn, "svg"), name, caption, _size(drawn))
        for name, caption, drawn in pictures
    ]
    kind = "figures natural" if natural else "figures"
    return f'<div class="{kind}">{"".join(parts)}</div>' if parts else ""


def _size(drawn: Figure) -> str:
    width_in = drawn.get_figwidth()
    return "whole" if width_in > WHOLE_IN else "small" if width_in < SMALL_IN else ""


def details(summary: str, content: str, *, is_open: bool = False) -> str:
    """Build a part that can be folded."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{text(summary)}</summary>{content}</details>"


def page(title: str, parts: Iterable[str], *, marks: str = "") -> str:
    """Build the page around its parts; `marks` is kept for the program that wrote it."""
    kept = f'<meta name="arraycal-marks" content="{text(marks)}">' if marks else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'{kept}<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + f"\n<script>{SCRIPT}</script></body></html>\n"
    )

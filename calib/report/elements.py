"""A self-contained HTML page: escaping, tables, figures, style; no script, no network.

Whatever comes from a file or a configuration goes through `text`. The page also forbids itself to
run or load anything, should that ever be forgotten.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from calib.report.facts import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["details", "figure", "page", "table", "text"]

#: Nothing but inline style and inline images; scripts above all are refused.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

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
p{margin:.4rem 0}
.quiet{color:var(--quiet)}
.verdict{border-left:.4rem solid var(--tone);background:var(--soft);
padding:.8rem 1.1rem;margin:1.1rem 0}
.verdict strong{color:var(--tone);font-size:1.15rem}
.verdict ul{margin:.3rem 0 0;padding-left:1.2rem}
.usable{--tone:var(--good)}
.degraded{--tone:var(--warn)}
.unusable{--tone:var(--bad)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.9rem;
margin:1.1rem 0}
dt{color:var(--quiet);font-size:.82rem}
dd{margin:0;font-size:1.05rem;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}
th,td{padding:.22rem .7rem;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--quiet);font-weight:600;white-space:nowrap}
.n{text-align:right;white-space:nowrap}
tr.bad td{color:var(--bad)}
tr.warn td{color:var(--warn)}
.figures{display:flex;flex-wrap:wrap;gap:1.2rem;align-items:flex-start}
figure{margin:0;padding:.7rem;background:#fff;border:1px solid var(--line);
border-radius:6px;max-width:100%}
figure img{display:block;max-width:100%;height:auto}
figcaption{color:#5b6470;font-size:.82rem;margin-top:.4rem;width:0;min-width:100%}
details{margin:.6rem 0}
summary{cursor:pointer;font-weight:600;padding:.2rem 0}
pre{background:var(--soft);padding:.9rem;overflow-x:auto;font-size:.82rem;line-height:1.4}
td:last-child{overflow-wrap:anywhere}
@media print{:root{color-scheme:light;
--ink:#000;--back:#fff;--soft:#f5f7f9;--quiet:#444;--line:#bbb;
--good:#0b7a4b;--warn:#9a5b00;--bad:#b3261e}
body{max-width:none;padding:0;font-size:10pt}
table{font-size:7.5pt}
th,td{padding:.15rem .4rem}
figure,tr,.verdict{break-inside:avoid}
h2{break-after:avoid}
.wide{overflow:visible}
pre{white-space:pre-wrap}}
"""


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
) -> str:
    """Build a table.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : iterable of sequence of str
        Cells as plain text.
    numbers : str
        One letter a column, ``n`` for numbers (aligned right), anything else for text.
    tones : sequence of str
        Class of each row (``bad``, ``warn``, empty).

    Returns
    -------
    str
        HTML.
    """
    kinds = [' class="n"' if kind == "n" else "" for kind in numbers.ljust(len(header))]
    head = "".join(
        f"<th{kind}>{text(cell)}</th>" for kind, cell in zip(kinds, header, strict=False)
    )
    body = []
    for number, row in enumerate(rows):
        tone = f' class="{tones[number]}"' if number < len(tones) and tones[number] else ""
        cells = "".join(
            f"<td{kind}>{text(cell)}</td>" for kind, cell in zip(kinds, row, strict=False)
        )
        body.append(f"<tr{tone}>{cells}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(uri: str, name: str, caption: str) -> str:
    """Build a figure from a data URI of our own making."""
    picture = f'<img src="{uri}" alt="{text(name)}">'
    return f"<figure>{picture}<figcaption>{text(caption)}</figcaption></figure>"


def details(summary: str, content: str, *, is_open: bool = False) -> str:
    """Build a part that can be folded."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{text(summary)}</summary>{content}</details>"


def page(title: str, parts: Iterable[str]) -> str:
    """Build the page around its parts."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )

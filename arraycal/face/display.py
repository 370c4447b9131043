"""Tables as a terminal and as a notebook show them."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["html_paragraph", "html_table", "text_table"]

#: Rows of a table before it says how many more there are.
MAX_ROWS = 60


def text_table(frame: pl.DataFrame, digits: int = 4) -> str:
    """Lay a table out in columns.

    Parameters
    ----------
    frame : DataFrame
        Any columns.
    digits : int
        Digits behind the point.

    Examples
    --------
    >>> import polars as pl
    >>> print(text_table(pl.DataFrame({"tel_id": [5, 12], "value": [1.0, float("nan")]})))
    tel_id   value
         5  1.0000
        12     nan
    """
    cells = [frame.columns, *_cells(frame, digits)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            f"{text:>{width}}" if dtype.is_numeric() else f"{text:{width}}"
            for text, width, dtype in zip(row, widths, frame.dtypes, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([*lines, *_more(frame)])


def html_table(frame: pl.DataFrame, digits: int = 4) -> str:
    """Write a table as HTML.

    Examples
    --------
    >>> import polars as pl
    >>> html_table(pl.DataFrame({"path": ["<a>"]}))
    '<table><tr><th>path</th></tr><tr><td>&lt;a&gt;</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in frame.columns)
    rows = ("".join(f"<td>{escape(text)}</td>" for text in row) for row in _cells(frame, digits))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return "".join([f"<table><tr>{head}</tr>{body}</table>", *map(html_paragraph, _more(frame))])


def html_paragraph(text: str) -> str:
    """Write a text as a paragraph of HTML.

    Examples
    --------
    >>> html_paragraph("1 < 2")
    '<p>1 &lt; 2</p>'
    """
    return f"<p>{escape(text)}</p>"


def _cells(frame: pl.DataFrame, digits: int) -> list[list[str]]:
    rows = frame.head(MAX_ROWS).iter_rows()
    return [[_cell(value, digits) for value in row] for row in rows]


def _cell(value: object, digits: int) -> str:
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return "" if value is None else str(value)


def _more(frame: pl.DataFrame) -> list[str]:
    return [f"and {len(frame) - MAX_ROWS} more"] if len(frame) > MAX_ROWS else []

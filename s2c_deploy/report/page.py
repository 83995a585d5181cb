"""Reports as one HTML page each that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from s2c_deploy.report.table import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th:first-child, td:first-child, table.text td, table.text th { text-align: left; }
td, th { white-space: nowrap; } .text td { white-space: normal; } th { background: #f4f4f4; }
svg { width: 100%; height: auto; } .alarm { color: #b00020; font-weight: bold; }
"""


def html_page(title: str, parts: Sequence[str]) -> str:
    """A whole page of parts that are HTML already; nothing is loaded from elsewhere."""
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def html_table(table: Table, *, text: bool = False) -> str:
    """A table with its title.  text: every column is words, not numbers."""

    def line(cells: tuple[str, ...], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    rows = "\n".join([line(table.columns, "th"), *(line(row, "td") for row in table.rows)])
    return f"<h2>{escape(table.title)}</h2>\n<table{' class=text' * text}>\n{rows}\n</table>"

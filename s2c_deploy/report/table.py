"""Tables of text, for a terminal, a page and a document alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells as they are shown; the first column is text, the others are numbers, unless it is called name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(table: Table) -> str:
    """The table as Markdown, without its title."""
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percent(share: float, digits: int) -> str:
    """0.1234 as +12.3 %."""
    return f"{100 * share:+.{digits}f} %"

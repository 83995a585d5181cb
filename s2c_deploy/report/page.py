"""Reports as one HTML page each that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from s2c_deploy.report.style import STYLE
from s2c_deploy.report.table import Table

#: A page of so many sections has a table of contents.
MANY = 5
#: A column with a cell of more characters is prose: it wraps.
WRAP = 28
#: A value without a space, or a list of values, that is longer than this is folded away.
FOLD = 48
#: The browser itself then refuses scripts and whatever is elsewhere.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page below a heading of its own."""

    #: Text.
    title: str
    #: HTML.
    parts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A figure to be seen first."""

    value: str
    #: Of what the figure is.
    what: str
    #: How far it may be trusted.
    detail: str = ""


def html_page(title: str, *, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """A whole page: its title, the lead, which is HTML already, contents where it is long, and the sections."""
    body = [f"<h1>{escape(title)}</h1>", *lead]
    if len(sections) >= MANY:
        links = (f'<li><a href="#s{number}">{escape(s.title)}</a></li>' for number, s in enumerate(sections, 1))
        body.append(f'<nav aria-label="Contents"><ol>{"".join(links)}</ol></nav>')
    for number, section in enumerate(sections, 1):
        inside = "\n".join(part for part in section.parts if part)
        body.append(f'<section id="s{number}">\n<h2>{escape(section.title)}</h2>\n{inside}\n</section>')
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    content = "\n".join(part for part in body if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{content}\n</body></html>\n'


def html_findings(title: str, findings: Sequence[Finding]) -> str:
    """What a reader should see first: a sentence, and the figures behind it in large type."""
    listed = f"\n<ul>{''.join(map(_finding, findings))}</ul>" if findings else ""
    return f'<div class="headline"><p>{escape(title)}</p>{listed}</div>'


def _finding(finding: Finding) -> str:
    """In large type only where there is a figure."""
    large = "" if any(map(str.isdigit, finding.value)) else ' class="none"'
    said = f"<span>{escape(finding.what)}</span> <small>{escape(finding.detail)}</small>"
    return f"<li><b{large}>{escape(finding.value)}</b> {said}</li>"


def html_notes(notes: Sequence[str]) -> str:
    """A list of sentences; nothing for none."""
    return f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>" if notes else ""


def html_details(summary: str, inside: str) -> str:
    """HTML that is folded away until the summary, which is text, is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{inside}\n</details>"


def html_figure(svg: str, caption: str) -> str:
    """A plot with a line of text below it."""
    return f'<figure><div class="scroll">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def html_table(table: Table, *, title: bool = True, text: bool = False) -> str:
    """A table in a box that scrolls where the page is too narrow.  text: every column is words, not numbers."""
    kinds = [_kind(table, number, text) for number in range(len(table.columns))]

    def line(cells: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<td{k}>{escape(c)}</td>" for c, k in zip(cells, kinds, strict=True)) + "</tr>"

    names = "".join(f"<th{k}>{_unbroken(c)}</th>" for c, k in zip(table.columns, kinds, strict=True))
    rows = "\n".join(line(row) for row in table.rows)
    heading = f"<h3>{escape(table.title)}</h3>\n" if title else ""
    return heading + _box(f"<thead><tr>{names}</tr></thead>\n<tbody>{rows}</tbody>")


def _unbroken(name: str) -> str:
    """A column's name, to be broken between words only, and not before a unit or behind a single x."""
    return " ".join(f"<span>{escape(part)}</span>" for part in re.split(r"(?<!^x) (?!\S{1,2}$)", name))


def _kind(table: Table, column: int, text: bool) -> str:
    if max((len(row[column]) for row in table.rows), default=0) > WRAP:
        return ' class="prose"'
    return ' class="words"' if text or column == 0 else ""


def html_record(record: Mapping[str, Any]) -> str:
    """Names and values of JSON's types; what is long and read by nobody at first (hashes, lists) is folded away."""
    rows = "\n".join(
        f'<tr><th class="words" scope="row">{escape(name)}</th><td class="prose">{_value(value)}</td></tr>'
        for name, value in record.items()
    )
    return _box(f"<tbody>{rows}</tbody>")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= FOLD or (isinstance(value, str) and " " in value):
        return escape(text)
    if isinstance(value, str):
        return html_details(f"{value[:16]}…", f"<code>{escape(value)}</code>")
    lines = json.dumps(value, indent=1, ensure_ascii=False)
    return html_details(f"{len(value)} entries", f"<pre>{escape(lines)}</pre>")


def _box(inside: str) -> str:
    """tabindex: so that the keyboard can scroll it too."""
    return f'<div class="scroll" tabindex="0"><table>\n{inside}\n</table></div>'

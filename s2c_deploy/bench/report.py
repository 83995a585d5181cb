"""A benchmark as one HTML page that needs nothing else, and the comparison of two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from s2c_deploy.bench import tables
from s2c_deploy.bench.headline import headlines
from s2c_deploy.bench.plot import latency_svg, sizes_svg, stages_svg
from s2c_deploy.bench.result import Benchmark, Measured, RowResult
from s2c_deploy.bench.statistics import ratio_interval
from s2c_deploy.errors import InputError
from s2c_deploy.files import write_text
from s2c_deploy.report.page import (
    Section,
    html_details,
    html_figure,
    html_findings,
    html_notes,
    html_page,
    html_record,
    html_table,
)
from s2c_deploy.report.table import Table

#: Where these differ, two runs measured different things.
_SAME = ("processor", "usable_processors", "governor", "fingerprint", "commit", "versions", "variables")
#: So many cases have their headline in sight.
SEEN = 3


def all_tables(benchmark: Benchmark, *, wide: bool = True) -> list[Table]:
    """Every table of a benchmark, in the order of reading; not wide: those that answer what is fastest and what it
    costs, in columns that 80 characters hold."""
    found = []
    for operation in benchmark.operations:
        for case in benchmark.cases:
            found.append(tables.latency_table(benchmark, case, operation, wide=wide))
            if wide:
                found.append(tables.stages_table(benchmark, case, operation))
            found.append(tables.device_table(benchmark, case, operation))
    return [*found, tables.costs_table(benchmark, wide=wide), tables.lost_table(benchmark)]


def write_html(benchmark: Benchmark, path: Path) -> None:
    """One page: the headline ratios, plots, tables, environment.  DependencyError without matplotlib."""
    write_text(path, _page(benchmark))


def _page(benchmark: Benchmark) -> str:
    b = benchmark
    lead = [html_findings(h.said, h.findings) for h in headlines(b)] or [html_findings("No row has times.", ())]
    if len(lead) > SEEN:
        lead = [*lead[:SEEN], html_details(f"The other cases ({len(lead) - SEEN})", "\n".join(lead[SEEN:]))]
    asked = html_details("What was asked for", html_record(b.request))
    sections = [
        Section(title="Notes", parts=(html_notes(tables.remarks(b)),)),
        *(_timed(b, case, o) for o in b.operations for case in b.cases if tables.ranked(b, case, o)),
        *_by_size(b),
        *_single("Opening, memory, parity", tables.costs_table(b)),
        *_single("Rows without times", tables.lost_table(b), text=True),
        *_single("What the rows are", tables.rows_table(b), text=True),
        Section(title="Environment", parts=(html_record(b.environment), asked)),
    ]
    return html_page(f"Latency: {b.environment['bundle']}", lead=lead, sections=sections)


def _single(title: str, table: Table, *, text: bool = False) -> list[Section]:
    """A section of one table, or none where it has no rows."""
    return [Section(title=title, parts=(html_table(table, title=False, text=text),))] if table.rows else []


def _timed(benchmark: Benchmark, case: Measured, operation: str) -> Section:
    """Plots and tables of one case; the stages are for who asks where the time goes."""
    found = (
        tables.latency_table(benchmark, case, operation),
        tables.stages_table(benchmark, case, operation),
        tables.device_table(benchmark, case, operation),
    )
    named = (replace(table, title=table.title[0].upper() + table.title[1:]) for table in found)
    latency, stages, device = (html_table(table) if table.rows else "" for table in named)
    every = html_figure(latency_svg(benchmark, case, operation), "Dot: median. Strokes: every call.")
    means = html_figure(stages_svg(benchmark, case, operation), "Means of the stages, one after another.")
    return Section(title=f"{operation.capitalize()}: {case.name}", parts=(every, latency, means, stages, device))


def _by_size(benchmark: Benchmark) -> list[Section]:
    drawn = [svg for operation in benchmark.operations if (svg := sizes_svg(benchmark, operation))]
    quality = benchmark.cases[0].quality
    figures = tuple(html_figure(svg, f"Medians, quality {quality:g}.") for svg in drawn)
    return [Section(title="By size", parts=figures)] if figures else []


def compare_table(first: Benchmark, second: Benchmark, *, seed: int = 0) -> Table:
    """Medians of every row and case that both runs timed, their ratio and its 95 % interval.

    InputError where nothing is in both.
    """
    mine = {row.name: row for row in first.rows}
    body = []
    for row in second.rows:
        if row.name in mine:
            body += _compared(mine[row.name], row, seed)
    if not body:
        raise InputError(
            "the two runs have no row and case in common",
            hint=f"rows {', '.join(mine)} and {', '.join(row.name for row in second.rows)}; cases "
            f"{'; '.join(c.name for c in first.cases)} and {'; '.join(c.name for c in second.cases)}",
        )
    columns = ("row", "case", "first p50 ms", "second p50 ms", "second / first", "95 % interval", "second is")
    return Table(title="medians compared, bootstrap over rounds and samples", columns=columns, rows=tuple(body))


def _compared(a: RowResult, b: RowResult, seed: int) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for series in b.series:
        base = a.of(series.case, series.operation)
        if base is None:
            continue
        ratio = ratio_interval((base.seconds, base.rounds), (series.seconds, series.rounds), seed=seed)
        unstable = [name for name, s in (("first", base), ("second", series)) if s.summary.unstable]
        found.append(
            (
                b.label,
                f"{series.operation}, {series.case}",
                f"{1e3 * base.summary.p50:.2f}",
                f"{1e3 * series.summary.p50:.2f}",
                f"{ratio.ratio:.3f}",
                f"{ratio.low:.3f} to {ratio.high:.3f}",
                ratio.verdict + (f" ({' and '.join(unstable)} unstable)" if unstable else ""),
            )
        )
    return found


def differences(first: Benchmark, second: Benchmark) -> list[str]:
    """What else is different between two runs."""
    lines = []
    for name in _SAME:
        a, b = first.environment.get(name), second.environment.get(name)
        if a != b:
            lines.append(f"{name} differs: {a} and {b}")
    streams = {case.name: case.sha256 for case in first.cases}
    changed = [case.name for case in second.cases if streams.get(case.name, case.sha256) != case.sha256]
    if changed:
        lines.append(f"the streams differ: {'; '.join(changed)}")
    return lines

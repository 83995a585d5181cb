"""A benchmark as one HTML page that needs nothing else, and the comparison of two."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from s2c_deploy.bench import tables
from s2c_deploy.bench.plot import latency_svg, sizes_svg, stages_svg
from s2c_deploy.bench.result import Benchmark, RowResult
from s2c_deploy.bench.statistics import ratio_interval
from s2c_deploy.errors import InputError
from s2c_deploy.files import write_text
from s2c_deploy.report.page import html_page, html_table
from s2c_deploy.report.table import Table

#: Where these differ, two runs measured different things.
_SAME = ("processor", "usable_processors", "governor", "fingerprint", "commit", "versions", "variables")


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


def environment_table(benchmark: Benchmark) -> Table:
    """The machine, the versions, the request."""
    record = {**benchmark.environment, **{f"asked: {name}": value for name, value in benchmark.request.items()}}
    rows = tuple((name, value if isinstance(value, str) else json.dumps(value)) for name, value in record.items())
    return Table(title="environment", columns=("what", "which"), rows=rows)


def write_html(benchmark: Benchmark, path: Path) -> None:
    """One page: advice, plots, tables, environment.  DependencyError without matplotlib."""
    name = str(benchmark.environment["bundle"])
    parts = [f"<h1>Latency: {escape(name)}</h1>", *(f"<p>{escape(note)}</p>" for note in tables.notes(benchmark))]
    for operation in benchmark.operations:
        timed = [case for case in benchmark.cases if tables.ranked(benchmark, case, operation)]
        parts += [latency_svg(benchmark, case, operation) for case in timed]
        parts += [stages_svg(benchmark, case, operation) for case in timed]
        parts.append(sizes_svg(benchmark, operation) if timed else "")
    words = ("name", "what")
    shown = [*all_tables(benchmark), tables.rows_table(benchmark), environment_table(benchmark)]
    parts += [html_table(table, text=table.columns[0] in words) for table in shown if table.rows]
    write_text(path, html_page(f"Latency: {name}", parts))


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

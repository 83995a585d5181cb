"""A benchmark as tables of text, for a terminal, a page and the README alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s2c_deploy.bench.parity import worst
from s2c_deploy.bench.result import Benchmark, Measured, RowResult, Series
from s2c_deploy.bench.stages import STAGES
from s2c_deploy.bench.statistics import Summary
from s2c_deploy.report.table import Table

#: Behind the best figure of a column.
BEST = " *"
#: The stages must sum to the headline within this.
COVERAGE = 0.05


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column of a table, a value a row."""

    title: str
    value: Callable[[RowResult], float | None]
    show: Callable[[float], str]
    #: Whether the smallest (-1) or the largest (1) is marked, or none (0).
    best: int = -1


def latency_table(benchmark: Benchmark, case: Measured, operation: str, *, wide: bool = True) -> Table:
    """Single-stream latency of every row with times, fastest first, and ratios to the baselines.

    Not wide: without the number of calls, their spread, p99 and the precision, and of the verdict its first word.
    """
    rows = ranked(benchmark, case, operation)
    pytorch, reference = best_of(rows, "pytorch", case, operation), best_of(rows, "reference", case, operation)

    def p50(row: RowResult | None) -> float | None:
        series = row and row.of(case.name, operation)
        return series.summary.p50 if series else None

    def against(base: RowResult | None) -> Callable[[RowResult], float | None]:
        def ratio(row: RowResult) -> float | None:
            mine, other = p50(row), p50(base)
            return other / mine if mine and other else None

        return ratio

    columns = [
        _Column(title="p50 ms", value=p50, show=_ms),
        _Column(title="p90", value=lambda row: _summary(row, case, operation).p90, show=_ms),
        _Column(title="p99", value=lambda row: _summary(row, case, operation).p99, show=_ms),
        _Column(title="n", value=lambda row: _summary(row, case, operation).n, show=lambda n: f"{n:.0f}", best=0),
        _Column(title="spread", value=lambda row: _summary(row, case, operation).spread, show=_percent, best=0),
        _Column(title="x reference", value=against(reference), show=_times, best=0),
        _Column(title="x best PyTorch", value=against(pytorch), show=_times, best=0),
    ]
    if not wide:
        columns = [column for column in columns if column.title not in ("p99", "n", "spread")]
    body = []
    for row, line in zip(rows, _cells(columns, rows), strict=True):
        unstable = _summary(row, case, operation).unstable
        verdict = (unstable or "stable") if wide else ("no" if unstable else "yes")
        body.append((row.label, *((row.precision,) * wide), *line, verdict))
    what = "file bytes to pixels" if operation == "decode" else "pixels to file bytes"
    pictures = f"{len(case.pictures)} pictures" if len(case.pictures) > 1 else "1 picture"
    title = f"{operation}, {what}: {case.name} ({pictures}, {case.bpp:.3f} bpp), one stream at a time"
    titles = [column.title for column in columns]
    names = ("row", "g_s in", *titles, "verdict") if wide else ("row", *titles, "stable")
    return Table(title=title, columns=names, rows=tuple(body))


def stages_table(benchmark: Benchmark, case: Measured, operation: str) -> Table:
    """Mean milliseconds of every stage, and their sum over the headline."""
    rows = []
    for row in ranked(benchmark, case, operation):
        series = row.of(case.name, operation)
        assert series is not None
        names = STAGES[operation]
        means = stage_means(series)
        shown = [_ms(means[name]) if name in means else "" for name in names]
        rows.append((row.label, *shown, _percent(series.covered)))
    columns = ("row", *STAGES[operation], "sum / headline")
    return Table(title=f"{operation} stages, mean ms: {case.name}", columns=columns, rows=tuple(rows))


def device_table(benchmark: Benchmark, case: Measured, operation: str) -> Table:
    """Of stages that run on a device: mean milliseconds on the host, on the device, and until all was enqueued; no
    rows where nothing does."""
    rows = []
    for row in ranked(benchmark, case, operation):
        series = row.of(case.name, operation)
        assert series is not None
        host = stage_means(series)
        for stage, device in series.device.items():
            on_device, enqueue = (sum(values) / len(values) for values in (device, series.enqueue[stage]))
            verdict = "launch-bound" if enqueue > on_device else ""
            rows.append((row.label, stage, _ms(host[stage]), _ms(on_device), _ms(enqueue), verdict))
    columns = ("row", "stage", "host", "device", "enqueue", "")
    return Table(title=f"{operation} on the device, mean ms: {case.name}", columns=columns, rows=tuple(rows))


def stage_means(series: Series) -> dict[str, float]:
    """Mean seconds a call of every stage."""
    return {name: sum(values) / len(series.seconds) for name, values in series.stages.items()}


def costs_table(benchmark: Benchmark, *, wide: bool = True) -> Table:
    """What opening a row costs, its memory, its parity, its pictures per second; not wide: without what it ran on and
    how many symbols were compared."""
    rows = [row for row in benchmark.rows if row.series]
    columns = [
        _Column(title="load s", value=lambda row: row.load_seconds, show=lambda v: f"{v:.2f}"),
        _Column(title="first picture ms", value=lambda row: row.first_seconds, show=_ms),
        _Column(title="MB loaded", value=lambda row: row.loaded_megabytes, show=lambda v: f"{v:.0f}"),
        _Column(title="MB peak", value=lambda row: row.peak_megabytes, show=lambda v: f"{v:.0f}"),
    ]
    if any(row.device_megabytes is not None for row in rows):
        columns.append(_Column(title="MB device", value=lambda row: row.device_megabytes, show=lambda v: f"{v:.0f}"))
    cases = list(dict.fromkeys(found.case for row in rows for found in row.throughput))
    columns += [_throughput(case, alone=len(cases) == 1) for case in cases]
    body = []
    for row, line in zip(rows, _cells(columns, rows), strict=True):
        parity = worst(list(row.parity))
        delta = f"{parity.delta_psnr:+.4f}" if parity else ""
        symbols = f"{sum(p.symbols for p in row.parity):,}"
        compared = (symbols, delta, ", ".join(row.ran)) if wide else (delta,)
        body.append((row.label, *line, *compared))
    more = ("equal symbols", "dPSNR dB", "ran on") if wide else ("dPSNR dB",)
    names = ("row", *(column.title for column in columns), *more)
    return Table(title="opening, memory, parity", columns=names, rows=tuple(body))


def _throughput(case: str, *, alone: bool) -> _Column:
    def value(row: RowResult) -> float | None:
        return next((t.pictures_per_second for t in row.throughput if t.case == case), None)

    title = "pictures/s, all cores" if alone else f"pictures/s, all cores: {case}"
    return _Column(title=title, value=value, show=lambda v: f"{v:.2f}", best=1)


def lost_table(benchmark: Benchmark) -> Table:
    """Rows without times, and why."""
    rows = [(row.label, f"no times: {row.failure}") for row in benchmark.rows if row.failure]
    rows += [(name, f"not run: {reason}") for name, reason in benchmark.left_out.items()]
    return Table(title="rows without times", columns=("name", "why"), rows=tuple(rows))


def rows_table(benchmark: Benchmark) -> Table:
    """What each row is."""
    rows = tuple((row.name, row.description) for row in benchmark.rows)
    return Table(title="rows", columns=("name", "what it is"), rows=rows)


def notes(benchmark: Benchmark) -> list[str]:
    """What a reader must know beside the figures; the first says what to deploy."""
    return [*_advice(benchmark), *remarks(benchmark)]


def remarks(benchmark: Benchmark) -> list[str]:
    """The notes without the advice."""
    lines = [f"{row.name}: {row.fallback}" for row in benchmark.rows if row.fallback]
    for row in benchmark.rows:
        lines += [
            f"{row.name}: stages sum to {series.covered:.1%} of the headline of {series.case}: do not trust them"
            for series in row.series
            if abs(series.covered - 1) > COVERAGE
        ]
    for row in benchmark.rows:
        for case in benchmark.cases:
            if row.series and row.bytes and case.name in row.bytes:
                lines.append(
                    f"{row.name} cannot read the others' streams: {case.name} is {row.bytes[case.name]} bytes in its "
                    f"own, {case.size} in theirs"
                )
    unstable = [f"{r.name} ({s.case}, {s.operation})" for r in benchmark.rows for s in r.series if s.summary.unstable]
    if unstable:
        lines.append(f"Unstable, so not to be quoted: {'; '.join(unstable)}.")
    before = (benchmark.environment.get("load_before") or [0])[0]
    if before > 0.5:
        lines.append(f"The machine was busy when this began: load average {before:.1f}.")
    lines.append("* best of its column. Verdict: halves within 5 %, rounds within 10 %. p99 of few calls: the slowest.")
    return lines


def _advice(benchmark: Benchmark) -> list[str]:
    lines = []
    for case in benchmark.cases:
        rows = ranked(benchmark, case, "decode")
        engine = best_of(rows, "engine", case, "decode")
        if engine is None:
            continue
        best = _summary(engine, case, "decode")
        said = f"Deploy {engine.name} for {case.name}: {1e3 * best.p50:.1f} ms"
        for kind, name in (("pytorch", "the best PyTorch"), ("reference", "the reference pipeline")):
            if (base := best_of(rows, kind, case, "decode")) is not None:
                other = _summary(base, case, "decode").p50
                said += f", {other / best.p50:.1f}x {name} ({base.name}, {1e3 * other:.1f} ms)"
        lines.append(said + (f"; but unstable: {best.unstable}" if best.unstable else "") + ".")
    return lines


def ranked(benchmark: Benchmark, case: Measured, operation: str) -> list[RowResult]:
    """Rows with times of a case, fastest median first."""
    rows = [row for row in benchmark.rows if row.of(case.name, operation)]
    return sorted(rows, key=lambda row: _summary(row, case, operation).p50)


def best_of(rows: Sequence[RowResult], kind: str, case: Measured, operation: str) -> RowResult | None:
    """The fastest row of a kind that ran as asked."""
    mine = [row for row in rows if row.kind == kind and not row.fallback]
    return min(mine, key=lambda row: _summary(row, case, operation).p50, default=None)


def _summary(row: RowResult, case: Measured, operation: str) -> Summary:
    series = row.of(case.name, operation)
    assert series is not None
    return series.summary


def _cells(columns: Sequence[_Column], rows: Sequence[RowResult]) -> list[list[str]]:
    """Shown values, the best of each column marked; a row that is not what was asked for cannot be best."""
    lines: list[list[str]] = [[] for _ in rows]
    for column in columns:
        values = [column.value(row) for row in rows]
        fair = [v for v, row in zip(values, rows, strict=True) if v is not None and not row.fallback]
        best = max(fair, key=lambda v: column.best * v, default=None) if column.best and len(fair) > 1 else None
        for line, value in zip(lines, values, strict=True):
            line.append("" if value is None else column.show(value) + (BEST if value == best else ""))
    return lines


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.{1 if seconds >= 0.01 else 2}f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}"

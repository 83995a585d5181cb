"""What a benchmark says in one line a case: the fastest engine, and how many times as fast as the baselines."""

from __future__ import annotations

from dataclasses import dataclass

from s2c_deploy.bench.result import Benchmark, Measured, RowResult
from s2c_deploy.bench.statistics import ratio_interval
from s2c_deploy.bench.tables import best_of, ranked
from s2c_deploy.report.page import Finding

_BASES = {"reference": "the reference pipeline", "pytorch": "the best PyTorch"}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What is to be seen first of a case."""

    #: The fastest engine and its median, in words.
    said: str
    #: It against each baseline.
    findings: tuple[Finding, ...]


def headlines(benchmark: Benchmark) -> list[Headline]:
    """One for every operation and case that any row has times of."""
    pairs = [(operation, case) for operation in benchmark.operations for case in benchmark.cases]
    return [_headline(benchmark, case, operation) for operation, case in pairs if ranked(benchmark, case, operation)]


def _headline(benchmark: Benchmark, case: Measured, operation: str) -> Headline:
    rows = ranked(benchmark, case, operation)
    engine = best_of(rows, "engine", case, operation)
    if engine is None:
        return Headline(said=f"No engine has times of {operation}, {case.name}.", findings=())
    series = engine.of(case.name, operation)
    assert series is not None
    said = f"Fastest engine to {operation} {case.name}: {engine.name} ({engine.precision}), "
    said += f"{1e3 * series.summary.p50:.1f} ms"
    findings = []
    for kind, name in _BASES.items():
        base = best_of(rows, kind, case, operation)
        if base is None:
            findings.append(Finding(value="no ratio", what=f"to {name}", detail=_missing(benchmark, kind)))
        else:
            findings.append(_finding(engine, base, name, case, operation))
    return Headline(said=said, findings=tuple(findings))


def _missing(benchmark: Benchmark, kind: str) -> str:
    """Why a baseline is not there; the reference's row is named as its kind is."""
    reasons = [row.failure for row in benchmark.rows if row.kind == kind and row.failure]
    reasons += [reason for name, reason in benchmark.left_out.items() if name == kind]
    return f"Not measured: {'; '.join(reasons) or 'not asked for'}."


def _finding(engine: RowResult, base: RowResult, name: str, case: Measured, operation: str) -> Finding:
    """A ratio only of two rows that are stable: what is not to be quoted is not put into large type."""
    mine, other = engine.of(case.name, operation), base.of(case.name, operation)
    assert mine is not None
    assert other is not None
    named = f"{name} ({base.name}, {base.precision}, {1e3 * other.summary.p50:.1f} ms)"
    pairs = ((engine, mine.summary.unstable), (base, other.summary.unstable))
    unstable = [f"{row.name} is unstable ({reason})" for row, reason in pairs if reason]
    if unstable:
        return Finding(value="no ratio", what=f"to {named}", detail=f"Not to be quoted: {', '.join(unstable)}.")
    found = ratio_interval((mine.seconds, mine.rounds), (other.seconds, other.rounds))
    equal = "; no difference" if found.low <= 1 <= found.high else ""
    detail = f"95 % interval {_times(found.low)} to {_times(found.high)}{equal}"
    return Finding(value=f"{_times(found.ratio)}×", what=f"as fast as {named}", detail=detail)


def _times(ratio: float) -> str:
    return f"{ratio:.{1 if ratio >= 10 else 2}f}"

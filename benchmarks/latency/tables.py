"""The suites' tables: in Markdown, and in the documents that show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency.suites import RESULTS, read_runs
from s2c_deploy.bench.result import Benchmark, Measured, RowResult, Series
from s2c_deploy.bench.tables import best_of, ranked, stage_means
from s2c_deploy.files import atomic_write
from s2c_deploy.report.table import Table, markdown

ROOT = Path(__file__).resolve().parents[2]
#: Where the table of each suite and bundle stands.
DOCUMENTS = {
    "decode_conv-small": ROOT / "docs" / "performance.md",
    "decode_conv-tiny": ROOT / "docs" / "performance.md",
    "sizes_conv-small": ROOT / "docs" / "performance.md",
    "sizes_conv-tiny": ROOT / "docs" / "performance.md",
    "threads_conv-tiny": ROOT / "docs" / "performance.md",
    "entropy_conv-tiny": ROOT / "docs" / "performance.md",
}
#: What happens before g_s gets its latent.
ENTROPY_PATH = ("read", "parse", "entropy", "contexts", "latents")


def suite_tables(suite: str, runs: Sequence[Benchmark]) -> str:
    """Machine and commit, then the suite's tables in Markdown."""
    if suite == "decode":
        tables = _decode_tables(runs[0])
    elif suite == "sizes":
        tables = ["", markdown(sizes_table(runs))]
    else:
        tables = ["", markdown(threads_table(runs[0]) if suite == "threads" else entropy_table(runs[0]))]
    return "\n".join([_machine(runs[0]), *tables])


def _machine(run: Benchmark) -> str:
    e = run.environment
    engines = ", ".join(f"{name} {version}" for name, version in e["versions"].items() if name != "numpy")
    threads = " and ".join(str(count) for count in sorted({row.threads for row in run.rows}))
    return (
        f"Decoding {e['bundle']}, file bytes to pixels, one stream at a time, {threads} threads, on {e['processor']} "
        f"({e['usable_processors']} cores); {engines}; commit {str(e['commit'])[:10]}, {str(e['date'])[:10]}."
    )


def _decode_tables(run: Benchmark) -> list[str]:
    """A Markdown table for every case, and the rows that lost their times."""
    lines = []
    for case in run.cases:
        lines += ["", f"{case.name}, {_pictures(case)}, {case.bpp:.3f} bpp:", "", markdown(_case_table(run, case))]
    lost = [f"{row.name} ({row.failure})" for row in run.rows if row.failure]
    if lost:
        lines += ["", f"Without times: {'; '.join(lost)}."]
    return lines


def _pictures(case: Measured) -> str:
    return f"{len(case.pictures)} pictures" if len(case.pictures) > 1 else case.pictures[0]


def _case_table(run: Benchmark, case: Measured) -> Table:
    rows = ranked(run, case, "decode")
    reference, pytorch = (best_of(rows, kind, case, "decode") for kind in ("reference", "pytorch"))
    body = []
    for row in rows:
        series = row.of(case.name)
        assert series is not None
        s = series.summary
        times = (f"{1e3 * s.p50:.1f}", f"{1e3 * s.p90:.1f}", f"{1e3 * s.p99:.1f}")
        ratios = (_ratio(base, case, s.p50) for base in (reference, pytorch))
        memory = f"{row.peak_megabytes:.0f}" if row.peak_megabytes else ""
        rate = next((f"{t.pictures_per_second:.1f}" for t in row.throughput if t.case == case.name), "")
        body.append((row.label, *times, *ratios, memory, rate, s.unstable or "stable"))
    columns = ("row", "p50 ms", "p90", "p99", "x reference", "x best PyTorch", "peak MB", "pictures/s", "verdict")
    return Table(title=case.name, columns=columns, rows=tuple(body))


def _ratio(base: RowResult | None, case: Measured, p50: float) -> str:
    series = base and base.of(case.name)
    return f"{series.summary.p50 / p50:.2f}" if series else ""


def sizes_table(runs: Sequence[Benchmark]) -> Table:
    """Milliseconds per megapixel and peak memory of every row at every size."""
    rows = []
    for run in runs:
        case = run.cases[0]
        megapixels = case.pixels / 1e6
        for row in run.rows:
            series = row.of(case.name)
            if series is None:
                rows.append((row.name, f"{case.width}x{case.height}", row.failure or "", "", "", ""))
                continue
            p50 = 1e3 * series.summary.p50
            memory = f"{row.peak_megabytes:.0f}" if row.peak_megabytes else ""
            verdict = series.summary.unstable or "stable"
            cells = (f"{p50:.1f}", f"{p50 / megapixels:.1f}", memory, verdict)
            rows.append((row.name, f"{case.width}x{case.height}", *cells))
    columns = ("row", "size", "p50 ms", "ms / megapixel", "peak MB", "verdict")
    return Table(title="decode by size", columns=columns, rows=tuple(rows))


def threads_table(run: Benchmark) -> Table:
    """Speed-up over the row's own smallest thread count."""
    rows = []
    for case in run.cases:
        first: dict[str, float] = {}
        for row in sorted((r for r in run.rows if r.of(case.name)), key=lambda r: (r.description, r.threads)):
            s = _series(row, case.name).summary
            base = first.setdefault(row.description, s.p50)
            times = (f"{1e3 * s.p50:.1f}", f"{base / s.p50:.2f}", s.unstable or "stable")
            rows.append((row.name.partition(",")[0], case.name, f"{row.threads}", *times))
    columns = ("row", "case", "threads", "p50 ms", "speed-up", "verdict")
    return Table(title="decode by threads", columns=columns, rows=tuple(rows))


def entropy_table(run: Benchmark) -> Table:
    """What stands before g_s: the coder, the context networks, and what lies between."""
    rows = []
    for case in run.cases:
        for row in ranked(run, case, "decode"):
            series = _series(row, case.name)
            means = stage_means(series)
            path = sum(means.get(stage, 0.0) for stage in ENTROPY_PATH)
            symbols = sum(p.symbols for p in row.parity) / len(run.cases) / len(case.pictures)
            parts = (f"{1e3 * means.get(stage, 0.0):.2f}" for stage in ("entropy", "contexts", "latents"))
            rates = (f"{path / sum(means.values()):.0%}", f"{symbols / path / 1e6:.2f}")
            verdict = series.summary.unstable or "stable"
            rows.append((row.name, case.name, f"{1e3 * path:.2f}", *parts, *rates, verdict))
    times = ("path ms", "coder ms", "contexts ms", "latents ms")
    columns = ("row", "case", *times, "of decode", "Msymbol/s", "verdict")
    return Table(title="entropy path", columns=columns, rows=tuple(rows))


def _series(row: RowResult, case: str) -> Series:
    series = row.of(case)
    assert series is not None
    return series


def block(name: str, results: Path = RESULTS) -> str:
    """What stands between a table's markers."""
    path = results / f"latency_{name}.json"
    suite, _, bundle = name.partition("_")
    if not path.is_file():
        command = f"python -m benchmarks.latency {suite} --bundle engines/{bundle}"
        return f"Not measured for this version yet: `{command}`."
    return suite_tables(suite, read_runs(path))


def markers(name: str) -> tuple[str, str]:
    return f"<!-- latency {name} -->", f"<!-- /latency {name} -->"


def split(text: str, name: str) -> tuple[str, str, str]:
    """Before, between and behind a table's markers; ValueError without exactly one pair in order."""
    start, end = markers(name)
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"expected {start} and {end}, once each, in this order")
    before, rest = text.split(start)
    between, behind = rest.split(end)
    return before + start, between.strip("\n"), end + behind


def write_documents(*, check: bool = False) -> None:
    """Each table into its document; SystemExit for one without its markers, or which ``check`` finds not current."""
    for name, document in DOCUMENTS.items():
        try:
            before, between, behind = split(document.read_text(encoding="utf-8"), name)
        except ValueError as error:
            raise SystemExit(f"{document}: {error}") from None
        if between == block(name):
            continue
        if check:
            raise SystemExit(f"{document} is not current: python -m benchmarks.latency tables")
        with atomic_write(document) as temporary:
            temporary.write_text(f"{before}\n{block(name)}\n{behind}", encoding="utf-8")

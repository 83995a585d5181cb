"""The documents' latency tables, from the results of benchmarks.latency that are committed.

python -m benchmarks.latency_tables            # writes each between its markers
python -m benchmarks.latency_tables --print    # shows them
python -m benchmarks.latency_tables --check    # exit code 1 if a document's is another
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import s2c_deploy
from benchmarks.latency import entropy_table, read_runs, sizes_table, threads_table
from s2c_deploy.bench.result import Benchmark, Measured, RowResult
from s2c_deploy.bench.tables import best_of, ranked
from s2c_deploy.files import atomic_write
from s2c_deploy.report.table import Table, markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / s2c_deploy.__version__
#: Where the table of each suite and bundle stands.
DOCUMENTS = {
    "decode_conv-small": ROOT / "README.md",
    "decode_conv-tiny": ROOT / "docs" / "performance.md",
    "sizes_conv-tiny": ROOT / "docs" / "performance.md",
    "threads_conv-tiny": ROOT / "docs" / "performance.md",
    "entropy_conv-tiny": ROOT / "docs" / "performance.md",
}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for name, document in DOCUMENTS.items():
        if arguments.print:
            print(f"{block(name)}\n")
            continue
        try:
            before, between, behind = split(document.read_text(encoding="utf-8"), name)
        except ValueError as error:
            raise SystemExit(f"{document}: {error}") from None
        if between == block(name):
            continue
        if arguments.check:
            raise SystemExit(f"{document} is not current: python -m benchmarks.latency_tables")
        with atomic_write(document) as temporary:
            temporary.write_text(f"{before}\n{block(name)}\n{behind}", encoding="utf-8")


if __name__ == "__main__":
    main()

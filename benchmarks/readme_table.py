"""The README's latency table, from the results that are committed.

    python -m benchmarks.readme_table            # writes it between the markers of README.md
    python -m benchmarks.readme_table --print    # shows it
    python -m benchmarks.readme_table --check    # exit code 1 if the README's is another
"""

from __future__ import annotations

import argparse
from pathlib import Path

import s2c_deploy
from s2c_deploy.bench.result import Benchmark, Measured, RowResult
from s2c_deploy.bench.tables import best_of, ranked
from s2c_deploy.evaluation.tables import Table, markdown
from s2c_deploy.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DECODE = ROOT / "benchmarks" / "results" / s2c_deploy.__version__ / "latency_decode.json"
START, END = "<!-- latency -->", "<!-- /latency -->"
NOTHING = "No latency has been recorded for this version yet: `python -m benchmarks.latency decode --images FOLDER`."


def decode_table(run: Benchmark) -> str:
    """Machine, commit and a Markdown table for every case."""
    e = run.environment
    engines = ", ".join(f"{name} {version}" for name, version in e["versions"].items() if name != "numpy")
    threads = " and ".join(str(count) for count in sorted({row.threads for row in run.rows}))
    lines = [
        f"Decoding {e['bundle']}, file bytes to pixels, one stream at a time, {threads} threads, on {e['processor']} "
        f"({e['usable_processors']} cores); {engines}; commit {str(e['commit'])[:10]}, {str(e['date'])[:10]}."
    ]
    for case in run.cases:
        lines += ["", f"{case.name}, {_pictures(case)}, {case.bpp:.3f} bpp:", "", markdown(_case_table(run, case))]
    lost = [f"{row.name} ({row.failure})" for row in run.rows if row.failure]
    if lost:
        lines += ["", f"Without times: {'; '.join(lost)}."]
    return "\n".join(lines)


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


def block(results: Path = DECODE) -> str:
    """What stands between the markers."""
    if not results.is_file():
        return NOTHING
    from benchmarks.latency import read_runs

    return decode_table(read_runs(results)[0])


def split(text: str) -> tuple[str, str, str] | None:
    """Before, between and behind the markers; None without exactly one pair in order."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        return None
    before, rest = text.split(START)
    between, behind = rest.split(END)
    return before + START, between.strip("\n"), END + behind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--print", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.print:
        print(f"{START}\n{block()}\n{END}")
        return
    parts = split(README.read_text(encoding="utf-8"))
    if parts is None:
        raise SystemExit(f"{README}: expected {START} and {END}, once each, in this order")
    if arguments.check:
        raise SystemExit(None if parts[1] == block() else f"{README} is not current: python -m benchmarks.readme_table")
    with atomic_write(README) as temporary:
        temporary.write_text(f"{parts[0]}\n{block()}\n{parts[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()

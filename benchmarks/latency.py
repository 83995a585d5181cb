"""The suites behind the latency figures of a release.  Each writes every raw sample and the environment.

    python -m benchmarks.latency decode --images KODAK     # the README's table: pictures, every row
    python -m benchmarks.latency sizes                     # one photograph from 256x256 up: ms and memory per megapixel
    python -m benchmarks.latency threads                   # 1 .. all cores
    python -m benchmarks.latency entropy                   # everything before g_s, over the range of quality

Nothing but this should run meanwhile.  ``sizes`` opens every row anew for each size, so that peak memory is that
size's; a row that fails at a size (out of memory, usually) says so and is not tried on larger ones.  Beyond 2048x2048
rows are measured one after another instead of taking turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

import s2c_deploy
from s2c_deploy.bench import Benchmark, Request, run_benchmark
from s2c_deploy.bench.cases import of_sizes, parse_size, photographs
from s2c_deploy.bench.result import RowResult, Series, as_record, from_record
from s2c_deploy.bench.rows import choose_rows
from s2c_deploy.bench.tables import ranked, stage_means
from s2c_deploy.cli.bench import weights_of
from s2c_deploy.files import atomic_write
from s2c_deploy.host import usable_processors
from s2c_deploy.report.table import Table

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / s2c_deploy.__version__
SIZES = ("256x256", "512x512", "1024x1024", "1080p", "2048x2048", "4k", "8k")
QUALITIES = (1.0, 4.0, 8.0)
#: Pixels beyond which rows do not take turns: all of them at once would not fit into memory.
LARGE = 2048 * 2048
#: What happens before g_s gets its latent.
ENTROPY_PATH = ("read", "parse", "entropy", "contexts", "latents")


def by_size(request: Request, sizes: Sequence[str], progress: Progress) -> Iterator[Benchmark]:
    """A run per size, or beyond LARGE one per size and row; rows in processes of their own each time."""
    rows = request.rows
    for width, height in map(parse_size, sizes):
        sources = tuple(of_sizes(request.sources[0], [(width, height)]))
        asked = replace(request, sources=sources, rows=rows)
        together = [asked] if width * height <= LARGE else [replace(asked, rows=(row,), rounds=1) for row in rows]
        for some in together:
            run = measured(some, progress)
            yield run
            failed = {row.name for row in run.rows if row.failure}
            rows = tuple(row for row in rows if row.name not in failed)
        if not rows:
            break


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


def measured(request: Request, progress: Progress) -> Benchmark:
    """One run under a bar."""
    task = progress.add_task("checking the bundle", total=None)

    def advance(done: int, total: int, step: str) -> None:
        progress.update(task, description=step, completed=done, total=total)

    try:
        return run_benchmark(request, advance)
    finally:
        progress.remove_task(task)


def write_runs(suite: str, runs: Sequence[Benchmark], folder: Path) -> Path:
    """``latency_SUITE_BUNDLE.json`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"latency_{suite}_{runs[0].environment['bundle']}.json"
    with atomic_write(path) as temporary:
        record = {"suite": suite, "runs": [as_record(run) for run in runs]}
        temporary.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_runs(path: Path) -> list[Benchmark]:
    """The inverse of ``write_runs``; InputError for a damaged record."""
    return [from_record(run, path) for run in json.loads(path.read_text(encoding="utf-8"))["runs"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", choices=("decode", "sizes", "threads", "entropy"))
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--weights", type=Path, help="model folder; the released one if not given")
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--rows", default="auto", help="with commas between")
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--min-seconds", type=float, default=10)
    parser.add_argument("--min-count", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows, left_out = choose_rows(arguments.rows.split(","))
    pictures = photographs(arguments.images, None if arguments.suite == "decode" else 1)
    processors = usable_processors()
    request = Request(
        bundle=arguments.bundle,
        rows=tuple(rows),
        left_out=left_out,
        sources=tuple(pictures),
        qualities=QUALITIES if arguments.suite == "entropy" else (4.0,),
        threads=tuple(range(1, processors + 1)) if arguments.suite == "threads" else (processors,),
        weights=arguments.weights or weights_of(arguments.bundle),
        min_seconds=arguments.min_seconds,
        min_count=arguments.min_count,
        rounds=arguments.rounds,
        throughput=arguments.suite == "decode",
    )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        runs: list[Benchmark] = []
        sized = by_size(request, arguments.sizes, progress)
        for run in sized if arguments.suite == "sizes" else [measured(request, progress)]:
            # Large sizes take long: what is known is on disk before the next one begins.
            runs.append(run)
            path = write_runs(arguments.suite, runs, arguments.results)
    from benchmarks.latency_tables import suite_tables

    print(f"{suite_tables(arguments.suite, runs)}\n\n{path}")


if __name__ == "__main__":
    main()

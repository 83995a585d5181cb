"""The latency suites: what each measures, and its record in a file."""

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
from s2c_deploy.bench.result import as_record, from_record
from s2c_deploy.bench.rows import choose_rows
from s2c_deploy.cli.bench import weights_of
from s2c_deploy.files import atomic_write
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.host import usable_processors

RESULTS = Path(__file__).resolve().parents[1] / "results" / s2c_deploy.__version__
SIZES = ("256x256", "512x512", "1024x1024", "1080p", "2048x2048", "4k", "8k")
QUALITIES = (1.0, 4.0, 8.0)
#: Pixels beyond which rows do not take turns: all of them at once would not fit into memory.
LARGE = 2048 * 2048


def request_of(suite: str, arguments: argparse.Namespace) -> Request:
    """What a suite asks the bench for."""
    rows, left_out = choose_rows(arguments.rows.split(","), open_bundle(arguments.bundle).syntheses)
    processors = usable_processors()
    return Request(
        bundle=arguments.bundle,
        rows=tuple(rows),
        left_out=left_out,
        sources=tuple(photographs(arguments.images, None if suite == "decode" else 1)),
        qualities=QUALITIES if suite == "entropy" else (4.0,),
        threads=tuple(range(1, processors + 1)) if suite == "threads" else (processors,),
        weights=arguments.weights or weights_of(arguments.bundle),
        min_seconds=arguments.min_seconds,
        min_count=arguments.min_count,
        rounds=arguments.rounds,
        throughput=suite == "decode",
    )


def run_suite(suite: str, arguments: argparse.Namespace) -> tuple[list[Benchmark], Path]:
    """Every run of a suite, and the file that they are in."""
    request = request_of(suite, arguments)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        runs: list[Benchmark] = []
        sized = by_size(request, arguments.sizes, progress)
        for run in sized if suite == "sizes" else [measured(request, progress)]:
            # Large sizes take long: what is known is on disk before the next one begins.
            runs.append(run)
            path = write_runs(suite, runs, arguments.results)
    return runs, path


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


def measured(request: Request, progress: Progress) -> Benchmark:
    """One run under a bar."""
    task = progress.add_task("checking the bundle", total=None)

    def advance(done: int, total: int | None, step: str) -> None:
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

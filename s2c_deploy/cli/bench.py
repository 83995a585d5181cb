"""``bench``: latency of every engine on the same streams; ``bench compare``: two runs beside each other."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.files.reading import pictures_of
from s2c_deploy.cli.files.reports import check_reports, reports_of, write_reports
from s2c_deploy.cli.options import (
    BundleOption,
    FollowLinksOption,
    ForceOption,
    ImagesOption,
    JsonOption,
    WideOption,
    check_levels,
    parse_names,
    parse_qualities,
    pictures_folder,
    released,
)
from s2c_deploy.cli.output import progress_bar, say_json, show_notes, show_tables
from s2c_deploy.cli.process.starting import load_numpy
from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.formats.finding import bundle_to_write_with

if TYPE_CHECKING:
    from s2c_deploy.bench import Benchmark, Request, Source

bench = typer.Typer()


@bench.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    bundle: BundleOption = None,
    backends: Annotated[str, typer.Option(help="Rows, with commas between; auto: all that can run here.")] = "auto",
    images: ImagesOption = None,
    sizes: Annotated[
        str | None, typer.Option(help="The first picture at these sizes: 720p,1080p,2k,4k,8k,768x512.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Pictures a call; only 1 is supported.")] = "1",
    quality: Annotated[str, typer.Option("--quality", "-q", help="As 4, 1..8 or 1,3,5.5.")] = "4",
    min_seconds: Annotated[float, typer.Option(min=0, help="At least so long a row and case, over all rounds.")] = 3,
    min_count: Annotated[int, typer.Option(min=1, help="At least so many calls a row and case.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="In which rows take turns.")] = 5,
    encode: Annotated[bool, typer.Option("--encode", help="Encoding too.")] = False,
    throughput: Annotated[
        bool, typer.Option("--throughput", help="Pictures per second too, a process per core.")
    ] = False,
    threads: Annotated[str, typer.Option(help="As 2 or 1,2; auto: one per core.")] = "auto",
    weights: Annotated[
        Path | None, typer.Option(help="Model folder, for PyTorch's own rows.", show_default="the released one")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything with raw samples.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write one page with plots and tables.")] = None,
    follow_links: FollowLinksOption = False,
    wide: WideOption = False,
    force: ForceOption = False,
) -> None:
    """Measure decode latency: file bytes to pixels, every engine on the same streams, gated on parity.

    s2c-deploy bench

    s2c-deploy bench --backends openvino,onnxruntime,reference --sizes 768x512,1080p --json run.json --html run.html

    s2c-deploy bench compare before.json after.json
    """
    if context.invoked_subcommand is not None:
        return
    load_numpy()
    outputs = reports_of({"json": json_file, "html": html_file})
    check_reports(outputs, force=force)
    _check_batch(batch)
    counts = _threads(threads)
    levels = parse_qualities([quality])
    names = parse_names(backends)
    check_levels(levels)
    from s2c_deploy.bench import Request, write_result
    from s2c_deploy.bench.report import write_html
    from s2c_deploy.bench.rows import choose_rows
    from s2c_deploy.formats.bundle import open_bundle
    from s2c_deploy.report.figure import require_plotting

    if html_file is not None:
        require_plotting()
    place = pictures_folder(images)
    pictures = pictures_of(place, follow_links)
    folder = bundle_to_write_with(bundle)
    check_reports(outputs, force=force, inputs=[*pictures, folder])
    model = weights if weights is not None else weights_of(folder)
    check_reports(outputs, force=force, inputs=[] if model is None else [model])
    rows, left_out = choose_rows(names, open_bundle(folder).syntheses)
    request = Request(
        bundle=folder,
        rows=tuple(rows),
        left_out=left_out,
        sources=tuple(_sources(place, sizes, follow_links)),
        qualities=levels,
        threads=counts,
        weights=model,
        min_seconds=min_seconds,
        min_count=min_count,
        rounds=rounds,
        encode=encode,
        throughput=throughput,
    )
    benchmark = _run(request)
    _show(benchmark, wide)
    writers = ((json_file, write_result), (html_file, write_html))
    write_reports([(path, partial(write, benchmark)) for path, write in writers if path is not None])
    _check_times(benchmark)


@bench.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(help="JSON of a run.")],
    second: Annotated[Path, typer.Argument(help="JSON of another run.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs: ratios of medians with 95 % confidence intervals.

    s2c-deploy bench compare before.json after.json
    """
    from s2c_deploy.bench import read_result
    from s2c_deploy.bench.report import compare_table, differences

    runs = read_result(first), read_result(second)
    table = compare_table(*runs, seed=seed)
    notes = differences(*runs)
    if as_json:
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        say_json({"rows": rows, "differences": notes})
        return
    show_tables([table])
    show_notes(notes)


def _check_batch(text: str) -> None:
    if text != "1":
        raise InputError(
            f"--batch {text}: the codec decodes one picture a call, so there is no such thing to measure",
            hint="--throughput measures several streams at once",
        )


def _threads(text: str) -> tuple[int, ...]:
    if text == "auto":
        from s2c_deploy.host import usable_processors

        return (usable_processors(),)
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise InputError(f"--threads: expected auto or numbers from 1 with commas between, found {text!r}")
    return counts


def _sources(folder: Path, sizes: str | None, follow_links: bool) -> list[Source]:
    from s2c_deploy.bench.cases import of_sizes, parse_size, photographs

    wanted = [] if sizes is None else [parse_size(part.strip().lower()) for part in sizes.split(",")]
    found = photographs(folder, limit=1 if wanted else None, follow_links=follow_links)
    return of_sizes(found[0], wanted) if wanted else found


def weights_of(bundle: Path) -> Path | None:
    """The released weights of a bundle's model, where there are any; PyTorch's rows check that they are its own."""
    from s2c_deploy.formats.manifest import read_manifest

    model = read_manifest(bundle)["model"]
    folder = released(str(model.get("variant", "")), str(model.get("preset", "")))
    return folder if os.path.isfile(folder / "weights.safetensors") else None


def _run(request: Request) -> Benchmark:
    from s2c_deploy.bench import run_benchmark

    with progress_bar("checking the bundle") as advance:
        return run_benchmark(request, advance)


def _show(benchmark: Benchmark, wide: bool) -> None:
    from s2c_deploy.bench.report import all_tables
    from s2c_deploy.bench.tables import notes

    show_tables(all_tables(benchmark, wide=wide))
    show_notes(notes(benchmark))


def _check_times(benchmark: Benchmark) -> None:
    """EngineError where no row has times."""
    if not any(row.series for row in benchmark.rows):
        reasons = "; ".join(f"{row.name}: {row.failure}" for row in benchmark.rows)
        raise EngineError(f"every row lost its times: {reasons}")

"""``eval``: rate and distortion of bundles on a folder of pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.files.reading import pictures_of
from s2c_deploy.cli.files.reports import check_reports, reports_of, write_reports
from s2c_deploy.cli.options import (
    BackendOption,
    BackgroundOption,
    FollowLinksOption,
    ForceOption,
    ThreadsOption,
    WideOption,
    check_background,
    check_levels,
    parse_efforts,
    parse_names,
    parse_qualities,
)
from s2c_deploy.cli.output import progress_bar, show_notes, show_tables
from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.formats.finding import bundle_to_write_with, looked_at
from s2c_deploy.presets import FULL

if TYPE_CHECKING:
    from s2c_deploy.evaluation import Evaluation, Request

CODECS = "jpeg,webp,avif,jpeg2000,jpegxl"


def evaluate(
    images: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle folder; several are compared.", show_default="as compress")
    ] = None,
    quality: Annotated[
        list[str] | None,
        typer.Option("--quality", "-q", help="As 1..8 or 1,3,5.5; may be repeated.", show_default="1..8"),
    ] = None,
    effort: Annotated[
        str, typer.Option(help="0 to 9, how long to look for fewer bits; several with commas between are compared.")
    ] = "0",
    synthesis: Annotated[
        str, typer.Option(help="Which g_s decodes: full, or a lighter one; several with commas between are compared.")
    ] = FULL,
    against: Annotated[str, typer.Option(help="Conventional codecs, with commas between, or none.")] = CODECS,
    reference: Annotated[str, typer.Option(help="Published curves, as vtm-9.1,bpg-444.")] = "",
    reference_file: Annotated[
        Path | None, typer.Option(help="JSON of published curves.", show_default="the shipped ones")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="What the pictures are, for --reference.", show_default="kodak if named kodim01 … 24"),
    ] = None,
    ssimulacra2: Annotated[
        bool, typer.Option("--ssimulacra2", help="Quality by SSIMULACRA2, too: about a second a picture.")
    ] = False,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    background: BackgroundOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out pictures that cannot be read, and say so.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a line per picture and setting.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the curves: .png or .svg.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write one page with plot and tables.")] = None,
    follow_links: FollowLinksOption = False,
    wide: WideOption = False,
    force: ForceOption = False,
) -> None:
    """Measure bits and quality through real files, beside other codecs and published curves.

    s2c-deploy eval kodak/ --reference vtm-9.1,bpg-444 --html report.html

    s2c-deploy eval photos/ --bundle engines/conv-small --bundle engines/hybrid-small -q 1,3,5,8 --against jpeg,webp
    """
    outputs = reports_of({"json": json_file, "csv": csv_file, "plot": plot_file, "html": html_file})
    check_reports(outputs, force=force)
    check_background(background)
    levels = parse_qualities(quality or ["1..8"])
    check_levels(levels)
    efforts = parse_efforts(effort)
    pictures = pictures_of(images, follow_links)
    inputs = [*pictures, *([] if reference_file is None else [reference_file])]
    check_reports(outputs, force=force, inputs=inputs)
    bundles = tuple(looked_at(path, "bundle") for path in bundle or [bundle_to_write_with(None)])
    check_reports(outputs, force=force, inputs=bundles)
    from s2c_deploy.evaluation import Request
    from s2c_deploy.evaluation.plot import write_plot
    from s2c_deploy.evaluation.report import write_csv, write_html, write_json
    from s2c_deploy.report.figure import PLOT_SUFFIXES, require_plotting
    from s2c_deploy.runtime import choose_backend

    choose_backend(backend)
    if plot_file is not None and plot_file.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"cannot plot to {plot_file}", hint=f"name a file ending in {' or '.join(PLOT_SUFFIXES)}")
    if plot_file is not None or html_file is not None:
        require_plotting()
    evaluation = _measure(
        Request(
            images=images,
            bundles=bundles,
            qualities=levels,
            efforts=efforts,
            syntheses=parse_names(synthesis),
            against=parse_names(against),
            references=parse_names(reference),
            reference_file=reference_file,
            dataset=dataset,
            backend=backend,
            threads=threads,
            background=background,
            skip_unreadable=skip_unreadable,
            follow_links=follow_links,
            ssimulacra2=ssimulacra2,
        )
    )
    _show(evaluation, wide)
    writers = ((json_file, write_json), (csv_file, write_csv), (plot_file, write_plot), (html_file, write_html))
    write_reports([(path, partial(write, evaluation)) for path, write in writers if path is not None])
    if evaluation.unequal:
        first = evaluation.unequal[0]
        raise EngineError(
            f"{len(evaluation.unequal)} decoded pictures differ from the encoder's reconstruction, the first: "
            f"{first.image} at quality {first.setting:g} with {first.method}",
            hint="this engine is not deterministic: try another --backend, and report its version",
        )


def _measure(request: Request) -> Evaluation:
    from s2c_deploy.evaluation import evaluate_folder

    with progress_bar("reading") as advance:
        return evaluate_folder(request, advance)


def _show(evaluation: Evaluation, wide: bool) -> None:
    from s2c_deploy.evaluation import tables

    bundles = tables.curves_of(evaluation, ("bundle",))
    shown = [tables.points_table(curve) for curve in bundles]
    shown += [tables.bd_rate_table(evaluation, curve.name, wide=wide) for curve in bundles]
    if wide:
        shown += [tables.size_table(evaluation, curve.name) for curve in bundles]
    shown.append(tables.methods_table(evaluation))
    show_tables(shown)
    show_notes(tables.notes(evaluation))

"""``eval``: rate and distortion of bundles on a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2c_deploy.cli.building import comma_list
from s2c_deploy.cli.bundles import bundle_to_write_with
from s2c_deploy.cli.coding import BackendOption, ForceOption, ThreadsOption
from s2c_deploy.errors import EngineError, InputError

if TYPE_CHECKING:
    from s2c_deploy.evaluation import Evaluation, Request
    from s2c_deploy.evaluation.tables import Table

CODECS = "jpeg,webp,avif,jpeg2000,jpegxl"


def evaluate(
    images: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle folder; several are compared. [default: as compress]")
    ] = None,
    quality: Annotated[
        list[str] | None, typer.Option("--quality", "-q", help="As 1..8 or 1,3,5.5; may be repeated. [default: 1..8]")
    ] = None,
    against: Annotated[str, typer.Option(help="Conventional codecs, with commas between, or none.")] = CODECS,
    reference: Annotated[str, typer.Option(help="Published curves, as vtm-9.1,bpg-444.")] = "",
    reference_file: Annotated[
        Path | None, typer.Option(help="JSON of published curves. [default: the shipped ones]")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What the pictures are, for --reference. [default: kodak if named kodim01 … 24]")
    ] = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = 0,
    background: Annotated[
        str | None, typer.Option(help="Colour that shows through transparent pixels; without it they are refused.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out pictures that cannot be read, and say so.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a line per picture and setting.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Draw the curves: .png or .svg.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write one page with plot and tables.")] = None,
    force: ForceOption = False,
) -> None:
    """Measure bits and quality through real files, beside other codecs and published curves.

    s2c-deploy eval kodak/ --reference vtm-9.1,bpg-444 --html report.html

    s2c-deploy eval photos/ --bundle engines/conv-small --bundle engines/hybrid-tiny -q 1,3,5,8 --against jpeg,webp
    """
    outputs = [path for path in (json_file, csv_file, plot_file, html_file) if path is not None]
    check_outputs(outputs, force)
    from s2c_deploy.evaluation import Request
    from s2c_deploy.evaluation.plot import PLOT_SUFFIXES, require_plotting, write_plot
    from s2c_deploy.evaluation.report import write_csv, write_html, write_json

    if plot_file is not None and plot_file.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"cannot plot to {plot_file}", hint=f"name a file ending in {' or '.join(PLOT_SUFFIXES)}")
    if plot_file is not None or html_file is not None:
        require_plotting()
    evaluation = _measure(
        Request(
            images=images,
            bundles=tuple(bundle or [bundle_to_write_with(None)]),
            qualities=parse_qualities(quality or ["1..8"]),
            against=parse_names(against),
            references=parse_names(reference),
            reference_file=reference_file,
            dataset=dataset,
            backend=backend,
            threads=threads,
            background=background,
            skip_unreadable=skip_unreadable,
        )
    )
    writers = ((json_file, write_json), (csv_file, write_csv), (plot_file, write_plot), (html_file, write_html))
    for path, write in writers:
        if path is not None:
            write(evaluation, path)
    _show(evaluation, outputs)
    if evaluation.unequal:
        first = evaluation.unequal[0]
        raise EngineError(
            f"{len(evaluation.unequal)} decoded pictures differ from the encoder's reconstruction, the first: "
            f"{first.image} at quality {first.setting:g} with {first.method}",
            hint="this engine is not deterministic: try another --backend, and report its version",
        )


def check_outputs(outputs: list[Path], force: bool) -> None:
    """Everything that would only fail after the measuring."""
    for path in outputs:
        if path.is_dir():
            raise InputError(f"{path} is a folder", hint="name a file to write")
        if not path.parent.is_dir():
            raise InputError(f"cannot write {path}: no folder {path.parent}", hint="create it first")
        if path.exists() and not force:
            raise InputError(f"{path} exists", hint="overwrite it with --force, or name another file")
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise InputError("two outputs into one file", hint="name a file for each")


def parse_names(text: str) -> tuple[str, ...]:
    names = tuple(comma_list(text))
    return () if names == ("none",) else names


def parse_qualities(texts: list[str]) -> tuple[float, ...]:
    """1..8 counts in whole steps; numbers may have commas between."""
    found: list[float] = []
    for part in (part for text in texts for part in text.split(",")):
        first, dots, last = part.partition("..")
        try:
            found += range(int(first), int(last) + 1) if dots else [float(part)]
        except ValueError:
            raise InputError(f"--quality: expected 1..8 or numbers with commas between, found {part!r}") from None
    return tuple(found)


def _measure(request: Request) -> Evaluation:
    from rich.console import Console
    from rich.progress import Progress

    from s2c_deploy.evaluation import evaluate_folder

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)

        def advance(done: int, total: int, image: str) -> None:
            bar.update(task, description=f"measuring {image}", completed=done, total=total)

        return evaluate_folder(request, advance)


def _show(evaluation: Evaluation, outputs: list[Path]) -> None:
    from s2c_deploy.evaluation import tables

    bundles = tables.curves_of(evaluation, ("bundle",))
    shown = [tables.points_table(curve) for curve in bundles]
    shown += [tables.bd_rate_table(evaluation, curve.name) for curve in bundles]
    shown += [tables.size_table(evaluation, curve.name) for curve in bundles]
    shown.append(tables.methods_table(evaluation))
    show_tables(shown)
    for line in [*tables.notes(evaluation), *(f"written: {path}" for path in outputs)]:
        typer.echo(line)


def show_tables(shown: Sequence[Table]) -> None:
    """Prints tables that have rows; cells of the first column, and of a table of words, stand left."""
    from rich.console import Console
    from rich.table import Table as Drawing

    console = Console(markup=False, emoji=False, highlight=False)
    for table in shown:
        if not table.rows:
            continue
        drawn = Drawing(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            words = number == 0 or table.columns[0] == "name"
            drawn.add_column(column, justify="left" if words else "right", overflow="fold")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)

"""An evaluation as files: JSON with everything, CSV a line per measurement, one HTML page that needs nothing else."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from s2c_deploy.evaluation.evaluate import Evaluation
from s2c_deploy.evaluation.plot import svg
from s2c_deploy.evaluation.tables import (
    bd_rate_table,
    curves_of,
    methods_table,
    notes,
    points_table,
    size_table,
)
from s2c_deploy.files import write_text
from s2c_deploy.report.page import html_page, html_table
from s2c_deploy.report.table import Table

CSV_COLUMNS = (
    *("image", "method", "setting", "width", "height", "bytes", "bpp", "psnr", "ms_ssim"),
    *("encode_seconds", "decode_seconds", "ideal_bpp", "equal"),
)


def as_record(evaluation: Evaluation) -> dict[str, Any]:
    """Everything as JSON's types; an infinite PSNR (equal pictures) is null."""
    record = asdict(evaluation)
    record["unequal_reconstructions"] = len(evaluation.unequal)
    record["rows"] = [_row(evaluation, number) for number in range(len(evaluation.rows))]
    plain: dict[str, Any] = _finite(record)
    return plain


def _row(evaluation: Evaluation, number: int) -> dict[str, Any]:
    row = evaluation.rows[number]
    values = asdict(row) | {"bytes": row.size, "bpp": row.bpp}
    return {column: values[column] for column in CSV_COLUMNS}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(evaluation: Evaluation, path: Path) -> None:
    """``as_record`` to a file."""
    write_text(path, json.dumps(as_record(evaluation), indent=1, allow_nan=False) + "\n")


def write_csv(evaluation: Evaluation, path: Path) -> None:
    """A line per measurement; empty cells where there is no figure, ``inf`` for the PSNR of equal pictures."""
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, CSV_COLUMNS)
    writer.writeheader()
    writer.writerows(_row(evaluation, number) for number in range(len(evaluation.rows)))
    write_text(path, lines.getvalue())


def write_html(evaluation: Evaluation, path: Path) -> None:
    """One page: notes, plot, tables, environment.  Nothing is loaded from elsewhere.  DependencyError without
    matplotlib, which draws the plot."""
    write_text(path, _page(evaluation))


def _page(evaluation: Evaluation) -> str:
    e = evaluation
    bundles = curves_of(e, ("bundle",))
    names = ", ".join(curve.name for curve in bundles)
    alarm = f'<p class="alarm">{len(e.unequal)} decoded pictures are wrong.</p>' if e.unequal else ""
    environment = Table(title="environment", columns=("what", "which"), rows=tuple(e.environment.items()))
    parts = [
        f"<h1>Rate and distortion: {escape(names)}</h1>",
        alarm,
        *(f"<p>{escape(note)}</p>" for note in notes(e)),
        svg(e),
        *(html_table(bd_rate_table(e, curve.name)) for curve in bundles),
        "<p>BD-rate: mean difference of bits at equal quality over the interval that both curves cover; negative is "
        "better. Times are single calls on this machine, file included: an impression, not a benchmark.</p>",
        *(html_table(size_table(e, curve.name)) for curve in bundles),
        *(html_table(points_table(curve)) for curve in curves_of(e, ("bundle", "codec", "reference"))),
        html_table(methods_table(e), text=True),
        html_table(environment, text=True),
    ]
    return html_page(f"Rate and distortion: {names}", parts)

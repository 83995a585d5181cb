"""An evaluation as files: JSON with everything, CSV a line per measurement, one HTML page that needs nothing else."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from s2c_deploy.evaluation.evaluate import Evaluation
from s2c_deploy.evaluation.measure import Measurement
from s2c_deploy.evaluation.plot import figures
from s2c_deploy.evaluation.tables import (
    NAMES,
    bd_cells,
    bd_rate_table,
    curves_of,
    methods_table,
    notes,
    points_table,
    size_table,
)
from s2c_deploy.files import write_text
from s2c_deploy.report.page import (
    Finding,
    Section,
    html_details,
    html_findings,
    html_notes,
    html_page,
    html_record,
    html_table,
)
from s2c_deploy.report.table import Table

CSV_COLUMNS = (
    *("image", "method", "setting", "width", "height", "bytes", "bpp", "psnr", "ms_ssim"),
    *("encode_seconds", "decode_seconds", "ideal_bpp", "equal", "ssimulacra2"),
)

_BD_RATE = (
    "BD-rate: mean difference of bits at equal quality over the interval that both curves cover; negative is better."
)
_TIMES = "Times are single calls on this machine, file included: an impression, not a benchmark."


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


def read_rows(record: Mapping[str, Any], method: str) -> list[Measurement]:
    """The measurements of a method from what ``as_record`` made of them; their PSNRs must be finite."""
    rows = [row for row in record["rows"] if row["method"] == method]
    fields = {field.name: "bytes" if field.name == "size" else field.name for field in dataclasses.fields(Measurement)}
    return [Measurement(**{name: row.get(column) for name, column in fields.items()}) for row in rows]


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
    """One page: BD-rates, plots, tables, environment.  Nothing is loaded from elsewhere.  DependencyError without
    matplotlib, which draws the plots."""
    write_text(path, _page(evaluation))


def _page(evaluation: Evaluation) -> str:
    e = evaluation
    bundles = curves_of(e, ("bundle",))
    others = curves_of(e, ("codec", "reference"))
    rates = (html_table(bd_rate_table(e, curve.name)) for curve in bundles)
    sizes = [html_table(table) for curve in bundles if len((table := size_table(e, curve.name)).columns) > 1]
    points = [html_table(points_table(curve)) for curve in bundles]
    points += [_folded(points_table(curve)) for curve in others]
    sections = [
        Section(title="Rate and distortion", parts=(html_notes(notes(e)), *figures(e))),
        Section(title="BD-rates", parts=(f"<p>{_BD_RATE}</p>", *rates)),
        *([Section(title="Bits at the same PSNR", parts=tuple(sizes))] if sizes else []),
        Section(title="Points", parts=(f"<p>{_TIMES}</p>", *points)),
        Section(title="What the names stand for", parts=(html_table(methods_table(e), title=False, text=True),)),
        Section(title="Environment", parts=(html_record(e.environment),)),
    ]
    alarm = f'<p class="alarm">{len(e.unequal)} decoded pictures are wrong.</p>' if e.unequal else ""
    names = ", ".join(curve.name for curve in bundles)
    lead = [alarm, *(_headline(e, curve.name) for curve in bundles)]
    return html_page(f"Rate and distortion: {names}", lead=lead, sections=sections)


def _headline(evaluation: Evaluation, test: str) -> str:
    """BD-rates of a bundle against each other method, by PSNR."""
    mine = [comparison for comparison in evaluation.comparisons if comparison.test == test]
    findings = []
    for c in mine:
        if c.metric == "psnr":
            rate, _, detail = bd_cells(c)
            if c.pchip is not None:
                others = [other for other in mine if other.anchor == c.anchor and other.metric != "psnr"]
                detail += "".join(f"; by {NAMES[other.metric]} {bd_cells(other)[0]}" for other in others)
            findings.append(Finding(value=rate, what=f"against {c.anchor}", detail=detail))
    said = "bits at equal PSNR (BD-rate, negative is better)" if findings else "compared with nothing"
    return html_findings(f"{test}: {said}", findings)


def _folded(table: Table) -> str:
    return html_details(f"{table.title}: {len(table.rows)} points", html_table(table, title=False))

"""An evaluation as tables of text, for a terminal, a page and a model card alike."""

from __future__ import annotations

from collections.abc import Sequence

from s2c_deploy.evaluation.curves import Comparison, Curve, Metric, Point, size_ratios
from s2c_deploy.evaluation.evaluate import Evaluation
from s2c_deploy.evaluation.reference import DATASETS
from s2c_deploy.report.table import Table, percent

NAMES: dict[Metric, str] = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA2"}


def points_table(curve: Curve) -> Table:
    """Bits, quality and time at every setting of one method; nothing that nobody measured."""
    columns = ["setting", "bpp", "PSNR dB", "MS-SSIM"]
    timed = any(point.encode_seconds is not None for point in curve.points)
    ideal = any(point.ideal_bpp is not None for point in curve.points)
    seen = any(point.ssimulacra2 is not None for point in curve.points)
    columns += [NAMES["ssimulacra2"]] * seen + ["size over ideal"] * ideal + ["encode s", "decode s"] * timed
    rows = []
    for p in curve.points:
        row = ["" if p.setting is None else f"{p.setting:g}", f"{p.bpp:.4f}", f"{p.psnr:.2f}", _optional(p.ms_ssim, 4)]
        row += [_optional(p.ssimulacra2, 2)] * seen + [over_ideal(p)] * ideal
        row += [_optional(p.encode_seconds, 3), _optional(p.decode_seconds, 3)] * timed
        rows.append(tuple(row))
    return Table(title=curve.name, columns=tuple(columns), rows=tuple(rows))


def over_ideal(point: Point) -> str:
    """The file's size over the ideal code length of its symbols, as +0.12 %; empty where nobody knows it."""
    return percent(point.bpp / point.ideal_bpp - 1, 2) if point.ideal_bpp else ""


def bd_rate_table(evaluation: Evaluation, test: str, *, wide: bool = True) -> Table:
    """BD-rates of one bundle against everything else, a row each; not wide: of the two interpolations, pchip's."""
    mine = [comparison for comparison in evaluation.comparisons if comparison.test == test]
    metrics: list[Metric] = ["ms_ssim"]
    if any(c.metric == "ssimulacra2" for c in mine):
        metrics.append("ssimulacra2")
    by_metric = {(c.anchor, c.metric): bd_cells(c)[0] for c in mine}
    rows = []
    for c in mine:
        if c.metric != "psnr":
            continue
        pchip, cubic, interval = bd_cells(c)
        others = [by_metric.get((c.anchor, metric), "") for metric in metrics]
        rows.append((c.anchor, pchip, cubic, interval, *others) if wide else (c.anchor, pchip, *others, interval))
    names = [NAMES[metric] for metric in metrics]
    all_columns = ("against", "PSNR, pchip", "PSNR, cubic", "PSNR from, to", *(f"{name}, pchip" for name in names))
    columns = all_columns if wide else ("against", "PSNR", *names, "PSNR from, to")
    return Table(title=f"BD-rate of {test}: bits at equal quality", columns=columns, rows=tuple(rows))


def bd_cells(comparison: Comparison) -> tuple[str, str, str]:
    """pchip, cubic and the interval of quality; or none, and why."""
    c = comparison
    if c.pchip is None or c.cubic is None:
        return ("none", "none", c.reason or "")
    return (percent(c.pchip / 100, 1), percent(c.cubic / 100, 1), f"{c.low:.2f} to {c.high:.2f} dB")


def size_table(evaluation: Evaluation, test: str) -> Table:
    """Bits of one bundle at each setting against those of everything it has a BD-rate with, at the same PSNR.

    A mean may hide that one is worse at some rates.  Empty cells: outside the other's range of PSNR.
    """
    comparable = {c.anchor for c in evaluation.comparisons if c.test == test and c.pchip is not None}
    others = [curve for curve in evaluation.curves if curve.name in comparable]
    mine = next(curve for curve in evaluation.curves if curve.name == test)
    ratios = zip(*(size_ratios(mine, other) for other in others), strict=True)
    rows = [
        ("" if point.setting is None else f"{point.setting:g}", *("" if r is None else percent(r - 1, 1) for r in row))
        for point, row in zip(mine.points, ratios, strict=bool(others))
    ]
    columns = ("setting", *(other.name for other in others))
    return Table(title=f"{test}: bits at the same PSNR", columns=columns, rows=tuple(rows))


def methods_table(evaluation: Evaluation) -> Table:
    """What each name stands for: settings, libraries, sources."""
    rows = [(c.name, c.description if c.missing is None else f"not measured: {c.missing}") for c in evaluation.curves]
    return Table(title="methods", columns=("name", "what it is"), rows=tuple(rows))


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader must know beside the figures."""
    e = evaluation
    streams = sum(row.equal is not None for row in e.rows)
    scores = " and MS-SSIM" if e.ssimulacra2_pictures is None else ", MS-SSIM and SSIMULACRA2"
    lines = [
        f"{named_pictures(e)}; bpp, PSNR (RGB){scores} are means over them, each weighing the same.",
        f"Decoded pictures that differ from the encoder's own reconstruction: {len(e.unequal)} of {streams}.",
    ]
    if e.ms_ssim_pictures < len(e.pictures):
        lines.append(
            f"MS-SSIM over {e.ms_ssim_pictures} pictures: the others have a side below 161 pixels, too small for it."
        )
    if e.ssimulacra2_pictures is not None and e.ssimulacra2_pictures < len(e.pictures):
        lines.append(f"SSIMULACRA2 over {e.ssimulacra2_pictures} pictures: the others have a side below 8 pixels.")
    if e.skipped:
        lines.append(f"Left out: {len(e.skipped)} ({'; '.join(skipped.reason for skipped in e.skipped)}).")
    return lines


def named_pictures(evaluation: Evaluation) -> str:
    """``24 pictures of the kodak set``, ``3 of the 24 pictures of the kodak set`` or ``3 pictures``."""
    found, dataset = len(evaluation.pictures), evaluation.dataset
    if dataset is None:
        return f"{found} pictures"
    part = f" of the {DATASETS[dataset]}" if DATASETS.get(dataset, found) != found else ""
    return f"{found}{part} pictures of the {dataset} set"


def _optional(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def curves_of(evaluation: Evaluation, kinds: Sequence[str]) -> list[Curve]:
    """The curves of these kinds that have points."""
    return [curve for curve in evaluation.curves if curve.kind in kinds and curve.points]

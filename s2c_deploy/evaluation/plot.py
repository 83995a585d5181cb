"""The curves as a picture: PSNR, MS-SSIM and SSIMULACRA2 over bpp, by way of matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.curves import Curve, Metric
from s2c_deploy.evaluation.evaluate import Evaluation
from s2c_deploy.evaluation.tables import curves_of, named_pictures
from s2c_deploy.files import write_bytes
from s2c_deploy.report.figure import COLORS, PLOT_SUFFIXES, rendered, svg_element
from s2c_deploy.report.page import html_figure

_LABELS: dict[Metric, str] = {
    "psnr": "PSNR (RGB), dB",
    "ms_ssim": "MS-SSIM, −10 log10(1 − MS-SSIM), dB",
    "ssimulacra2": "SSIMULACRA2",
}
#: Bundles are thick and solid, measured codecs thin and solid, published curves dashed.
_STYLES: dict[str, dict[str, Any]] = {
    "bundle": {"linewidth": 2.4, "marker": "o", "markersize": 5, "zorder": 3},
    "codec": {"linewidth": 1.2, "marker": ".", "markersize": 4},
    "reference": {"linewidth": 1.2, "linestyle": "--"},
}


def write_plot(evaluation: Evaluation, path: Path) -> None:
    """Writes the curves to a .png or .svg file; InputError for another suffix, DependencyError without matplotlib."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise InputError(f"cannot plot to {path}", hint=f"name a file ending in {' or '.join(PLOT_SUFFIXES)}")
    write_bytes(path, _draw(evaluation, path.suffix.lower()[1:]))


def figures(evaluation: Evaluation) -> list[str]:
    """A ``<figure>`` for every metric, to stand inside a page."""
    curves = curves_of(evaluation, ("bundle", "codec", "reference"))
    names = ", ".join(curve.name for curve in curves)

    def figure(metric: Metric) -> str:
        def draw(sheet: Any) -> None:
            _panel(sheet.add_subplot(), curves, metric)
            sheet.legend(loc="outside lower center", ncols=3)

        over = f"{_LABELS[metric]}, over bits per pixel"
        drawn = svg_element(draw, label=f"{over}: {names}", width=7, height=4.8)
        return html_figure(drawn, f"{over}; means over {named_pictures(evaluation)}.")

    return [figure(metric) for metric in _metrics(curves)]


def _metrics(curves: list[Curve]) -> list[Metric]:
    """Those that a bundle has."""
    bundles = [curve for curve in curves if curve.kind == "bundle"]
    return [metric for metric in _LABELS if metric == "psnr" or any(curve.quality(metric) for curve in bundles)]


def _draw(evaluation: Evaluation, kind: str) -> bytes:
    curves = curves_of(evaluation, ("bundle", "codec", "reference"))
    metrics = _metrics(curves)

    def draw(figure: Any) -> None:
        for number, metric in enumerate(metrics):
            _panel(figure.add_subplot(1, len(metrics), number + 1), curves, metric)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2 * len(metrics))
        figure.suptitle(f"Rate and distortion, means over {named_pictures(evaluation)}")

    return rendered(draw, kind, width=6.2 * len(metrics), height=5.6)


def _panel(axes: Any, curves: list[Curve], metric: Metric) -> None:
    """One metric over bpp, cut to where the bundles are."""
    bundled: list[tuple[float, float]] = []
    pictures = next((curve.pictures for curve in curves if curve.kind == "bundle"), None)
    for color, curve in zip(COLORS * (len(curves) // len(COLORS) + 1), curves, strict=False):
        levels = curve.quality(metric)
        if levels is None:
            continue
        points = [(p.bpp, level) for p, level in zip(curve.points, levels, strict=True) if math.isfinite(level)]
        label = curve.name if curve.pictures in (None, pictures) else f"{curve.name}, of {curve.pictures} pictures"
        axes.plot([p[0] for p in points], [p[1] for p in points], color=color, label=label, **_STYLES[curve.kind])
        bundled += points if curve.kind == "bundle" else []
    if bundled:
        right = 1.25 * max(bpp for bpp, _ in bundled)
        axes.set_xlim(0, right)
        shown = [y for line in axes.lines for x, y in zip(*line.get_data(), strict=True) if x <= right]
        low, high = min(level for _, level in bundled), max(shown)
        margin = 0.15 * (high - low) + 0.05
        axes.set_ylim(low - margin, high + margin)
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel(_LABELS[metric])
    axes.grid(alpha=0.3)

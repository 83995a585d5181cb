"""A benchmark as plots, by way of matplotlib: latency by row, its stages, latency by size; SVG to stand in a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s2c_deploy.bench.result import Benchmark, Measured, RowResult
from s2c_deploy.bench.stages import STAGES
from s2c_deploy.bench.tables import ranked, stage_means
from s2c_deploy.report.figure import COLORS, logarithmic, svg_element

#: Characters of a row's label in a plot.
LONGEST = 40


def latency_svg(benchmark: Benchmark, case: Measured, operation: str) -> str:
    """Medians by row with every sample over them, on a logarithmic scale."""
    rows = ranked(benchmark, case, operation)[::-1]

    def draw(axes: Any) -> None:
        for place, row in enumerate(rows):
            series = row.of(case.name, operation)
            assert series is not None
            times = [1e3 * s for s in series.seconds]
            axes.plot(times, [place] * len(times), "|", color="black", markersize=9, alpha=0.4)
            axes.plot(1e3 * series.summary.p50, place, "o", color=COLORS[2], markersize=8)
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
        every = [1e3 * s for row in rows if (series := row.of(case.name, operation)) for s in series.seconds]
        logarithmic(axes.xaxis, min(every), max(every))
        axes.grid(axis="x", alpha=0.3)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(f"{operation}, ms")

    return _svg(draw, f"{operation} latency by row, {case.name}", height=0.8 + 0.34 * len(rows))


def stages_svg(benchmark: Benchmark, case: Measured, operation: str) -> str:
    """A bar per row, its stages behind one another, means."""
    rows = ranked(benchmark, case, operation)[::-1]

    def draw(axes: Any) -> None:
        left = [0.0] * len(rows)
        for color, stage in zip(COLORS[1:], STAGES[operation], strict=False):
            widths = []
            for row in rows:
                series = row.of(case.name, operation)
                assert series is not None
                widths.append(1e3 * stage_means(series).get(stage, 0.0))
            axes.barh(range(len(rows)), widths, left=left, height=0.6, color=color, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(rows)), [_short(row) for row in rows])
        axes.set_xlabel(f"{operation}, ms")
        axes.figure.legend(loc="outside lower center", ncols=4)

    return _svg(draw, f"{operation} stages by row, {case.name}", height=1.4 + 0.34 * len(rows))


def sizes_svg(benchmark: Benchmark, operation: str) -> str:
    """Median by megapixels, a line per row; empty where fewer than two sizes have times."""
    quality = benchmark.cases[0].quality
    cases = [case for case in benchmark.cases if case.quality == quality and ranked(benchmark, case, operation)]
    if len(cases) < 2:
        return ""

    def draw(axes: Any) -> None:
        rows = [row for row in benchmark.rows if row.series]
        shown: list[tuple[float, float]] = []
        for color, row in zip(COLORS * (1 + len(rows) // len(COLORS)), rows, strict=False):
            found = [(case, row.of(case.name, operation)) for case in cases]
            points = [(c.width * c.height / 1e6, 1e3 * s.summary.p50) for c, s in found if s]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=color, label=_short(row))
            shown += points
        for axis, values in zip((axes.xaxis, axes.yaxis), zip(*shown, strict=True), strict=True):
            logarithmic(axis, min(values), max(values))
        axes.set_xlabel("megapixels")
        axes.set_ylabel(f"{operation}, median ms")
        axes.grid(alpha=0.3)
        axes.figure.legend(loc="outside lower center", ncols=4)

    return _svg(draw, f"{operation} latency by size, quality {quality:g}", height=4.8)


def _short(row: RowResult) -> str:
    """A label that leaves room for the plot; the tables have it whole."""
    return row.label if len(row.label) <= LONGEST else f"{row.label[: LONGEST - 1]}…"


def _svg(draw: Callable[[Any], None], label: str, *, height: float) -> str:
    return svg_element(lambda figure: draw(figure.add_subplot()), label=label, width=7, height=height)

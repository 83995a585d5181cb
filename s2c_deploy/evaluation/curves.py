"""Mean rate-distortion curves, and what one says about another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.measure import Measurement
from s2c_deploy.metrics import bd_rate, rates_at

Kind = Literal["bundle", "codec", "reference"]
Metric = Literal["psnr", "ms_ssim", "ssimulacra2"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Means over pictures at one setting."""

    bpp: float
    #: In dB.
    psnr: float
    #: Over the pictures that are large enough for it.
    ms_ssim: float | None
    #: None for a published point.
    setting: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    #: The ideal code length.
    ideal_bpp: float | None = None
    #: Over the pictures that have it.
    ssimulacra2: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Rate and quality of one method over its settings."""

    name: str
    kind: Kind
    #: Settings and versions, or the source of a published curve.
    description: str
    points: tuple[Point, ...]
    #: How many its points are means of; None where that is not known.
    pictures: int | None
    #: How many of them MS-SSIM is the mean of.
    ms_ssim_pictures: int | None
    #: Why there are no points, or None.
    missing: str | None = None
    #: How many of them SSIMULACRA2 is the mean of.
    ssimulacra2_pictures: int | None = None

    def quality(self, metric: Metric) -> list[float] | None:
        """PSNR in dB, MS-SSIM as -10 log10(1 - MS-SSIM) dB, or SSIMULACRA2; None if a point lacks it."""
        if metric == "psnr":
            return [point.psnr for point in self.points]
        structural = metric == "ms_ssim"
        values = [point.ms_ssim if structural else point.ssimulacra2 for point in self.points]
        if not values or None in values:
            return None
        return [decibel(v) if structural else v for v in values if v is not None]

    def pictures_with(self, metric: Metric) -> int | None:
        """How many pictures the means of a metric are of; None where that is not known."""
        known = {"psnr": self.pictures, "ms_ssim": self.ms_ssim_pictures, "ssimulacra2": self.ssimulacra2_pictures}
        return known[metric]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """BD-rate of ``test`` against ``anchor`` in percent: negative means fewer bits at equal quality."""

    test: str
    anchor: str
    metric: Metric
    pchip: float | None = None
    cubic: float | None = None
    #: Where the interval of quality begins that both cover, as ``Curve.quality`` has it; the figures are means over it.
    low: float | None = None
    #: Where it ends.
    high: float | None = None
    #: Why there is no figure, where there is none.
    reason: str | None = None


def decibel(ms_ssim: float) -> float:
    """-10 log10(1 - MS-SSIM); infinite at 1."""
    return -10 * math.log10(1 - ms_ssim) if ms_ssim < 1 else math.inf


def mean_curve(
    name: str, kind: Kind, description: str, rows: Sequence[Measurement], *, missing: str | None = None
) -> Curve:
    """The means of a method's rows at each of its settings, every picture weighing the same whatever its size.

    bpp and dB are averaged, as published curves are; not bits over pixels, and not PSNR of the mean error.
    """
    points = [_mean_point(s, [row for row in rows if row.setting == s]) for s in {row.setting for row in rows}]
    return Curve(
        name=name,
        kind=kind,
        description=description,
        points=tuple(sorted(points, key=lambda point: point.bpp)),
        pictures=len({row.image for row in rows}),
        ms_ssim_pictures=len({row.image for row in rows if row.ms_ssim is not None}),
        missing=missing,
        ssimulacra2_pictures=len({row.image for row in rows if row.ssimulacra2 is not None}),
    )


def _mean_point(setting: float, rows: Sequence[Measurement]) -> Point:
    return Point(
        setting=setting,
        bpp=fmean(row.bpp for row in rows),
        psnr=fmean(row.psnr for row in rows),
        ms_ssim=_mean([row.ms_ssim for row in rows]),
        encode_seconds=fmean(row.encode_seconds for row in rows),
        decode_seconds=fmean(row.decode_seconds for row in rows),
        ideal_bpp=_mean([row.ideal_bpp for row in rows]),
        ssimulacra2=_mean([row.ssimulacra2 for row in rows]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def compare(anchor: Curve, test: Curve, metric: Metric) -> Comparison | None:
    """BD-rate of ``test`` against ``anchor``, or why there is none; None if either lacks the metric altogether."""

    def without(reason: str) -> Comparison:
        return Comparison(test=test.name, anchor=anchor.name, metric=metric, reason=reason)

    if anchor.missing is not None:
        return without(f"not measured: {anchor.missing}") if metric == "psnr" else None
    levels, other = test.quality(metric), anchor.quality(metric)
    if levels is None or other is None:
        return None
    mine, theirs = (c.pictures_with(metric) for c in (test, anchor))
    if theirs is not None and mine != theirs:
        return without(f"the mean of {theirs} pictures, against {mine} measured here")
    low, high = max(min(levels), min(other)), min(max(levels), max(other))
    if low >= high:
        unit = "" if metric == "ssimulacra2" else " dB"
        return without(f"no overlap: {_span(levels)}{unit} against {_span(other)}{unit}")
    rates, other_rates = [p.bpp for p in test.points], [p.bpp for p in anchor.points]
    try:
        pchip = bd_rate(other_rates, other, rates, levels)
        cubic = bd_rate(other_rates, other, rates, levels, "cubic")
    except InputError as error:
        return without(error.message)
    return Comparison(test=test.name, anchor=anchor.name, metric=metric, pchip=pchip, cubic=cubic, low=low, high=high)


def _span(levels: Sequence[float]) -> str:
    return f"{min(levels):.2f} to {max(levels):.2f}"


def size_ratios(test: Curve, anchor: Curve) -> list[float | None]:
    """bpp of each point of ``test`` over the anchor's at the same PSNR; None outside the anchor's range.

    Raises :class:`InputError` for an anchor that has no BD-rate: too few points, or more bits for less quality.
    """
    levels = [p.psnr for p in test.points]
    rates = rates_at([p.bpp for p in anchor.points], [p.psnr for p in anchor.points], levels)
    return [None if rate is None else p.bpp / rate for p, rate in zip(test.points, rates, strict=True)]

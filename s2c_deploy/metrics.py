"""Quality and rate figures, in numpy: PSNR, MS-SSIM, Bjøntegaard delta rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from s2c_deploy.errors import InputError

Array = np.ndarray[Any, Any]

_PEAK = 255.0
_WINDOW, _SIGMA = 11, 1.5
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
#: Smaller pictures have no MS-SSIM: the coarsest of five scales must hold one window.
MS_SSIM_MIN_SIDE = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1
_MIN_POINTS = 4


def _check_pair(a: Array, b: Array) -> None:
    for image in (a, b):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(
                f"a picture of shape {image.shape} and type {image.dtype}",
                hint="pass uint8 arrays of height x width x 3",
            )
    if a.shape != b.shape:
        raise InputError(f"pictures of different sizes: {a.shape} and {b.shape}", hint="compare pictures of one size")


def psnr(a: Array, b: Array) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two uint8 (height, width, 3) arrays; inf if equal.

    Raises :class:`InputError` for other arrays and for different sizes.
    """
    _check_pair(a, b)
    difference = a.astype(np.int32) - b
    total = int(np.square(difference, out=difference).sum(dtype=np.int64))
    return float(10 * np.log10(_PEAK**2 * a.size / total)) if total else float("inf")


def ms_ssim(a: Array, b: Array) -> float:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik 2003) of two uint8 (height, width, 3) arrays; 1 if equal.

    Gaussian window of 11 taps with sigma 1.5, no padding, five scales, the mean over R, G and B: the
    conventions of pytorch_msssim, computed in float64.  Negative contrast terms count as 0.  Raises
    :class:`InputError` for other arrays, different sizes, and a side below 161 pixels.
    """
    _check_pair(a, b)
    height, width = a.shape[:2]
    if min(height, width) < MS_SSIM_MIN_SIDE:
        raise InputError(
            f"{width}x{height} is too small for MS-SSIM",
            hint=f"five scales need {MS_SSIM_MIN_SIDE} pixels on each side",
        )
    planes = [_ms_ssim_plane(a[:, :, c].astype(np.float64), b[:, :, c].astype(np.float64)) for c in range(3)]
    return float(np.mean(planes))


def _ms_ssim_plane(x: Array, y: Array) -> float:
    value = 1.0
    for scale, weight in enumerate(_SCALE_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, contrast = _ssim_maps(x, y)
        term = contrast if scale < len(_SCALE_WEIGHTS) - 1 else luminance * contrast
        value *= max(float(term.mean()), 0.0) ** weight
    return value


def _ssim_maps(x: Array, y: Array) -> tuple[Array, Array]:
    """Luminance and contrast-structure maps of two float64 planes."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x * mean_x
    var_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x * mean_x + mean_y * mean_y + _C1)
    return luminance, (2 * covariance + _C2) / (var_x + var_y + _C2)


def _blur(x: Array) -> Array:
    """Separable Gaussian filter of a plane, without padding."""
    taps = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    taps /= taps.sum()
    out: Array = _filter_rows(_filter_rows(x, taps).T, taps).T
    return out


def _filter_rows(x: Array, taps: Array) -> Array:
    """Correlate along the first axis with symmetric taps of odd number, without padding."""
    size = len(x) - len(taps) + 1
    half = len(taps) // 2
    out: Array = taps[half] * x[half : half + size]
    pair = np.empty_like(out)
    for i in range(half):
        np.add(x[i : i + size], x[len(taps) - 1 - i :][:size], out=pair)
        pair *= taps[i]
        out += pair
    return out


def _halve(x: Array) -> Array:
    """2x2 means.  An odd side gets a line of zeros in front, counted in the mean, as in pytorch_msssim."""
    x = np.pad(x, ((x.shape[0] % 2, 0), (x.shape[1] % 2, 0)))
    out: Array = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
    return out


def bd_rate(
    anchor_bpp: Sequence[float] | Array,
    anchor_psnr: Sequence[float] | Array,
    test_bpp: Sequence[float] | Array,
    test_psnr: Sequence[float] | Array,
    method: Literal["pchip", "cubic"] = "pchip",
) -> float:
    """Bjøntegaard delta rate in percent: how many more (+) or fewer (-) bits the test needs at equal quality.

    The mean of the difference of log10(bpp) as a function of PSNR in dB (or another quality measure), over
    the PSNR interval that both curves cover; nothing is extrapolated.  Points may come in any order.

    ``cubic`` fits one polynomial of degree 3 by least squares, through the points where there are four: the
    original (G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", ITU-T SG16 Q.6,
    VCEG-M33, 2001).  ``pchip`` interpolates with a monotone piecewise cubic (F. N. Fritsch and R. E. Carlson,
    SIAM J. Numer. Anal. 17, 1980; tangents as in scipy's PchipInterpolator), as the sheets of JCT-VC's and
    JVET's common test conditions do (JCTVC-L1100, JVET-T2010): it cannot swing between points far apart.

    Raises :class:`InputError` for fewer than 4 points, curves that do not overlap, rates that are not
    positive, and a curve on which more bits do not always mean more quality.
    """
    if method not in ("pchip", "cubic"):
        raise InputError(f"unknown method {method!r}", hint="pass 'pchip' or 'cubic'")
    anchor = _curve("anchor", anchor_bpp, anchor_psnr)
    test = _curve("test", test_bpp, test_psnr)
    low, high = max(anchor[0][0], test[0][0]), min(anchor[0][-1], test[0][-1])
    if low >= high:
        raise InputError(
            f"the curves share no quality: {anchor[0][0]:.2f} to {anchor[0][-1]:.2f} against "
            f"{test[0][0]:.2f} to {test[0][-1]:.2f}",
            hint="measure both over a common range",
        )
    integral = _pchip_integral if method == "pchip" else _cubic_integral
    mean = (integral(*test, low, high) - integral(*anchor, low, high)) / (high - low)
    return float((10**mean - 1) * 100)


def rates_at(
    bpp: Sequence[float] | Array, psnr: Sequence[float] | Array, wanted: Sequence[float] | Array
) -> list[float | None]:
    """bpp of a curve at each wanted PSNR in dB (or another quality measure); None where the curve does not reach.

    Between its points it is the monotone piecewise cubic of log10(bpp) over which :func:`bd_rate` integrates.
    Raises :class:`InputError` as that does for a curve with too few points, or on which more bits are not more quality.
    """
    x, y = _curve("given", bpp, psnr)
    tangent, c2, c3 = _pchip(x, y)
    found: list[float | None] = []
    for level in wanted:
        i = min(int(np.searchsorted(x, level, side="right")) - 1, len(x) - 2)
        t = level - x[i]
        inside = x[0] <= level <= x[-1]
        found.append(float(10 ** (y[i] + t * (tangent[i] + t * (c2[i] + t * c3[i])))) if inside else None)
    return found


def _curve(name: str, bpp: Sequence[float] | Array, quality: Sequence[float] | Array) -> tuple[Array, Array]:
    """Quality and log10 of the rate, both rising."""
    rate, level = np.asarray(bpp, np.float64), np.asarray(quality, np.float64)
    if rate.ndim != 1 or rate.shape != level.shape:
        raise InputError(f"the {name} curve has {rate.shape} rates and {level.shape} qualities", hint="pair them")
    if len(rate) < _MIN_POINTS:
        raise InputError(f"the {name} curve has {len(rate)} points", hint=f"at least {_MIN_POINTS} are needed")
    if not (np.isfinite(rate).all() and np.isfinite(level).all() and (rate > 0).all()):
        raise InputError(f"the {name} curve has a rate or a quality that is no number, or a rate of 0 or less")
    order = np.argsort(rate, kind="stable")
    rate, level = rate[order], level[order]
    steps = (np.diff(rate) <= 0) | (np.diff(level) <= 0)
    if steps.any():
        i = int(np.argmax(steps))
        raise InputError(
            f"the {name} curve does not rise: {rate[i]:.6g} bpp at {level[i]:.6g} is followed by "
            f"{rate[i + 1]:.6g} bpp at {level[i + 1]:.6g}",
            hint="leave out the points that are no better than a cheaper one",
        )
    return level, np.log10(rate)


def _cubic_integral(x: Array, y: Array, low: float, high: float) -> float:
    antiderivative = np.polynomial.Polynomial.fit(x, y, 3).integ()
    return float(antiderivative(high) - antiderivative(low))


def _pchip_integral(x: Array, y: Array, low: float, high: float) -> float:
    """Integral from ``low`` to ``high``, both inside ``x``, of the monotone cubic through the points."""
    tangent, c2, c3 = _pchip(x, y)

    def antiderivative(t: Array) -> Array:
        out: Array = t * (y[:-1] + t * (tangent / 2 + t * (c2 / 3 + t * c3 / 4)))
        return out

    begin, end = (np.clip(bound - x[:-1], 0, np.diff(x)) for bound in (low, high))
    return float((antiderivative(end) - antiderivative(begin)).sum())


def _pchip(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Of the cubic y + t (tangent + t (c2 + t c3)) behind every point but the last: tangent, c2, c3."""
    step = np.diff(x)
    slope = np.diff(y) / step
    tangent = _pchip_tangents(step, slope)
    c2 = (3 * slope - 2 * tangent[:-1] - tangent[1:]) / step
    c3 = (tangent[:-1] + tangent[1:] - 2 * slope) / step**2
    return tangent[:-1], c2, c3


def _pchip_tangents(step: Array, slope: Array) -> Array:
    """Fritsch and Carlson's: weighted harmonic means inside, one-sided three-point formulas at the ends."""
    tangent = np.zeros(len(slope) + 1)
    same = slope[:-1] * slope[1:] > 0
    w1, w2 = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    inner = tangent[1:-1]
    inner[same] = ((w1 + w2)[same]) / (w1[same] / slope[:-1][same] + w2[same] / slope[1:][same])
    tangent[0] = _pchip_end(step[0], step[1], slope[0], slope[1])
    tangent[-1] = _pchip_end(step[-1], step[-2], slope[-1], slope[-2])
    return tangent


def _pchip_end(step0: float, step1: float, slope0: float, slope1: float) -> float:
    tangent = ((2 * step0 + step1) * slope0 - step0 * slope1) / (step0 + step1)
    if np.sign(tangent) != np.sign(slope0):
        return 0.0
    if np.sign(slope0) != np.sign(slope1) and abs(tangent) > 3 * abs(slope0):
        return 3 * slope0
    return tangent

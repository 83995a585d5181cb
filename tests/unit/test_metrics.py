"""PSNR, MS-SSIM and BD-rate against closed forms and the figures of the packages that the field uses."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest

from s2c_deploy import metrics
from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.reference import read_references, shipped_references
from s2c_deploy.metrics import bd_rate, ms_ssim, psnr

Array = np.ndarray[Any, Any]
Method = Literal["pchip", "cubic"]
METHODS: tuple[Method, ...] = ("pchip", "cubic")

# Kodak, bpp and RGB PSNR in dB, from InterDigitalInc/CompressAI, results/image/kodak (BSD-3-Clause-Clear)
VTM = (  # vtm.json, VTM-9.1
    [0.048245, 0.112495, 0.245817, 0.490545, 0.87481, 1.43085, 2.324607, 3.632609],
    [26.1448, 28.493, 31.1999, 34.2615, 37.4198, 40.4244, 43.5058, 46.5918],
)
ELIC = (  # paper-elic2022_mse.json
    [0.1235, 0.1965, 0.3337, 0.4908, 0.7041, 0.8573],
    [29.113, 30.698, 32.784, 34.577, 36.488, 37.624],
)


def flat(value: int, height: int = 10, width: int = 10) -> Array:
    return np.full((height, width, 3), value, np.uint8)


def picture(height: int, width: int, noise: int) -> Array:
    """Slopes and integer noise: the same on every machine."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    slopes = abs((3 * x + 2 * y + 50 * c) % 400 - 200)
    scatter = (x * 73856093 ^ y * 19349663 ^ c * 83492791) % 1009 * noise // 1009
    out: Array = np.clip(slopes + scatter - noise // 2, 0, 255).astype(np.uint8)
    return out


# --- PSNR


def test_psnr_of_equal_pictures() -> None:
    assert psnr(flat(7), flat(7)) == math.inf


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(0, 255, 0.0), (255, 0, 0.0), (100, 101, 48.130803608679), (0, 16, 24.048403955)]
)
def test_psnr_of_flat_pictures(a: int, b: int, expected: float) -> None:
    assert psnr(flat(a), flat(b)) == pytest.approx(expected, abs=1e-9)  # 20 log10(255 / |a - b|)


def test_psnr_of_one_wrong_sample() -> None:
    a, b = flat(0), flat(0)
    b[3, 4, 1] = 255
    assert psnr(a, b) == pytest.approx(10 * math.log10(300))


def test_psnr_does_not_overflow() -> None:
    # 65025 * 3 * 2^20 is beyond 32 bits
    assert psnr(flat(0, 1024, 1024), flat(255, 1024, 1024)) == 0


# --- MS-SSIM


def test_ms_ssim_of_equal_pictures() -> None:
    assert ms_ssim(picture(176, 180, 30), picture(176, 180, 30)) == 1.0


def test_ms_ssim_of_flat_pictures() -> None:
    # no contrast, so only the luminance of the coarsest scale counts; 176 halves evenly four times
    c1 = (0.01 * 255) ** 2
    expected = ((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)) ** 0.1333
    assert ms_ssim(flat(100, 176, 176), flat(150, 176, 176)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "noise", "more_noise", "expected"),
    [
        # pytorch_msssim 1.0.0, on float64 tensors, with its own window made in float64 (torch 2.13.0)
        (161, 161, 20, 90, 0.8950055844314854),
        (176, 203, 0, 40, 0.9332853371622617),
        (203, 176, 0, 10, 0.9946594266207355),
        (161, 400, 0, 255, 0.46828888083099746),
    ],
)
def test_ms_ssim_as_pytorch_msssim(height: int, width: int, noise: int, more_noise: int, expected: float) -> None:
    a, b = picture(height, width, noise), picture(height, width, more_noise)
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-12)
    assert ms_ssim(b, a) == pytest.approx(expected, abs=1e-12)


def test_ms_ssim_of_a_negative_is_zero() -> None:
    a = picture(176, 176, 20)
    assert ms_ssim(a, 255 - a) == 0.0


@pytest.mark.parametrize("shape", [(160, 400), (400, 160)])
def test_ms_ssim_refuses_small_pictures(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="161 pixels"):
        ms_ssim(flat(0, *shape), flat(0, *shape))


@pytest.mark.parametrize("function", [psnr, ms_ssim])
@pytest.mark.parametrize(
    "bad",
    [
        flat(0, 200, 200).astype(np.float32),
        flat(0, 200, 200)[:, :, 0],
        flat(0, 200, 200)[:, :, :2],
        flat(0, 0, 200),
        flat(0, 200, 201),
    ],
    ids=["float", "grey", "two channels", "empty", "other size"],
)
def test_pictures_refused(function: Any, bad: Array) -> None:
    good = flat(0, 200, 200)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError):
            function(*pair)


# --- BD-rate


@pytest.mark.parametrize("method", METHODS)
def test_bd_rate_of_a_constant_saving(method: Method) -> None:
    rates, levels = VTM
    assert bd_rate(rates, levels, rates, levels, method) == pytest.approx(0, abs=1e-9)
    assert bd_rate(rates, levels, [0.8 * r for r in rates], levels, method) == pytest.approx(-20, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_bd_rate_of_a_constant_gain(method: Method) -> None:
    # bpp = 10^(0.06 dB): one dB more at the same rate is a factor of 10^-0.06
    levels = np.array([28.0, 30.5, 31.0, 35.0, 40.0])
    rates = 10 ** (0.06 * levels - 2)
    expected = (10**-0.06 - 1) * 100
    assert bd_rate(rates, levels, rates, levels + 1, method) == pytest.approx(expected, abs=1e-9)


def test_bd_rate_cubic_of_cubics() -> None:
    # log10 rates p^3/27000 and p^2/900: the mean difference over 30..40 is known
    levels = np.array([30.0, 32.0, 34.0, 37.0, 40.0])
    mean = ((40**4 - 30**4) / (4 * 27000) - (40**3 - 30**3) / (3 * 900)) / 10
    got = bd_rate(10 ** (levels**2 / 900), levels, 10 ** (levels**3 / 27000), levels, "cubic")
    assert got == pytest.approx((10**mean - 1) * 100, rel=1e-9)


# bjontegaard 1.3.0 (on scipy 1.17.1): bd_rate(*anchor, *test, method, require_matching_points=False)
@pytest.mark.parametrize(("method", "expected"), [("pchip", -7.024177623787375), ("cubic", -7.165243665159293)])
def test_bd_rate_as_bjontegaard(method: Method, expected: float) -> None:
    assert bd_rate(*VTM, *ELIC, method) == pytest.approx(expected, abs=1e-8)
    shuffled = ([ELIC[0][i] for i in (3, 0, 5, 1, 4, 2)], [ELIC[1][i] for i in (3, 0, 5, 1, 4, 2)])
    assert bd_rate(*VTM, *shuffled, method) == pytest.approx(expected, abs=1e-8)
    # the other way round the factor is the inverse
    inverse = (100 / (1 + expected / 100)) - 100
    assert bd_rate(*ELIC, *VTM, method) == pytest.approx(inverse, abs=1e-8)


# Published pairs of curves: (rates, PSNR) of anchor and test, and the figure that was published with them
PUBLISHED: list[tuple[Method, Any, Any, float, float]] = [
    # JCTVC-E137, as in Netflix/vmaf, python/test/bd_rate_calculator_test.py (class BDrateCalculatorJCTVCTest)
    (
        "pchip",
        ([108048.8736, 61279.976, 33905.6656, 18883.6928], [43.6471, 40.3953, 37.247, 34.2911]),
        ([108061.2784, 61299.9936, 33928.7472, 18910.912], [43.6768, 40.4232, 37.2761, 34.3147]),
        -0.465215420752807,
        1e-9,
    ),
    (
        "pchip",
        ([40433.8848, 7622.7456, 2394.488, 1017.6184], [37.5761, 35.3756, 33.8977, 32.0603]),
        ([40370.12, 7587.0024, 2390.0944, 1017.0984], [37.5982, 35.4025, 33.9194, 32.0822]),
        -1.8779823450567612,
        1e-9,
    ),
    # VCEG-M33's own numbers, as in tbr/bjontegaard_cpp, example.cpp
    (
        "cubic",
        ([90.33, 181.03, 332.99, 547.79], [27.95, 31.17, 34.44, 38.11]),
        ([127.1719, 186.14, 307.2924, 481.5588], [29.9286, 32.4165, 34.7013, 37.4561]),
        -13.261773,
        1e-6,
    ),
    # nine points, so a fit by least squares: "ETRO barb512", ibidem
    (
        "cubic",
        (
            [2.99899, 1.99884, 1.49673, 0.99707, 0.745941, 0.596436, 0.495148, 0.29425, 0.244049],
            [48.6681, 43.8357, 41.3982, 38.0124, 35.5122, 33.8673, 32.6658, 29.4505, 28.484],
        ),
        (
            [2.997253, 1.968292, 1.472565, 0.994965, 0.748871, 0.58902, 0.499176, 0.296753, 0.249634],
            [48.5637, 43.7318, 41.2727, 38.0001, 35.6375, 33.9057, 32.8318, 29.6851, 28.8244],
        ),
        -0.903450,
        1e-6,
    ),
]


@pytest.mark.parametrize(
    ("method", "anchor", "test", "published", "digits"),
    PUBLISHED,
    ids=["JCTVC-E137 first", "JCTVC-E137 second", "VCEG-M33", "ETRO barb512"],
)
def test_bd_rate_as_published(method: Method, anchor: Any, test: Any, published: float, digits: float) -> None:
    assert bd_rate(*anchor, *test, method) == pytest.approx(published, abs=digits)


@pytest.mark.parametrize(
    ("dataset", "published"),
    [("kodak", -15.26), ("tecnick", -17.63)],  # Feng et al., CVPR 2025, abstract: LALIC against VTM-9.1
)
def test_bd_rate_of_the_reference_curves_as_published(dataset: str, published: float) -> None:
    curves = read_references(shipped_references())
    anchor, test = (curves[name, dataset].points for name in ("vtm-9.1", "lalic"))
    got = bd_rate([p.bpp for p in anchor], [p.psnr for p in anchor], [p.bpp for p in test], [p.psnr for p in test])
    assert got == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mlic++", "cmic", "hm", "jpeg2000", "webp", "bpg_444_x265_ycbcr"])
def test_bd_rate_as_its_peer(name: str, method: Method) -> None:
    peer = pytest.importorskip("bjontegaard")
    points = read_references(shipped_references())[name, "kodak"].points
    test = ([p.bpp for p in points], [p.psnr for p in points])
    expected = peer.bd_rate(*VTM, *test, method, require_matching_points=False, min_overlap=0)
    assert bd_rate(*VTM, *test, method) == pytest.approx(expected, abs=1e-7)


# scipy 1.17.1: PchipInterpolator(x, y).integrate(low, high), .derivative()(x)
@pytest.mark.parametrize(
    ("x", "y", "low", "high", "integral", "tangents"),
    [
        (
            [0, 1, 3, 4, 7],
            [0, 2, 3, 7, 8],
            *(0.5, 6.25, 27.86231018381788),
            [2.5, 0.8571428571428571, 0.972972972972973, 0.7164179104477612, 0],
        ),
        ([0, 1, 3, 4, 7], [0, 2, 1, 1, 5], *(0.5, 6.25, 9.008355034722221), [17 / 6, 0, 0, 0, 7 / 3]),
        (
            [0, 1, 3, 4],
            [0, 0.1, 10, 2],
            *(0.5, 3.5, 14.760268769328473),
            [0, 0.17713717693836983, 0, -12.316666666666666],
        ),
        ([0, 1, 2, 3], [0, 1, -20, -21], *(0.25, 2.5, -18.87313565340909), [3, 0, -21 / 11, 0]),
    ],
    ids=["rising", "turning", "ends", "steep end"],
)
def test_pchip_as_scipy(
    x: list[float], y: list[float], low: float, high: float, integral: float, tangents: list[float]
) -> None:
    xs, ys = np.array(x, float), np.array(y, float)
    assert metrics._pchip_integral(xs, ys, low, high) == pytest.approx(integral, abs=1e-12)
    got = metrics._pchip_tangents(np.diff(xs), np.diff(ys) / np.diff(xs))
    np.testing.assert_allclose(got, tangents, atol=1e-12)


# scipy 1.17.1: 10 ** PchipInterpolator(psnr, log10(bpp))(wanted)
def test_rates_at_a_psnr_as_scipy() -> None:
    wanted = [27.0, 30.0, 33.92, 41.5, 46.0]
    expected = [0.06694520657387121, 0.17781140356019606, 0.4574662690942078, 1.700127341095147, 3.344749075469633]
    assert metrics.rates_at(*VTM, wanted) == pytest.approx(expected, rel=1e-12)


def test_rates_at_the_points_are_the_points_and_outside_there_is_none() -> None:
    rates, levels = VTM
    assert metrics.rates_at(rates[::-1], levels[::-1], levels) == pytest.approx(rates)
    assert metrics.rates_at(*VTM, [levels[0] - 1e-6, levels[-1] + 1e-6]) == [None, None]
    with pytest.raises(InputError, match="has 3 points"):
        metrics.rates_at(rates[:3], levels[:3], levels)


@pytest.mark.parametrize("side", ["anchor", "test"])
@pytest.mark.parametrize(
    ("rates", "levels", "message"),
    [
        ([0.1, 0.2, 0.3], [30, 31, 32], "has 3 points"),
        ([0.1, 0.2, 0.3, 0.4], [30, 31, 32], "pair them"),
        ([[0.1, 0.2], [0.3, 0.4]], [[30, 31], [32, 33]], "pair them"),
        ([0.1, 0.2, 0.3, 0.4], [30, 32, 31, 33], "0.2 bpp at 32 is followed by 0.3 bpp at 31"),
        ([0.1, 0.2, 0.3, 0.4], [30, 31, 31, 33], "does not rise"),
        ([0.1, 0.2, 0.2, 0.4], [30, 31, 32, 33], "does not rise"),
        ([0.0, 0.2, 0.3, 0.4], [30, 31, 32, 33], "0 or less"),
        ([0.1, 0.2, 0.3, 0.4], [30, 31, 32, math.inf], "no number"),
        ([0.1, 0.2, math.nan, 0.4], [30, 31, 32, 33], "no number"),
        ([0.1, 0.2, 0.3, 0.4], [10, 11, 12, 26.1448], "share no quality"),
        ([0.1, 0.2, 0.3, 0.4], [46.5918, 47, 48, 49], "share no quality"),
    ],
)
def test_curves_refused(side: str, rates: Any, levels: Any, message: str) -> None:
    curves = (rates, levels, *VTM) if side == "anchor" else (*VTM, rates, levels)
    with pytest.raises(InputError, match=message) as caught:
        bd_rate(*curves)
    assert side in str(caught.value) or "share" in message


def test_unknown_method() -> None:
    with pytest.raises(InputError, match="pchip"):
        bd_rate(*VTM, *ELIC, "akima")  # type: ignore[arg-type]

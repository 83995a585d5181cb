"""What files say about their colours in other ways than by an ICC profile, said by an ICC profile.

sRGB needs none.  Transfers of ITU-T H.273 that are made for video (BT.709, BT.601, BT.2020) count as sRGB's, as
browsers take them; a gamma of 2.2 with sRGB's primaries counts as sRGB, as PNG's specification does.
"""

from __future__ import annotations

from collections.abc import Mapping

from s2c_deploy.errors import InputError
from s2c_deploy.pictures.icc import (
    SRGB,
    SRGB_CURVE,
    Chromaticities,
    Curve,
    ParametricCurve,
    is_srgb_curve,
    rgb_profile,
)

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
_NTSC = {"red": (0.67, 0.33), "green": (0.21, 0.71), "blue": (0.14, 0.08)}
_PAL = {"red": (0.64, 0.33), "green": (0.29, 0.60), "blue": (0.15, 0.06)}
_SMPTE_C = {"red": (0.630, 0.340), "green": (0.310, 0.595), "blue": (0.155, 0.070)}
_FILM = {"red": (0.681, 0.319), "green": (0.243, 0.692), "blue": (0.145, 0.049)}
_BT2020 = {"red": (0.708, 0.292), "green": (0.170, 0.797), "blue": (0.131, 0.046)}
_P3 = {"red": (0.680, 0.320), "green": (0.265, 0.690), "blue": (0.150, 0.060)}
_EBU = {"red": (0.630, 0.340), "green": (0.295, 0.605), "blue": (0.155, 0.077)}
_ADOBE = {"red": (0.64, 0.33), "green": (0.21, 0.71), "blue": (0.15, 0.06)}
_UNSPECIFIED = 2
# H.273, table 2
_PRIMARIES: dict[int, tuple[str, Chromaticities]] = {
    1: ("BT.709", SRGB),
    _UNSPECIFIED: ("unspecified", SRGB),
    4: ("BT.470 M", Chromaticities(white=_C, **_NTSC)),
    5: ("BT.470 BG", Chromaticities(white=_D65, **_PAL)),
    6: ("BT.601", Chromaticities(white=_D65, **_SMPTE_C)),
    7: ("SMPTE 240M", Chromaticities(white=_D65, **_SMPTE_C)),
    8: ("film", Chromaticities(white=_C, **_FILM)),
    9: ("BT.2020", Chromaticities(white=_D65, **_BT2020)),
    11: ("DCI P3", Chromaticities(white=_DCI, **_P3)),
    12: ("Display P3", Chromaticities(white=_D65, **_P3)),
    22: ("EBU 3213", Chromaticities(white=_D65, **_EBU)),
}
# H.273, table 3
_SMPTE_240M = ParametricCurve(g=1 / 0.45, a=1 / 1.1115, b=0.1115 / 1.1115, c=0.25, d=0.0912)
_TRANSFERS: Mapping[int, tuple[str, Curve]] = {
    4: ("gamma 2.2", ParametricCurve(g=2.2)),
    5: ("gamma 2.8", ParametricCurve(g=2.8)),
    7: ("SMPTE 240M", _SMPTE_240M),
    8: ("linear", ParametricCurve(g=1)),
} | dict.fromkeys((1, _UNSPECIFIED, 6, 11, 13, 14, 15), ("sRGB", SRGB_CURVE))
_HDR = {16: "PQ", 18: "HLG"}


def cicp_profile(primaries: int, transfer: int, *, path: str) -> bytes | None:
    """A profile for RGB by the code points of ITU-T H.273; None where that is sRGB.

    Raises :class:`InputError` for HDR (PQ, HLG), and for codes that no 8-bit RGB follows from.
    """
    if transfer in _HDR:
        raise InputError(
            f"{path} is a picture for HDR displays ({_HDR[transfer]}), which has no certain 8-bit RGB meaning",
            hint="map its tones to 8-bit sRGB or Display P3 first, with a photo editor or ffmpeg",
        )
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise InputError(
            f"{path} has colour primaries {primaries} and transfer {transfer} of ITU-T H.273, "
            "which have no certain RGB meaning",
            hint="convert it to 8-bit sRGB first",
        )
    gamut, chromaticities = _PRIMARIES[primaries]
    tone, curve = _TRANSFERS[transfer]
    return profile_for(f"{gamut}, {tone}", chromaticities, (curve, curve, curve))


def gamma_profile(
    what: str, chromaticities: Chromaticities | None, gammas: tuple[float, float, float] | None
) -> bytes | None:
    """A profile for primaries and gammas (2.2, not 1/2.2) of which a file gives at least one kind.

    The other kind is sRGB's.  None where that is sRGB; ValueError for numbers that are no RGB space.
    """
    chromaticities = chromaticities or SRGB
    if gammas is None or (chromaticities.near(SRGB) and all(abs(gamma / 2.2 - 1) < 0.005 for gamma in gammas)):
        return profile_for(what, chromaticities, (SRGB_CURVE, SRGB_CURVE, SRGB_CURVE))
    if not all(0.05 < gamma < 20 for gamma in gammas):
        raise ValueError(f"a gamma of {gammas}")
    red, green, blue = (ParametricCurve(g=gamma) for gamma in gammas)
    return profile_for(what, chromaticities, (red, green, blue))


def adobe_rgb_profile() -> bytes:
    """Of what a camera calls Adobe RGB: its primaries, white D65, gamma 563/256."""
    curve = ParametricCurve(g=563 / 256)
    return rgb_profile("compatible with Adobe RGB (1998)", Chromaticities(white=_D65, **_ADOBE), (curve,) * 3)


def profile_for(name: str, chromaticities: Chromaticities, curves: tuple[Curve, Curve, Curve]) -> bytes | None:
    """None where it would be sRGB's; ValueError as :func:`rgb_profile`."""
    if chromaticities.near(SRGB) and all(is_srgb_curve(curve) for curve in curves):
        return None
    return rgb_profile(name, chromaticities, curves)

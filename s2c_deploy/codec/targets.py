"""A quality for what somebody asks for: so many bytes, or so many decibels.

Variable rate makes it a search over the 225 qualities, by bisection, without refinement; that comes last, and is made
up for by steps of quality where it changes what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.search import GRADIENT, Search
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import MAX_QUALITY, MIN_QUALITY, QUALITY_STEPS, step_quality
from s2c_deploy.metrics import psnr

_LAST = round((MAX_QUALITY - MIN_QUALITY) * QUALITY_STEPS)
#: Searches after the first that may make up for what refinement changed.
_TRIES = 3
#: About how many steps of quality double the bytes, and are worth a decibel.
_STEPS_PER_OCTAVE, _STEPS_PER_DECIBEL = 36, 18


@dataclass(frozen=True, kw_only=True)
class Request:
    """What every try has in common, as ``Codec.compress`` takes it."""

    tile: int = 0
    icc: bytes | None = None
    exif: bytes | None = None
    effort: int = 0


@dataclass(frozen=True, kw_only=True)
class Hit:
    """The stream that was found."""

    data: bytes
    quality: float
    #: Of the last search by gradient.
    search: Search


def compress_to_size(codec: Codec, image: Pixels, size: int, request: Request, search: Search) -> Hit:
    """The best quality whose stream has at most ``size`` bytes, its profile and EXIF among them.

    InputError where quality 1 has more.
    """

    def fits(step: int) -> bool:
        return len(_plain(codec, image, step, request)) <= size

    step = _last_true(fits)
    if step < 0:
        least = len(_plain(codec, image, 0, request))
        raise InputError(
            f"target: expected at least {least} bytes, which quality 1 has, found {size}",
            hint="ask for more, or leave EXIF out: --strip-metadata",
        )
    best: Hit | None = None
    for _ in range(_TRIES + 1):
        hit = _refined(codec, image, step, request, search)
        if len(hit.data) <= size and (best is None or hit.quality > best.quality):
            best = hit
        # Refinement leaves room, as a rule: what it saved is worth some steps.
        more = math.floor(_STEPS_PER_OCTAVE * math.log2(size / len(hit.data)))
        further = min(max(step + more, 0), _LAST)
        if request.effort < GRADIENT or further == step or (best is not None and step_quality(further) <= best.quality):
            break
        step = further
    return best if best is not None else _refined_below(codec, image, step, size, request, search)


def _refined_below(codec: Codec, image: Pixels, step: int, size: int, request: Request, search: Search) -> Hit:
    """From a step that has too many bytes down to one that has not; without refinement, if need be."""
    for lower in (step - 4, step - 16):
        if lower >= 0 and len((hit := _refined(codec, image, lower, request, search)).data) <= size:
            return hit
    lower = _last_true(lambda k: len(_plain(codec, image, k, request)) <= size)
    return Hit(data=_plain(codec, image, lower, request), quality=step_quality(lower), search=search)


def compress_to_psnr(codec: Codec, image: Pixels, decibels: float, request: Request, search: Search) -> Hit:
    """The quality whose picture is nearest to a PSNR in dB.  InputError where quality 8 is below it, or 1 above."""

    def reached(step: int) -> float:
        return psnr(image, codec.decompress(_plain(codec, image, step, request)))

    below = _last_true(lambda step: reached(step) < decibels)
    if below == _LAST:
        raise InputError(f"target: expected at most {reached(_LAST):.2f} dB, which quality 8 has, found {decibels:g}")
    step = below + 1
    if step == 0 and reached(0) > decibels + 0.5:
        raise InputError(f"target: expected at least {reached(0):.2f} dB, which quality 1 has, found {decibels:g}")
    if below >= 0 and decibels - reached(below) < reached(step) - decibels:
        step = below
    best: tuple[float, Hit] | None = None
    for _ in range(_TRIES + 1):
        hit = _refined(codec, image, step, request, search)
        found = psnr(image, codec.decompress(hit.data))
        if best is None or abs(found - decibels) < best[0]:
            best = abs(found - decibels), hit
        further = min(max(step + round(_STEPS_PER_DECIBEL * (decibels - found)), 0), _LAST)
        if request.effort < GRADIENT or further == step:
            break
        step = further
    assert best is not None
    return best[1]


def _last_true(holds: Callable[[int], bool]) -> int:
    """The last step of quality for which it holds, -1 for none, where what holds at one holds below it."""
    # Invariant: it holds at ``low``, if that is a step, and not at ``high``, if that is one.
    low, high = -1, _LAST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _plain(codec: Codec, image: Pixels, step: int, request: Request) -> bytes:
    """Without refinement."""
    effort = min(request.effort, GRADIENT - 1)
    return codec.compress(
        image, step_quality(step), tile=request.tile, icc=request.icc, exif=request.exif, effort=effort
    )


def _refined(codec: Codec, image: Pixels, step: int, request: Request, search: Search) -> Hit:
    search.steps, search.before, search.after = 0, 0, 0
    data = codec.compress(
        image,
        step_quality(step),
        tile=request.tile,
        icc=request.icc,
        exif=request.exif,
        effort=request.effort,
        search=search,
    )
    return Hit(data=data, quality=step_quality(step), search=search)

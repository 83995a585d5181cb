"""A quality for what somebody asks for: so many bytes, or so many decibels.

Variable rate makes it a search over the 225 qualities, by bisection, without refinement; that comes last, and is made
up for by steps of quality where it changes what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

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
#: In dB: more than any picture with an error has.
_LOSSLESS = 200.0


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


def compress_as(codec: Codec, image: Pixels, quality: float, request: Request, search: Search) -> Hit:
    """The stream of a quality."""
    search.steps, search.before, search.after = 0, 0, 0
    data = codec.compress(
        image,
        quality,
        tile=request.tile,
        icc=request.icc,
        exif=request.exif,
        effort=request.effort,
        search=search,
    )
    return Hit(data=data, quality=quality, search=search)


def compress_to_size(codec: Codec, image: Pixels, size: int, request: Request, search: Search) -> Hit:
    """The best quality whose stream has at most ``size`` bytes, its profile and EXIF among them.

    InputError where quality 1 has more.
    """
    plain = _without_refinement(codec, image, request)
    step = _last_true(lambda k: len(plain(k)) <= size)
    if step < 0:
        raise InputError(
            f"target: expected at least {len(plain(0))} bytes, which quality 1 has, found {size}",
            hint="ask for more, or leave EXIF out: --strip-metadata",
        )
    if request.effort < GRADIENT:
        return Hit(data=plain(step), quality=step_quality(step), search=search)
    best: Hit | None = None
    for _ in range(_TRIES + 1):
        hit = compress_as(codec, image, step_quality(step), request, search)
        if len(hit.data) <= size and (best is None or hit.quality > best.quality):
            best = hit
        # Refinement leaves room, as a rule: what it saved is worth some steps.
        more = math.floor(_STEPS_PER_OCTAVE * math.log2(size / len(hit.data)))
        further = min(max(step + more, 0), _LAST)
        if further == step or (best is not None and step_quality(further) <= best.quality):
            break
        step = further
    if best is not None:
        return best
    for lower in (step - 4, step - 16):
        if lower >= 0 and len((hit := compress_as(codec, image, step_quality(lower), request, search)).data) <= size:
            return hit
    step = _last_true(lambda k: len(plain(k)) <= size)
    return Hit(data=plain(step), quality=step_quality(step), search=search)


def compress_to_psnr(codec: Codec, image: Pixels, decibels: float, request: Request, search: Search) -> Hit:
    """The quality whose picture is nearest to a PSNR in dB.  InputError where quality 8 is below it, or 1 above."""
    plain = _without_refinement(codec, image, request)
    reached = cache(lambda step: psnr(image, codec.decompress(plain(step))))
    below = _last_true(lambda step: reached(step) < decibels)
    if below == _LAST:
        raise InputError(f"target: expected at most {reached(_LAST):.2f} dB, which quality 8 has, found {decibels:g}")
    step = below + 1
    if step == 0 and reached(0) > decibels + 0.5:
        raise InputError(f"target: expected at least {reached(0):.2f} dB, which quality 1 has, found {decibels:g}")
    if below >= 0 and decibels - reached(below) < reached(step) - decibels:
        step = below
    if request.effort < GRADIENT:
        return Hit(data=plain(step), quality=step_quality(step), search=search)
    best: tuple[float, Hit] | None = None
    for _ in range(_TRIES + 1):
        hit = compress_as(codec, image, step_quality(step), request, search)
        found = psnr(image, codec.decompress(hit.data))
        if best is None or abs(found - decibels) < best[0]:
            best = abs(found - decibels), hit
        # One without any error has no end of decibels.
        more = max(round(_STEPS_PER_DECIBEL * (decibels - min(found, _LOSSLESS))), -_LAST)
        further = min(max(step + more, 0), _LAST)
        if further == step:
            break
        step = further
    assert best is not None
    return best[1]


def _without_refinement(codec: Codec, image: Pixels, request: Request) -> Callable[[int], bytes]:
    """Streams by step of quality, each made once."""
    quick = replace(request, effort=min(request.effort, GRADIENT - 1))
    return cache(lambda step: compress_as(codec, image, step_quality(step), quick, Search()).data)


def _last_true(holds: Callable[[int], bool]) -> int:
    """The last step of quality for which it holds, -1 for none, where what holds at one holds below it."""
    # Invariant: it holds at ``low``, if that is a step, and not at ``high``, if that is one.
    low, high = -1, _LAST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low

"""What is coded: pictures, their sizes, and groups of equal size and quality that are measured together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.contract import MAX_PIXELS
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import round_quality
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images, name_of

#: Names of sizes, width x height.
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2k": (2048, 1080), "4k": (3840, 2160), "8k": (7680, 4320)}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A picture to code: uint8 height x width x 3."""

    name: str
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class Case:
    """Pictures of one size at one quality."""

    name: str
    #: The longer side: some of the pictures stand upright, others lie.
    width: int
    #: The shorter side.
    height: int
    quality: float
    #: Positions in the list of sources.
    sources: tuple[int, ...]


def parse_size(text: str) -> tuple[int, int]:
    """``768x512`` or a name of SIZES to width and height; InputError for anything else."""
    if text in SIZES:
        return SIZES[text]
    match = _SIZE.fullmatch(text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise InputError(
            f"--sizes: expected {', '.join(SIZES)} or WIDTHxHEIGHT of at most {MAX_PIXELS} pixels, found {text!r}"
        )
    return size


def photographs(folder: Path, limit: int | None = None, *, follow_links: bool = False) -> list[Source]:
    """The pictures of a folder, at most ``limit``; follow_links: those too that links lead out of the folder for.

    InputError where there is none or one cannot be read.
    """
    paths = list_images(folder, follow_links=follow_links)[:limit]
    return [Source(name=name_of(path), pixels=read_image(path).pixels) for path in paths]


def of_sizes(source: Source, sizes: Sequence[tuple[int, int]]) -> list[Source]:
    """A photograph at other sizes: its middle where they are smaller; repeated in mirror images where larger, as
    stretching would leave nothing for the coder to code."""
    made = []
    for width, height in sizes:
        pixels = source.pixels
        top, left = (max(0, have - want) // 2 for have, want in zip(pixels.shape, (height, width), strict=False))
        pixels = pixels[top : top + height, left : left + width]
        grow = ((0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0))
        mirrored = np.ascontiguousarray(np.pad(pixels, grow, mode="symmetric"))
        made.append(Source(name=f"{source.name} at {width}x{height}", pixels=mirrored))
    return made


def group(sources: Sequence[Source], qualities: Sequence[float]) -> list[Case]:
    """Cases by size, smallest first, and quality; InputError without pictures or with a quality out of range."""
    levels = sorted({round_quality(quality) for quality in qualities})
    if not sources or not levels:
        raise InputError("expected at least one picture and one quality")
    sizes: dict[tuple[int, int], list[int]] = {}
    for number, source in enumerate(sources):
        height, width = source.pixels.shape[:2]
        sizes.setdefault((max(width, height), min(width, height)), []).append(number)
    cases = []
    for (width, height), numbers in sorted(sizes.items(), key=lambda item: item[0][0] * item[0][1]):
        cases += [
            Case(
                name=f"{width}x{height}, quality {quality:g}",
                width=width,
                height=height,
                quality=quality,
                sources=tuple(numbers),
            )
            for quality in levels
        ]
    return cases

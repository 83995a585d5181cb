"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from s2c_deploy.contract import MAX_PIXELS, MAX_TILE_PIXELS
from s2c_deploy.errors import InputError
from s2c_deploy.formats.finding import PACKAGED
from s2c_deploy.presets import SYNTHESES

#: Where trained models and photographs lie, seen from a checkout.
WEIGHTS, PHOTOGRAPHS = Path("export"), Path("export/photographs")

#: In the order of ``formats.finding``.
DEFAULT_BUNDLE = "$S2C_BUNDLE, else the one under ./engines, in the user's data folder or in the wheel"

BundleOption = Annotated[Path | None, typer.Option(help="Bundle folder.", show_default=DEFAULT_BUNDLE)]
EffortOption = Annotated[
    int, typer.Option(help="0 to 9: how long to look for fewer bits; from 2 on needs PyTorch, and much time.")
]
BundleArgument = Annotated[Path | None, typer.Argument(help="Bundle folder.", show_default=DEFAULT_BUNDLE)]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Folder of pictures.", show_default=f"{PHOTOGRAPHS}, else the wheel's photograph")
]
BackendOption = Annotated[str, typer.Option(help="auto, openvino, onnxruntime, torch or tensorrt.")]
SynthesisOption = Annotated[
    str,
    typer.Option(help=f"Which g_s: full, or a quicker and coarser one: {', '.join(SYNTHESES)} (`inspect` lists them)."),
]
PrecisionOption = Annotated[
    str, typer.Option(help="Of g_s: auto, float32, bfloat16 (CPUs that have it), float16 (engines).")
]
ThreadsOption = Annotated[int, typer.Option(min=0, help="Threads of the engine; 0 lets it choose.")]
ForceOption = Annotated[bool, typer.Option("--force", "-f", help="Overwrite what is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")]
WideOption = Annotated[bool, typer.Option("--wide", help="Every table with every column.")]
MaxPixelsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Refuse larger pictures, and larger tiles, before allocating anything; padding to multiples of 64 counts.",
        show_default=f"{MAX_PIXELS} a picture, {MAX_TILE_PIXELS} a tile",
    ),
]
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for the transforms, as 2G or 500M: larger pictures pass through them in blocks.",
        show_default="three quarters of what is free",
    ),
]
BackgroundOption = Annotated[
    str | None, typer.Option(help="Colour that shows through transparent pixels; without it they are refused.")
]
PresetOption = Annotated[str, typer.Option(help="tiny, small, base or large.")]
TargetsOption = Annotated[
    str, typer.Option(help="tensorrt, tensorrt-rtx, with commas between.", show_default="those installed")
]
CapabilityOption = Annotated[
    str,
    typer.Option(help="GPUs that tensorrt-rtx builds for.", show_default="this machine's, else 8.6,8.9,12.0"),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--profile",
        help="Picture sizes MIN,OPT,MAX, with @N behind for up to N in one call; repeat for several.",
        show_default="64x64,768x512,2048x2048",
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="Subfolders of a folder too; results keep their places.")
]
FollowLinksOption = Annotated[bool, typer.Option("--follow-links", help="Take links that lead out of the folder, too.")]
SkipExistingOption = Annotated[
    bool, typer.Option("--skip-existing", help="Leave targets that are there, and do the others: goes on with a run.")
]


def comma_list(text: str) -> list[str]:
    """What stands between commas; empty parts are dropped."""
    return [part.strip() for part in text.split(",") if part.strip()]


def pictures_folder(given: Path | None) -> Path:
    """--images, else export/photographs, else the one photograph of a wheel.  InputError where there is none."""
    if given is not None:
        return given
    for folder in (PHOTOGRAPHS, PACKAGED / PHOTOGRAPHS.name):
        if os.path.isdir(folder):
            return folder
    raise InputError(f"no folder {PHOTOGRAPHS}", hint="name one with pictures: --images")


def parse_names(text: str) -> tuple[str, ...]:
    names = tuple(comma_list(text))
    return () if names == ("none",) else names


def parse_qualities(texts: list[str]) -> tuple[float, ...]:
    """1..8 counts in whole steps; numbers may have commas between.  InputError for what is no range or number of
    qualities."""
    found: list[float] = []
    for part in (part for text in texts for part in text.split(",")):
        first, dots, last = part.partition("..")
        try:
            found += _whole_steps(int(first), int(last)) if dots else [float(part)]
        except ValueError:
            raise InputError(f"--quality: expected 1..8 or numbers with commas between, found {part!r:.80}") from None
    return tuple(found)


def _whole_steps(first: int, last: int) -> range:
    """ValueError for ends that are no qualities, before anything counts from one to the other."""
    from s2c_deploy.formats.bitstream import MAX_QUALITY, MIN_QUALITY

    if not MIN_QUALITY <= first <= last <= MAX_QUALITY:
        raise ValueError
    return range(first, last + 1)


def parse_size(name: str, text: str | None) -> int | None:
    """Bytes: a number, with K, M, G or T behind it for powers of 1024.  InputError for anything else."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        size = float(number) * 1024 ** ("KMGT".index(unit) + 1 if unit else 0)
        if not 1 <= size < 2**63:
            raise ValueError
    except ValueError:
        raise InputError(f"{name}: expected a size such as 500M or 2G, found {text!r:.80}") from None
    return int(size)


def parse_efforts(text: str) -> tuple[int, ...]:
    """Numbers from 0 to 9 with commas between.  InputError for others."""
    from s2c_deploy.codec.search import MAX_EFFORT

    parts = comma_list(text)
    if not parts or not all(len(part) == 1 and part in "0123456789" and int(part) <= MAX_EFFORT for part in parts):
        raise InputError(f"--effort: expected 0 to {MAX_EFFORT}, or several with commas between, found {text!r:.80}")
    return tuple(map(int, parts))


def check_levels(levels: Sequence[float]) -> None:
    """InputError for a quality that is none."""
    from s2c_deploy.formats.bitstream import round_quality

    for level in levels:
        round_quality(level)


def check_precision(name: str) -> None:
    """InputError unless some g_s can have it."""
    from s2c_deploy.runtime.backends import PRECISIONS

    if name not in PRECISIONS:
        raise InputError(f"--precision: expected {', '.join(PRECISIONS)}, found {name!r}")


def picture_suffix(text: str) -> str:
    """--suffix with its dot, which may be left out."""
    return text if text.startswith(".") else f".{text}"


def check_background(name: str | None) -> None:
    """InputError unless it is a colour."""
    if name is None:
        return
    from PIL import ImageColor

    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise InputError(f"unknown colour {name!r}", hint="pass a CSS name or #rrggbb") from None


def released(variant: str, preset: str | None) -> Path:
    """export/VARIANT holds the best weights released, of whatever preset; export/VARIANT-PRESET other presets."""
    named = WEIGHTS / f"{variant}-{preset}"
    return named if preset is not None and os.path.isdir(named) else WEIGHTS / variant

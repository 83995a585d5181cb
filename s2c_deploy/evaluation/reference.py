"""Published curves: read, checked, chosen by name.

The file is JSON, a list of curves: ``method`` and ``dataset`` (names), ``bpp`` and ``psnr_rgb`` (lists of one length,
both rising), ``source`` (where they were published), optionally ``ms_ssim_rgb``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.curves import Curve, Point

#: Data sets and how many pictures a published curve is the mean of; of other names it is not known.
DATASETS = {"kodak": 24, "tecnick": 100, "clic-professional-valid": 41}
_KODAK = frozenset(f"kodim{number:02d}" for number in range(1, 25))
_TEXTS, _LISTS = ("method", "dataset", "source"), ("bpp", "psnr_rgb")


def shipped_references() -> Path:
    """The file beside this one in the wheel, or benchmarks/reference/curves.json of the checkout."""
    here = Path(__file__).resolve()
    places = [here.with_name("reference_curves.json"), here.parents[2] / "benchmarks" / "reference" / "curves.json"]
    for place in places:
        if place.is_file():
            return place
    raise InputError("the published curves are not installed", hint="name a file with --reference-file")


def known_dataset(stems: Sequence[str]) -> str | None:
    """``kodak`` if the pictures' names, without suffix, are kodim01 to kodim24; else None."""
    return "kodak" if len(stems) == len(_KODAK) and {stem.lower() for stem in stems} == _KODAK else None


def read_references(path: Path) -> dict[tuple[str, str], Curve]:
    """Every curve of a file by (method, data set); InputError names the entry and what is wrong with it."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}", hint="see benchmarks/reference/README.md") from error
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of curves, found {type(entries).__name__}")
    curves: dict[tuple[str, str], Curve] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: curve {number}"
        curve = _curve(where, entry)
        key = (curve.name, entry["dataset"])
        if key in curves:
            raise InputError(f"{where}: {curve.name} on {entry['dataset']} is there twice", hint="keep one")
        curves[key] = curve
    return curves


def _curve(where: str, entry: Any) -> Curve:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object, found {type(entry).__name__}")
    for field in _TEXTS:
        if not isinstance(entry.get(field), str) or not entry[field].strip():
            raise InputError(f"{where}: {field}: expected a text, found {entry.get(field)!r}")
    where = f"{where} ({entry['method']}, {entry['dataset']})"
    if re.fullmatch(r"(?i)vtm([-_ ]?intra)?", entry["method"].strip()):
        raise InputError(
            f"{where}: names no version of VTM", hint="versions differ by several percent: write vtm-9.1 or the like"
        )
    bpp, psnr = (_numbers(where, field, entry.get(field)) for field in _LISTS)
    ms_ssim = None if entry.get("ms_ssim_rgb") is None else _numbers(where, "ms_ssim_rgb", entry["ms_ssim_rgb"])
    for field, values in (("psnr_rgb", psnr), ("ms_ssim_rgb", ms_ssim)):
        if values is not None and len(values) != len(bpp):
            raise InputError(f"{where}: {field}: expected {len(bpp)} numbers as in bpp, found {len(values)}")
    if min(bpp) <= 0 or (ms_ssim is not None and not 0 <= min(ms_ssim) <= max(ms_ssim) < 1):
        raise InputError(f"{where}: expected bpp above 0 and MS-SSIM in [0, 1)")
    for i, (step, gain) in enumerate(zip(_steps(bpp), _steps(psnr), strict=True)):
        if step <= 0 or gain <= 0:
            raise InputError(f"{where}: expected bpp and psnr_rgb to rise, found that point {i + 1} does not")
    points = zip(bpp, psnr, ms_ssim if ms_ssim is not None else [None] * len(bpp), strict=True)
    size = DATASETS.get(entry["dataset"])
    return Curve(
        name=entry["method"],
        kind="reference",
        description=f"published, {entry['dataset']}: {entry['source']}",
        points=tuple(Point(bpp=b, psnr=p, ms_ssim=m) for b, p, m in points),
        pictures=size,
        ms_ssim_pictures=size,
    )


def _numbers(where: str, field: str, values: Any) -> list[float]:
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: {field}: expected a list of numbers, found {type(values).__name__}")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{where}: {field}: expected finite numbers, found {value!r}")
    return [float(value) for value in values]


def _steps(values: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(values)]


def choose_references(curves: dict[tuple[str, str], Curve], names: Sequence[str], dataset: str) -> list[Curve]:
    """The curves of a data set by name, in this order, each called ``name (published)`` from here on.

    Case and the difference of ``_`` and ``-`` do not matter, and the beginning of a name is enough where only one
    begins so.  InputError for an unknown name or data set, and for two versions of VTM: their figures do not compare.
    """
    there = {_plain(method): curve for (method, of), curve in curves.items() if of == dataset}
    if not there:
        known = ", ".join(sorted({of for _, of in curves}))
        raise InputError(f"no published curves of {dataset!r}", hint=f"there are curves of {known}")
    chosen: dict[str, Curve] = {}
    for name in map(_plain, names):
        found = [name] if name in there else [method for method in there if method.startswith(name)]
        if len(found) != 1:
            what = "several curves" if found else "no curve"
            raise InputError(f"{what} of {dataset} called {name!r}", hint=f"there are {', '.join(found or there)}")
        chosen[found[0]] = there[found[0]]
    versions = [name for name in chosen if name.startswith("vtm")]
    if len(versions) > 1:
        raise InputError(
            f"{' and '.join(versions)} in one table", hint="choose one version: their BD-rates do not compare"
        )
    return [replace(curve, name=f"{curve.name} (published)") for curve in chosen.values()]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")

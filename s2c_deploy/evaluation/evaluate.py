"""The evaluation of a folder: everything measured, averaged and compared, as one record."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np
import PIL

from s2c_deploy import __version__
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.search import check_effort
from s2c_deploy.errors import InputError, OutOfMemoryError
from s2c_deploy.evaluation.curves import Comparison, Curve, Kind, Metric, compare, mean_curve
from s2c_deploy.evaluation.measure import BundleMethod, Measurement, Method, measure
from s2c_deploy.evaluation.perceptual import require_ssimulacra2
from s2c_deploy.evaluation.pillow_codecs import pillow_codec
from s2c_deploy.evaluation.reference import choose_references, known_dataset, read_references, shipped_references
from s2c_deploy.files import temporary_folder
from s2c_deploy.formats.bitstream import round_quality
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images, name_of
from s2c_deploy.presets import FULL
from s2c_deploy.progress import Progress, silent
from s2c_deploy.report.environment import processor
from s2c_deploy.runtime import backend_status


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate."""

    #: A folder of pictures.
    images: Path
    #: Folders.
    bundles: tuple[Path, ...]
    #: From 1 to 8, in steps of 1/32.
    qualities: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    #: Each is a curve of its own for every bundle.
    efforts: tuple[int, ...] = (0,)
    #: Of the bundles, which g_s decode: each is a curve of its own, too.
    syntheses: tuple[str, ...] = (FULL,)
    #: Conventional codecs by name.
    against: tuple[str, ...] = ()
    #: Published curves by name.
    references: tuple[str, ...] = ()
    #: Where these are read from; None: the shipped ones.
    reference_file: Path | None = None
    #: The set that the pictures are of, for the published curves; None: known by their names.
    dataset: str | None = None
    backend: str = "auto"
    threads: int = 0
    #: Colour behind transparent pixels.
    background: str | None = None
    #: Leave pictures out that cannot be read, rather than stop at the first.
    skip_unreadable: bool = False
    #: Take pictures, too, that lie outside of the folder.
    follow_links: bool = False
    #: SSIMULACRA2, too: about a second a picture.
    ssimulacra2: bool = False
    #: Measured before, of these pictures, by codecs of these names: not measured again.
    measured: tuple[Measurement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A picture that was left out, and why."""

    image: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that was measured on a folder of pictures, and compared."""

    pictures: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    #: None where the pictures are of no known set.
    dataset: str | None
    #: Bundles, then codecs, then published ones.
    curves: tuple[Curve, ...]
    #: Every bundle against every codec, published curve and earlier bundle.
    comparisons: tuple[Comparison, ...]
    #: Every single measurement.
    rows: tuple[Measurement, ...]
    environment: dict[str, str]

    @property
    def unequal(self) -> tuple[Measurement, ...]:
        """Rows whose decoded picture is not the encoder's own reconstruction: there must be none."""
        return tuple(row for row in self.rows if row.equal is False)

    @property
    def ssimulacra2_pictures(self) -> int | None:
        """How many pictures are large enough for SSIMULACRA2; None where nobody asked for it."""
        if "ssimulacra2" not in self.environment:
            return None
        return len({row.image for row in self.rows if row.ssimulacra2 is not None})

    @property
    def ms_ssim_pictures(self) -> int:
        """How many pictures are large enough for MS-SSIM."""
        return len({row.image for row in self.rows if row.ms_ssim is not None})


def evaluate_folder(request: Request, progress: Progress = silent) -> Evaluation:
    """Measures every picture at every setting of every method, through files in a temporary folder.

    Everything that can be refused is refused before anything is measured.  Raises InputError, BundleError,
    EngineError or DependencyError.
    """
    if request.ssimulacra2:
        require_ssimulacra2()
    pictures, skipped = _readable(request)
    dataset = request.dataset or known_dataset([path.stem for path in pictures])
    references = _references(request, dataset)
    codecs = [pillow_codec(name) for name in dict.fromkeys(request.against)]
    with ExitStack() as stack:
        bundles = _open_bundles(request, stack)
        methods: list[Method] = [*bundles, *(codec for codec in codecs if codec.advice is None)]
        rows = _measure_all(pictures, methods, request, progress)
        environment = _environment(bundles[0].codec, perceptual=request.ssimulacra2)
        curves = [_curve("bundle", bundle, rows) for bundle in bundles]
    curves += [_curve("codec", codec, rows, missing=codec.advice) for codec in codecs]
    curves += references
    return Evaluation(
        pictures=tuple(name_of(path) for path in pictures),
        skipped=tuple(skipped),
        dataset=dataset,
        curves=tuple(curves),
        comparisons=tuple(_comparisons(curves)),
        rows=tuple(rows),
        environment=environment,
    )


def _curve(kind: Kind, method: Method, rows: Sequence[Measurement], missing: str | None = None) -> Curve:
    own = [row for row in rows if row.method == method.name]
    return mean_curve(method.name, kind, method.description, own, missing=missing)


def _readable(request: Request) -> tuple[list[Path], list[Skipped]]:
    """The pictures that can be read, each tried now, so that no long run ends on the last one."""
    kept, skipped = [], []
    for path in list_images(request.images, follow_links=request.follow_links):
        try:
            read_image(path, background=request.background)
            kept.append(path)
        except (InputError, OutOfMemoryError) as error:
            if not request.skip_unreadable:
                raise
            skipped.append(Skipped(image=name_of(path), reason=str(error)))
    if not kept:
        raise InputError(f"no picture in {request.images} can be read", hint=skipped[0].reason)
    return kept, skipped


def _references(request: Request, dataset: str | None) -> list[Curve]:
    if not request.references:
        return []
    curves = read_references(request.reference_file or shipped_references())
    if dataset is None:
        known = ", ".join(sorted({of for _, of in curves}))
        raise InputError(
            "published curves hold for one set of pictures only, and these are not known by their names",
            hint=f"say which they are with --dataset: {known}",
        )
    return choose_references(curves, request.references, dataset)


def _open_bundles(request: Request, stack: ExitStack) -> list[BundleMethod]:
    if not request.bundles or not request.qualities or not request.efforts or not request.syntheses:
        raise InputError("expected at least one bundle, one quality, one effort and one g_s")
    efforts = sorted({check_effort(effort) for effort in request.efforts})
    qualities = tuple(sorted({round_quality(quality) for quality in request.qualities}))
    syntheses = tuple(dict.fromkeys(request.syntheses))
    opened = [
        [
            stack.enter_context(Codec.open(path, request.backend, threads=request.threads, synthesis=synthesis))
            for synthesis in syntheses
        ]
        for path in request.bundles
    ]
    names = [first.bundle.config.name for first, *_ in opened]
    prints = [first.bundle.fingerprint.hex() for first, *_ in opened]
    if len(set(prints)) < len(prints):
        raise InputError("the same bundle twice", hint=f"fingerprints {', '.join(p[:16] for p in prints)}")
    return [
        BundleMethod(
            name=(f"s2c {name}" if names.count(name) == 1 else f"s2c {name} {fingerprint[:8]}")
            + (f" {synthesis}" if synthesis != FULL else "")
            + (f" effort {effort}" if effort else ""),
            codec=codec,
            settings=qualities,
            effort=effort,
        )
        for codecs, name, fingerprint in zip(opened, names, prints, strict=True)
        for codec, synthesis in zip(codecs, syntheses, strict=True)
        for effort in efforts
    ]


def _measure_all(
    pictures: Sequence[Path], methods: Sequence[Method], request: Request, progress: Progress
) -> list[Measurement]:
    """Each method codes the first picture of a size once before its clock counts."""
    rows: list[Measurement] = []
    known = {(row.image, row.method, row.setting): row for row in request.measured}
    total = len(pictures) * sum(len(method.settings) for method in methods)
    warm: set[tuple[int, ...]] = set()
    with temporary_folder("s2c-eval-") as folder:
        measured = partial(measure, folder=folder, perceptual=request.ssimulacra2)
        for path in pictures:
            pixels = read_image(path, background=request.background).pixels
            for method in methods:
                found = [known.get((name_of(path), method.name, setting)) for setting in method.settings]
                if pixels.shape not in warm and None in found:
                    method.warm(pixels)
                for setting, row in zip(method.settings, found, strict=True):
                    rows.append(row or measured(method, pixels, setting, image=name_of(path)))
                    progress(len(rows), total, f"measuring {name_of(path)}")
            warm.add(pixels.shape)
    return rows


def _comparisons(curves: Sequence[Curve]) -> list[Comparison]:
    bundles = [curve for curve in curves if curve.kind == "bundle"]
    others = [curve for curve in curves if curve.kind != "bundle"]
    found = []
    for i, test in enumerate(bundles):
        for anchor in [*others, *bundles[:i]]:
            found += [compare(anchor, test, metric) for metric in get_args(Metric)]
    return [comparison for comparison in found if comparison is not None]


def _environment(codec: Codec, *, perceptual: bool) -> dict[str, str]:
    """What the figures depend on: the versions for rate and quality, the machine for the times."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "s2c-deploy": __version__,
        "engine": f"{codec.backend} {backend_status(codec.backend).version}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "processors": str(os.cpu_count()),
    } | ({"ssimulacra2": version("ssimulacra2")} if perceptual else {})

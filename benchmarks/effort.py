"""What a search brings: BD-rate of every effort against effort 0, and the seconds that a megapixel takes.

    python -m benchmarks.effort --images KODAK [--efforts 0,1,2,4] [--qualities 1,3,5,8] [--out results.jsonl]
                                [--beside rate_distortion_conv-small_kodak.json] [--plot effort.svg]

Every picture goes through a file at every quality.  It takes hours: each measurement is appended to --out as it is
made, and the same command goes on from there.  The table has the efforts that are complete; docs/effort.md shows it and
the plot.  Nothing else should run meanwhile.  --beside: what ``s2c-deploy eval --json`` wrote on the same pictures; the
table has the BD-rates against its other codecs, too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from s2c_deploy import Codec, __version__
from s2c_deploy.bench.cases import Source, photographs
from s2c_deploy.errors import InputError
from s2c_deploy.evaluation.curves import Curve, Point, compare, mean_curve
from s2c_deploy.evaluation.measure import BundleMethod, Measurement, measure
from s2c_deploy.files import write_bytes
from s2c_deploy.report.environment import processor
from s2c_deploy.report.figure import COLORS, logarithmic, rendered
from s2c_deploy.report.table import Table, markdown, percent

RESULTS = Path(__file__).resolve().parent / "results" / __version__


@dataclass(frozen=True, kw_only=True)
class Level:
    """An effort, measured on all pictures at all qualities."""

    effort: int
    curve: Curve
    #: Against effort 0, in percent; None where there is none.
    bd_rate: float | None
    #: Of encoding a megapixel.
    seconds: float


def describe(codec: Codec) -> dict[str, str]:
    """What measurements have to agree in."""
    return {
        "bundle": f"{codec.bundle.config.name} {codec.bundle.fingerprint.hex()[:16]}",
        "engine": codec.backend,
        "processor": processor(),
    }


def read(path: Path, about: dict[str, str]) -> list[Measurement]:
    """What a file holds so far; InputError if it is of something else."""
    if not path.exists():
        path.write_text(json.dumps(about) + "\n")
    first, *lines = path.read_text().splitlines()
    if json.loads(first) != about:
        raise InputError(f"{path}: expected {about}, found {first}", hint="name another file: --out")
    return [Measurement(**json.loads(line)) for line in lines]


def missing(
    done: Sequence[Measurement], sources: Sequence[Source], methods: Sequence[BundleMethod]
) -> Iterator[tuple[BundleMethod, Source, float]]:
    """What is left to measure: effort by effort, so that they are complete one after another."""
    known = {(row.method, row.image, row.setting) for row in done}
    for method in methods:
        for source in sources:
            for quality in method.settings:
                if (method.name, source.name, quality) not in known:
                    yield method, source, quality


def levels(rows: Sequence[Measurement], methods: Sequence[BundleMethod], pictures: set[str]) -> list[Level]:
    """Those that are complete for these pictures."""
    found: list[Level] = []
    for method in methods:
        of_method = [row for row in rows if row.method == method.name]
        own = [row for row in of_method if row.setting in method.settings and row.image in pictures]
        wanted = len(pictures) * len(method.settings)
        if len(own) < wanted:
            print(f"{method.name}: {len(own)} of {wanted} measured", file=sys.stderr)
            continue
        curve = mean_curve(method.name, "bundle", method.description, own)
        against = compare(found[0].curve, curve, "psnr") if found else None
        seconds = fmean(row.encode_seconds / (row.width * row.height / 1e6) for row in own)
        bd_rate = None if against is None else against.pchip
        found.append(Level(effort=method.effort, curve=curve, bd_rate=bd_rate, seconds=seconds))
    return found


def others(path: Path | None, pictures: int) -> list[Curve]:
    """The curves of other codecs in a record, as far as they are of so many pictures or published."""
    if path is None:
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    curves = [
        Curve(**{**curve, "points": tuple(Point(**point) for point in curve["points"])}) for curve in record["curves"]
    ]
    return [curve for curve in curves if curve.kind != "bundle" and curve.pictures in (pictures, None)]


def table_of(found: Sequence[Level], beside: Sequence[Curve]) -> Table:
    settings = [point.setting for point in found[0].curve.points]
    rows = []
    for level in found:
        points = [f"{point.bpp:.4f} bpp, {point.psnr:.2f} dB" for point in level.curve.points]
        bd_rate = "" if level.bd_rate is None else percent(level.bd_rate / 100, 1)
        compared = [compare(curve, level.curve, "psnr") for curve in beside]
        against = ["" if c is None or c.pchip is None else percent(c.pchip / 100, 1) for c in compared]
        rows.append((str(level.effort), bd_rate, f"{level.seconds:.1f}", *points, *against))
    names = (*(f"quality {setting:g}" for setting in settings), *(f"against {curve.name}" for curve in beside))
    columns = ("effort", "BD-rate", "s/megapixel", *names)
    return Table(title="effort", columns=columns, rows=tuple(rows))


def plot(found: Sequence[Level], path: Path) -> None:
    """BD-rate over seconds."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        seconds, rates = [level.seconds for level in found], [level.bd_rate or 0.0 for level in found]
        axes.plot(seconds, rates, color=COLORS[1], marker="o", linewidth=2)
        for i, (level, x, y) in enumerate(zip(found, seconds, rates, strict=True)):
            beside = (6, -14 if i % 2 else 6)  # the first two take the same time
            axes.annotate(f"effort {level.effort}", (x, y), xytext=beside, textcoords="offset points")
        logarithmic(axes.xaxis, min(seconds), 2 * max(seconds))
        axes.set_xlabel("seconds to encode a megapixel")
        axes.set_ylabel("BD-rate against effort 0, %")
        axes.margins(y=0.15)
        axes.grid(alpha=0.3)

    write_bytes(path, rendered(draw, path.suffix[1:], width=6.5, height=3.6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--count", type=int, help="of pictures; all")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--efforts", default="0,1,2,4", help="with commas between")
    parser.add_argument("--qualities", default="1,3,5,8", help="with commas between")
    parser.add_argument("--out", type=Path, default=RESULTS / "effort.jsonl")
    parser.add_argument("--beside", type=Path, help="of s2c-deploy eval --json")
    parser.add_argument("--plot", type=Path, help="a .svg or .png")
    arguments = parser.parse_args()
    sources = photographs(arguments.images, arguments.count)
    qualities = tuple(float(quality) for quality in arguments.qualities.split(","))
    efforts = sorted({0, *map(int, arguments.efforts.split(","))})
    with Codec.open(arguments.bundle, arguments.backend) as codec, TemporaryDirectory() as folder:
        methods = [
            BundleMethod(name=f"effort {effort}", codec=codec, settings=qualities, effort=effort) for effort in efforts
        ]
        rows = read(arguments.out, describe(codec))
        for shape in {source.pixels.shape for source in sources}:  # engines prepare themselves for a size
            codec.reconstruct(np.zeros(shape, np.uint8))
        for method, source, quality in missing(rows, sources, methods):
            rows.append(measure(method, source.pixels, quality, image=source.name, folder=Path(folder)))
            with arguments.out.open("a") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
            print(f"{method.name}, {source.name}, quality {quality:g}", file=sys.stderr)
        found = levels(rows, methods, {source.name for source in sources})
    print(f"{len(sources)} pictures, {' on '.join(describe(codec).values())}\n")
    print(markdown(table_of(found, others(arguments.beside, len(sources)))))
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()

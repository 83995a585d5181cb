"""What each g_s of a bundle costs and gives: milliseconds of a decode against bits at equal PSNR.

    python -m benchmarks.syntheses --images KODAK [--bundle engines/conv-small] [--qualities 1,3,5,8] [--plot ms.svg]

Every picture is coded once at each quality, and that stream decoded with each g_s in each precision that the engine has
on this processor, by turns, from its bytes to pixels.  BD-rate and PSNR are against the full g_s in float32.  Nothing
else should run meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.cases import photographs
from s2c_deploy.errors import EngineError
from s2c_deploy.files import write_bytes
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.host import usable_processors
from s2c_deploy.metrics import bd_rate, psnr
from s2c_deploy.presets import FULL
from s2c_deploy.report.environment import processor
from s2c_deploy.report.figure import COLORS, rendered
from s2c_deploy.report.table import Table, markdown, percent

Way = tuple[str, str]
BASE: Way = (FULL, "float32")


@dataclass(frozen=True, kw_only=True)
class Decode:
    """One stream, decoded in one way."""

    way: Way
    quality: float
    bpp: float
    #: In dB.
    psnr: float
    #: The shortest of --rounds.
    seconds: float


def ways(bundle: Bundle, backend: str, stack: ExitStack) -> dict[Way, Codec]:
    """A codec for each g_s in each precision that the engine has here; those in float32 first."""
    found: dict[Way, Codec] = {}
    for precision in ("float32", "bfloat16"):
        for synthesis in bundle.syntheses:
            codec = stack.enter_context(Codec.open(bundle.path, backend, synthesis=synthesis, precision=precision))
            try:
                codec.load(encoder=synthesis == FULL)
            except EngineError:
                continue
            found[synthesis, precision] = codec
    return found


def decodes(codecs: Mapping[Way, Codec], pixels: Pixels, quality: float, rounds: int) -> Iterator[Decode]:
    """One picture at one quality in every way, in turns."""
    stream = codecs[BASE].compress(pixels, quality)
    seconds: dict[Way, list[float]] = {way: [] for way in codecs}
    decoded: dict[Way, Pixels] = {}
    for _ in range(rounds):
        for way, codec in codecs.items():
            started = time.perf_counter()
            decoded[way] = codec.decompress(stream)
            seconds[way].append(time.perf_counter() - started)
    bpp = 8 * len(stream) / (pixels.shape[0] * pixels.shape[1])
    for way in codecs:
        level = psnr(pixels, decoded[way])
        yield Decode(way=way, quality=quality, bpp=bpp, psnr=level, seconds=min(seconds[way]))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One way, over all pictures."""

    way: Way
    #: Median of a decode.
    milliseconds: float
    #: Against ``BASE``, in percent; None below four qualities.
    bd_rate: float | None
    #: Less PSNR than ``BASE``, in dB, by quality.
    losses: dict[float, float]


def summaries(rows: Sequence[Decode]) -> list[Summary]:
    """A summary of each way, in the order of the rows."""
    curves: dict[Way, dict[float, tuple[float, float]]] = {}
    for way in dict.fromkeys(row.way for row in rows):
        for quality in sorted({row.quality for row in rows}):
            own = [row for row in rows if (row.way, row.quality) == (way, quality)]
            curves.setdefault(way, {})[quality] = (fmean(r.bpp for r in own), fmean(r.psnr for r in own))
    base = curves[BASE]
    found = []
    for way, curve in curves.items():
        rate = None
        if len(curve) >= 4:
            anchor, test = list(base.values()), list(curve.values())
            rate = bd_rate([p[0] for p in anchor], [p[1] for p in anchor], [p[0] for p in test], [p[1] for p in test])
        losses = {quality: curve[quality][1] - base[quality][1] for quality in curve}
        milliseconds = 1e3 * median(row.seconds for row in rows if row.way == way)
        found.append(Summary(way=way, milliseconds=milliseconds, bd_rate=rate, losses=losses))
    return found


def table_of(found: Sequence[Summary], kmac: Mapping[str, str]) -> Table:
    rows = []
    for one in found:
        synthesis, precision = one.way
        rate = "" if one.bd_rate is None else percent(one.bd_rate / 100, 1)
        ratio = f"{found[0].milliseconds / one.milliseconds:.2f}"
        losses = [f"{loss:+.2f}" for loss in one.losses.values()]
        named = f"`{synthesis}`, {precision}"
        rows.append((named, kmac.get(synthesis, ""), f"{one.milliseconds:.0f}", ratio, rate, *losses))
    qualities = [f"dB at {quality:g}" for quality in found[0].losses]
    columns = ("g_s", "kMAC/px", "ms", "times as fast", "BD-rate", *qualities)
    return Table(title="g_s", columns=columns, rows=tuple(rows))


def plot(found: Sequence[Summary], path: Path) -> None:
    """BD-rate over milliseconds."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        sides = ((8, -3, "left"), (-8, -3, "right"))
        for color, precision, (x, y, side) in zip(
            COLORS[1:], dict.fromkeys(one.way[1] for one in found), sides, strict=False
        ):
            own = [one for one in found if one.way[1] == precision]
            points = [(one.milliseconds, one.bd_rate or 0.0) for one in own]
            axes.plot(*zip(*points, strict=True), color=color, marker="o", linestyle="", label=precision)
            for one, point in zip(own, points, strict=True):
                axes.annotate(one.way[0], point, xytext=(x, y), textcoords="offset points", ha=side, color=color)
        axes.set_xlim(0, 1.15 * max(one.milliseconds for one in found))
        axes.set_xlabel("milliseconds to decode a picture")
        axes.set_ylabel("more bits at equal PSNR, %")
        axes.margins(y=0.15)
        axes.grid(alpha=0.3)
        axes.legend()

    write_bytes(path, rendered(draw, path.suffix[1:], width=6.5, height=3.6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--images", type=Path, default=Path("export/photographs"))
    parser.add_argument("--count", type=int, help="of pictures; all")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--qualities", default="1,3,5,8", help="with commas between")
    parser.add_argument("--rounds", type=int, default=3, help="decodes of a stream in each way; the shortest counts")
    parser.add_argument("--plot", type=Path, help="a .svg or .png")
    arguments = parser.parse_args()
    sources = photographs(arguments.images, arguments.count)
    qualities = [float(quality) for quality in arguments.qualities.split(",")]
    bundle = open_bundle(arguments.bundle)
    kmac = {name: f"{told['kmac_per_pixel']:.1f}" for name, told in bundle.manifest.get("syntheses", {}).items()}
    rows: list[Decode] = []
    with ExitStack() as stack:
        codecs = ways(bundle, arguments.backend, stack)
        engine = codecs[BASE].backend
        for shape in {source.pixels.shape for source in sources}:  # engines prepare themselves for a size
            list(decodes(codecs, np.zeros(shape, np.uint8), qualities[0], 1))
        for source in track(sources, description="decoding", console=Console(stderr=True)):
            for quality in qualities:
                rows += decodes(codecs, source.pixels, quality, arguments.rounds)
    found = summaries(rows)
    print(f"{len(sources)} pictures, {bundle.config.name} on {engine}, {usable_processors()} threads, {processor()}\n")
    print(markdown(table_of(found, kmac)))
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()

"""The two pictures of the README's first screen: rate-distortion curves, and one detail by several codecs.

    python -m benchmarks.first_screen                        # draws the curves of the committed evaluation
    python -m benchmarks.first_screen --evaluation FILE      # of another one: s2c-deploy eval KODAK --json FILE …
    python -m benchmarks.first_screen --check                # exit code 1 if the curves drawn are others
    python -m benchmarks.first_screen --crop --images KODAK --bundle engines/conv-small

The committed evaluation is what ``make reproduce-cards KODAK=… VARIANTS=conv`` measures.  JPEG XL is part of it only
where its Pillow plugin is installed (pip install pillow-jxl-plugin); the plot names what was not measured.
The detail is coded afresh: ours at one quality, JPEG and AVIF at the settings whose files come closest to it in bytes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

import s2c_deploy
from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.evaluation.pillow_codecs import PillowCodec, pillow_codec
from s2c_deploy.files import atomic_write
from s2c_deploy.image import read_image
from s2c_deploy.metrics import psnr
from s2c_deploy.report.figure import rendered

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / s2c_deploy.__version__
EVALUATION = RESULTS / "rate_distortion_conv-small_kodak.json"
PLOT, CROP = (ROOT / "docs" / "assets" / name for name in ("rate_distortion.svg", "crop.png"))
#: What the curves are called in the plot, and their colours.
STYLES = {
    "s2c conv-small": ("S2C-Conv small", "#D55E00"),
    "jpeg": ("JPEG", "#7F7F7F"),
    "webp": ("WebP 4:2:0", "#009E73"),
    "avif-slow": ("AVIF", "#0072B2"),
    "jpeg2000": ("JPEG 2000", "#B0508A"),
    "jpegxl": ("JPEG XL", "#7A6F00"),
    "bpg_444_x265_ycbcr (published)": ("BPG 4:4:4", "#8C564B"),
    "vtm-9.1 (published)": ("VTM 9.1", "#000000"),
}
#: AVIF is drawn at its slow speed.
NOT_DRAWN = ("avif",)
#: What the plot shows, in bits per pixel and dB: a little more than our range of quality.
WIDEST, LEVELS = 1.3, (26.0, 41.0)
#: Least distance of two labels, dB.
APART = 0.72


#: The detail: picture, quality of ours, and left, top, width and height of what is shown, twice as large.
PICTURE, QUALITY, BOX, SCALE = "kodim23", 5, (128, 172, 112, 144), 2


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A curve as it is drawn."""

    name: str
    kind: str
    label: str
    color: str
    #: bpp and dB, by rising bpp.
    points: tuple[tuple[float, float], ...]


def read_curves(file: Path) -> tuple[list[Drawn], list[str]]:
    """The curves of an evaluation that have points, and the labels of those that were not measured."""
    found, missing = [], []
    for curve in json.loads(file.read_text(encoding="utf-8"))["curves"]:
        if curve["name"] in NOT_DRAWN:
            continue
        if curve["name"] not in STYLES:
            raise SystemExit(f"{file}: expected curves {', '.join(STYLES)}; found {curve['name']}")
        label, color = STYLES[curve["name"]]
        effort = re.search(r"(speed|effort) \d+", curve["description"])
        label += f", {effort[0]}" if effort else ""
        points = tuple((point["bpp"], point["psnr"]) for point in curve["points"])
        if points:
            found.append(Drawn(name=curve["name"], kind=curve["kind"], label=label, color=color, points=points))
        else:
            missing.append(label)
    return found, missing


def spread(levels: Sequence[float], apart: float) -> list[float]:
    """Places for labels, by rising level, each at least ``apart`` from the next and all as near as that allows."""
    places = list(levels)
    for _ in range(100):
        for i in range(len(places) - 1):
            short = apart - (places[i + 1] - places[i])
            if short > 0:
                places[i] -= short / 2
                places[i + 1] += short / 2
    return places


def end(curve: Drawn) -> tuple[float, float]:
    """Where a curve leaves the plot."""
    bpp, level = (np.array(values) for values in zip(*curve.points, strict=True))
    right = min(WIDEST, float(bpp[-1]))
    return right, float(np.interp(right, bpp, level))


def plot(curves: Sequence[Drawn], missing: Sequence[str]) -> bytes:
    """The curves as .svg, each with its name where it leaves the plot."""

    def draw(figure: Any) -> None:
        figure.set_layout_engine("none")
        figure.set_facecolor("white")
        axes = figure.add_axes((0.065, 0.115, 0.735, 0.80))
        axes.set(xlim=(0, WIDEST), ylim=LEVELS, xticks=np.arange(0.2, WIDEST, 0.2))
        axes.set_xlabel("bits per pixel, whole files", fontsize=11)
        axes.tick_params(labelsize=10, length=0)
        axes.grid(color="#DDDDDD", linewidth=0.8)
        axes.spines[:].set_visible(False)
        axes.set_title("PSNR in dB, means over the 24 Kodak pictures", fontsize=11, loc="left", x=-0.03)
        for curve in curves:
            ours = curve.kind == "bundle"
            dashes = "--" if curve.kind == "reference" else "-"
            (line,) = axes.plot(*zip(*curve.points, strict=True), dashes, color=curve.color, zorder=3 if ours else 2)
            line.set(gid=f"curve {curve.name}", linewidth=3.2 if ours else 1.6)
            if ours:
                axes.plot(*zip(*curve.points, strict=True), "o", color=curve.color, markersize=6, zorder=3)
        ordered = sorted(curves, key=lambda curve: end(curve)[1])
        for curve, place in zip(ordered, spread([end(c)[1] for c in ordered], APART), strict=True):
            weight = "bold" if curve.kind == "bundle" else "normal"
            line = {"arrowstyle": "-", "color": curve.color, "linewidth": 0.8, "shrinkA": 3, "relpos": (0, 0.5)}
            at = axes.annotate(curve.label, end(curve), (WIDEST + 0.03, place), annotation_clip=False, arrowprops=line)
            at.set(color=curve.color, fontsize=11, fontweight=weight, va="center")
        notes = ["dashed: published curves"]
        if any(curve.name == "jpegxl" for curve in curves):
            notes.append("JPEG XL's encoder aims at what is seen, not at PSNR")
        notes += [f"{name}: not measured" for name in missing]
        figure.text(0.99, 0.02, "; ".join(notes), ha="right", fontsize=9, color="#555555")

    return rendered(draw, "svg", width=9.4, height=5.6)


def drawn_curves(file: bytes) -> dict[str, list[float]]:
    """The coordinates of every curve in a plot, by its name."""
    paths = re.findall(r'<g id="curve ([^"]+)">\s*<path d="([^"]+)"', file.decode("utf-8"))
    return {name: [float(number) for number in re.findall(r"-?[\d.]+", path)] for name, path in paths}


def same_curves(one: bytes, other: bytes) -> bool:
    """Whether two plots show the same, however their letters are drawn (versions of matplotlib differ in that)."""
    mine, theirs = drawn_curves(one), drawn_curves(other)
    if not mine or mine.keys() != theirs.keys():
        return False
    pairs = [(mine[name], theirs[name]) for name in mine]
    return all(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=0.01) for a, b in pairs)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A picture as a codec returns it."""

    name: str
    size: int
    pixels: Pixels


def nearest(codec: PillowCodec, pixels: Pixels, size: int) -> Coded:
    """The picture at the setting whose file is nearest to a size in bytes: files grow with the quality, 1 to 95."""
    low, high = 1, 95
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if len(codec.encode(pixels, middle)) >= size else (middle, high)
    files = {setting: codec.encode(pixels, setting) for setting in (low, high)}
    setting = min(files, key=lambda s: abs(len(files[s]) - size))
    effort = re.search(r"speed \d+", codec.what)
    name = f"{codec.title}, quality {setting}" + (f", {effort[0]}" if effort else "")
    return Coded(name=name, size=len(files[setting]), pixels=codec.decode(files[setting]))


def detail(original: Pixels, codec: Codec) -> Pil.Image:
    """Panels of the same detail: the original, ours, AVIF and JPEG, each with size and PSNR of the whole picture."""
    stream = codec.compress(original, QUALITY)
    ours = Coded(name=f"S2C-Conv small, quality {QUALITY}", size=len(stream), pixels=codec.decompress(stream))
    others = [nearest(pillow_codec(name), original, ours.size) for name in ("avif-slow", "jpeg")]
    area = original.shape[0] * original.shape[1]
    panels = [("Original", f"{PICTURE}; figures: whole picture", original)]
    for coded in (ours, *others):
        size = f"{coded.size:,} bytes, {8 * coded.size / area:.3f} bpp"
        panels.append((coded.name, f"{size}, {psnr(original, coded.pixels):.1f} dB", coded.pixels))
    return composed(panels)


def composed(panels: Sequence[tuple[str, str, Pixels]]) -> Pil.Image:
    """Panels side by side, two lines of text above each."""
    left, top, width, height = BOX
    wide, high, gap, head = width * SCALE, height * SCALE, 8, 50
    sheet = Pil.new("RGB", (len(panels) * (wide + gap) + gap, head + high + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, figures, pixels) in enumerate(panels):
        x = gap + number * (wide + gap)
        part = Pil.fromarray(pixels[top : top + height, left : left + width])
        sheet.paste(part.resize((wide, high), Pil.Resampling.NEAREST), (x, head))
        pen.text((x, 7), name, "black", ImageFont.load_default(15))
        pen.text((x, 28), figures, "#444444", ImageFont.load_default(12))
    return sheet


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--evaluation", type=Path, default=EVALUATION)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--crop", action="store_true", help="the detail, not the curves")
    parser.add_argument("--images", type=Path, help="folder of the Kodak pictures, for --crop")
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"), help="for --crop")
    arguments = parser.parse_args()
    if arguments.crop and arguments.images is None:
        parser.error("--crop needs --images")
    return arguments


def main() -> None:
    arguments = parse()
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    if arguments.crop:
        with Codec.open(arguments.bundle) as codec:
            picture = detail(read_image(arguments.images / f"{PICTURE}.png").pixels, codec)
        with atomic_write(CROP) as temporary:
            picture.save(temporary, "PNG", optimize=True)
        return
    file = plot(*read_curves(arguments.evaluation))
    if not arguments.check:
        with atomic_write(PLOT) as temporary:
            temporary.write_bytes(file)
    elif not PLOT.is_file() or not same_curves(file, PLOT.read_bytes()):
        raise SystemExit(f"{PLOT} is not of {arguments.evaluation}: python -m benchmarks.first_screen")


if __name__ == "__main__":
    main()

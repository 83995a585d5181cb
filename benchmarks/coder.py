"""The entropy coder against others, side by side: one process, one thread, interleaved rounds.

    python -m benchmarks.coder --images KODAK [--bundle engines/conv-small] [--quality 5] [--json OUT]
    python -m benchmarks.coder --images KODAK --mosaic 3840x2160
    python -m benchmarks.coder --synthetic

--images: the symbols of real pictures, as ``compress`` gives them to the coder; --mosaic: of one picture made of them
all.  An index names an entry of CompressAI's 64-entry scale table.  Every coder must return the symbols exactly before
it is timed.  Figures are medians over the rounds of wall-clock time; for a machine that is busy with other work,
``--clock cpu`` takes the CPU time of the thread and ``--statistic min`` each coder's best round.  The JSON has the
samples of both clocks.

The ideal code length is that of the real-valued Gaussian of each symbol's table entry, discretised, over *all*
symbols: those that our coder skips count too.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks.coder_peers import Coder, Image, available
from s2c_deploy import Codec
from s2c_deploy.arrays import Pixels
from s2c_deploy.entropy import FrequencyTables, gaussian_tables
from s2c_deploy.evaluation.measure import ideal_bits as code_length
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.report import environment
from s2c_deploy.report.environment import processor
from s2c_deploy.runtime.backends import installed_version

WAYS, CLOCKS = ("encode", "decode"), ("wall", "cpu")
STATISTICS: dict[str, Callable[[list[float]], float]] = {"median": statistics.median, "min": min}

SYNTHETIC_SHAPE = (320, 32, 48)  # the latent of a 768x512 image
SYNTHETIC_BITS = 0.55 * 768 * 512
SYNTHETIC_SMALL = (0.3, 0.78)  # this share of the scales is below 0.3


def ideal_bits(images: list[Image], tables: FrequencyTables) -> float:
    """The sum of -log2 of each symbol's probability under its table's real-valued Gaussian."""
    return sum(code_length(image.symbols, image.indexes, tables) for image in images)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """Noise of unit variance: a slow part over height and width, shared by the channels, and a local part."""
    _, height, width = shape
    coarse = rng.normal(size=(height // 8 + 2, width // 8 + 2))
    rows, columns = np.arange(height) / 8, np.arange(width) / 8
    r, c = rows.astype(int)[:, None], columns.astype(int)[None, :]
    fr, fc = (rows % 1)[:, None], (columns % 1)[None, :]
    top = coarse[r, c] * (1 - fc) + coarse[r, c + 1] * fc
    bottom = coarse[r + 1, c] * (1 - fc) + coarse[r + 1, c + 1] * fc
    plane = top * (1 - fr) + bottom * fr
    plane = (plane - plane.mean()) / plane.std()
    local = rng.normal(size=shape)
    return np.asarray(0.8 * plane[None] + 0.6 * local)


def synthetic(tables: FrequencyTables, seed: int = 1) -> list[Image]:
    """The workload that other coders were measured on: one latent of a 768x512 image at about 0.55 bpp.

    log(scale) is a Gaussian over channels, places and chance.  Its mean is set so that 78 % of the scales are
    below 0.3, its width by bisection so that the ideal code length is 0.55 bpp; symbols are drawn from it.
    """
    rng = np.random.default_rng(seed)
    channels = np.sort(rng.normal(size=SYNTHETIC_SHAPE[0]))[::-1]
    shape = 0.85 * channels[:, None, None] + math.sqrt(1 - 0.85**2) * _smooth_noise(rng, SYNTHETIC_SHAPE)
    threshold, share = SYNTHETIC_SMALL
    shape = shape - np.quantile(shape, share)
    draws = rng.normal(size=SYNTHETIC_SHAPE)
    low, high = 0.1, 4.0
    image = None
    for _ in range(20):
        spread = (low + high) / 2
        scales = np.minimum(threshold * np.exp(spread * shape), tables.scales[-1])
        indexes = np.searchsorted(tables.scales[:-1], scales).astype(np.uint8)
        symbols = np.rint(draws * scales).astype(np.int16)
        symbols[indexes < tables.skip_below] = 0
        image = Image(symbols=symbols.reshape(-1), indexes=indexes.reshape(-1))
        if ideal_bits([image], tables) < SYNTHETIC_BITS:
            low = spread
        else:
            high = spread
    assert image is not None
    return [image]


def mosaic(pictures: list[Pixels], width: int, height: int) -> Pixels:
    """One picture of all of them in rows; upright ones lie on their side."""
    side = [picture if picture.shape[1] >= picture.shape[0] else np.rot90(picture) for picture in pictures]
    rows, columns = min(p.shape[0] for p in side), min(p.shape[1] for p in side)
    across, down = -(-width // columns), -(-height // rows)
    cells = [[side[(y * across + x) % len(side)][:rows, :columns] for x in range(across)] for y in range(down)]
    return np.ascontiguousarray(np.concatenate([np.concatenate(row, axis=1) for row in cells])[:height, :width])


def coded(bundle: Path, quality: float, pictures: list[Pixels], tables: FrequencyTables) -> list[Image]:
    """What a bundle's networks make of pictures, symbols under skipped indexes set to zero."""
    images = []
    with Codec.open(bundle) as codec:
        for picture in track(pictures, description="encoding", console=Console(stderr=True)):
            symbols, indexes = codec.symbols(picture, quality)
            kept = np.where(indexes < tables.skip_below, 0, symbols).astype(np.int16)
            images.append(Image(symbols=kept, indexes=indexes))
    return images


def _timed(call: Callable[[], Any]) -> npt.NDArray[np.float64]:
    """Seconds of wall-clock and of this thread's CPU time."""
    start = time.perf_counter(), time.thread_time()
    call()
    return np.array([time.perf_counter() - start[0], time.thread_time() - start[1]])


def measure(coders: list[Coder], images: list[Image], rounds: int) -> list[dict[str, Any]]:
    """One row per coder: payload bytes, raw seconds per round.  Coders take turns within a round."""
    rows: list[dict[str, Any]] = []
    for coder in coders:  # warm-up and parity gate
        payloads = [coder.encode(k) for k in range(len(images))]
        for k, (image, payload) in enumerate(zip(images, payloads, strict=True)):
            if not np.array_equal(coder.decode(k, payload), image.symbols):
                raise SystemExit(f"{coder.name} does not return the symbols of image {k}: not measured")
        size = sum(coder.size(p) for p in payloads)
        rows.append({"coder": coder.name, "bytes": size, "payloads": payloads})
        rows[-1].update({f"{way}_{clock}_s": [] for way in WAYS for clock in CLOCKS})
    for _ in range(rounds):
        for coder, row in zip(coders, rows, strict=True):
            seconds = np.zeros((len(WAYS), len(CLOCKS)))
            for k, payload in enumerate(row["payloads"]):
                seconds[0] += _timed(partial(coder.encode, k))
                seconds[1] += _timed(partial(coder.decode, k, payload))
            for w, way in enumerate(WAYS):
                for c, clock in enumerate(CLOCKS):
                    row[f"{way}_{clock}_s"].append(float(seconds[w, c]))
    for row in rows:
        del row["payloads"]
    return rows


def summarize(rows: list[dict[str, Any]], symbols: int, ideal: float, clock: str, statistic: str) -> None:
    """Adds Msymbol/s (median or best round), ratios to CompressAI and the overhead over the ideal to each row."""
    for row in rows:
        for way in WAYS:
            samples = row[f"{way}_{clock}_s"]
            row[f"{way}_msymbols"] = symbols / STATISTICS[statistic](samples) / 1e6
        row["overhead_percent"] = 100 * (8 * row["bytes"] / ideal - 1)
    base = next((r for r in rows if r["coder"] == "compressai"), None)
    for row in rows:
        for way in WAYS:
            row[f"{way}_ratio"] = row[f"{way}_msymbols"] / base[f"{way}_msymbols"] if base else None


def _environment() -> dict[str, Any]:
    packages = ("numpy", "torch", "compressai", "constriction")
    return {
        "cpu": processor(),
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := installed_version(name)) is not None},
        "load": environment.load(),
    }


def _print(report: dict[str, Any]) -> None:
    w = report["workload"]
    print(
        f"{w['images']} images, {w['symbols']} symbols, {100 * w['zeros']:.1f} % zeros, "
        f"{100 * w['skipped']:.1f} % skipped, ideal {w['ideal_bits'] / 8:.0f} bytes"
    )
    print(f"{'coder':14}{'encode':>9}{'decode':>9}  Msymbol/s {'ratios':>16} {'bytes':>10} {'overhead':>9}")
    for r in report["rows"]:
        ratios = f"{r['encode_ratio']:.1f}x {r['decode_ratio']:.1f}x" if r["encode_ratio"] else ""
        print(
            f"{r['coder']:14}{r['encode_msymbols']:9.1f}{r['decode_msymbols']:9.1f}            {ratios:>16} "
            f"{r['bytes']:10} {r['overhead_percent']:8.3f}%"
        )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="folder of pictures")
    source.add_argument("--synthetic", action="store_true", help="320x32x48 latents at about 0.55 bpp")
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--quality", type=float, default=5)
    parser.add_argument("--mosaic", metavar="WxH", help="all pictures as one of this size")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=10, help="batches per image for our coder")
    parser.add_argument("--threads", type=int, default=1, help="more than one: our coder on so many as well")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what the figures rest on")
    parser.add_argument("--statistic", choices=STATISTICS, default="median", help="over the rounds")
    parser.add_argument("--json", type=Path, help="write raw samples and figures here")
    arguments = parser.parse_args()
    if arguments.threads > 1 and arguments.clock == "cpu":
        parser.error("--clock cpu sees one thread only")
    return arguments


def workload(arguments: argparse.Namespace, tables: FrequencyTables) -> tuple[str, list[Image]]:
    """What is coded, by its name."""
    if arguments.synthetic:
        return "synthetic", synthetic(tables)
    pictures = [read_image(path).pixels for path in list_images(arguments.images)]
    name = f"{len(pictures)} pictures"
    if arguments.mosaic:
        width, height = (int(side) for side in arguments.mosaic.split("x"))
        name = f"{name} as one of {width}x{height}"
        pictures = [mosaic(pictures, width, height)]
    images = coded(arguments.bundle, arguments.quality, pictures, tables)
    return f"{name}, {arguments.bundle.name}, quality {arguments.quality:g}", images


def main() -> None:
    arguments = parse()
    tables = gaussian_tables()
    source, images = workload(arguments, tables)
    coders = available(images, tables, arguments.batches, threads=arguments.threads)
    rows = measure(coders, images, arguments.rounds)

    symbols = np.concatenate([i.symbols for i in images])
    indexes = np.concatenate([i.indexes for i in images])
    ideal = ideal_bits(images, tables)
    summarize(rows, len(symbols), ideal, arguments.clock, arguments.statistic)
    report = {
        "workload": {
            "source": source,
            "images": len(images),
            "symbols": len(symbols),
            "batches": arguments.batches,
            "zeros": float(np.mean(symbols == 0)),
            "skipped": float(np.mean(indexes < tables.skip_below)),
            "ideal_bits": ideal,
            "table_bits": tables.ideal_bits(symbols, indexes),
        },
        "environment": _environment(),
        "rounds": arguments.rounds,
        "clock": arguments.clock,
        "statistic": arguments.statistic,
        "rows": rows,
    }
    _print(report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

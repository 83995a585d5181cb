"""Rate and distortion of a bundle through real files, against JPEG, with the checks that keep the figures honest.

    python -m benchmarks.rate_distortion --images KODAK_DIR [--bundle engines/conv-tiny] [--out JSON] [--card MD]

For every picture and quality 1..8: the stream is written to disk and read back; the decoded picture must equal the
encoder's own reconstruction; bpp is file size x 8 / pixels.  The coded size is compared with the ideal code length of
its symbols under the Gaussians that the networks predicted.  JPEG is Pillow's, 4:4:4, optimised tables.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pil
from rich.progress import track

from benchmarks.coder import ideal_bits
from benchmarks.coder_peers import Image
from s2c_deploy import Codec
from s2c_deploy.image import list_images, read_image
from s2c_deploy.metrics import bd_rate, ms_ssim, psnr

QUALITIES = range(1, 9)
JPEG_QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)
Row = dict[str, Any]
Curve = list[dict[str, float]]


def measure_codec(codec: Codec, path: Path, quality: int, folder: Path) -> Row:
    """One picture at one quality, through a file; the row holds what was checked beside what was measured."""
    pixels = read_image(path).pixels
    data = codec.compress(pixels, quality)
    symbols, indexes = codec.symbols(pixels, quality)
    estimate = ideal_bits([Image(symbols=symbols, indexes=indexes)], codec.bundle.tables)
    file = folder / f"{path.stem}.s2c"
    file.write_bytes(data)
    decoded = codec.decompress(file.read_bytes())
    area = pixels.shape[0] * pixels.shape[1]
    return {
        "image": path.stem,
        "quality": quality,
        "bpp": file.stat().st_size * 8 / area,
        "estimated_bpp": estimate / area,
        "psnr": psnr(pixels, decoded),
        "ms_ssim": ms_ssim(pixels, decoded),
        "equals_reconstruction": bool(np.array_equal(decoded, codec.reconstruct(pixels, quality))),
    }


def measure_jpeg(pixels: npt.NDArray[np.uint8], quality: int) -> tuple[float, float]:
    """bpp and PSNR of Pillow's JPEG, 4:4:4, optimised Huffman tables."""
    file = io.BytesIO()
    Pil.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    decoded = np.asarray(Pil.open(file).convert("RGB"))
    return file.tell() * 8 / (pixels.shape[0] * pixels.shape[1]), psnr(pixels, decoded)


def mean_curve(rows: list[Row], key: str) -> Curve:
    """Means over pictures for every value of ``key``, as published curves are: of bpp and of PSNR."""
    values = sorted({row[key] for row in rows})
    numbers = [name for name in rows[0] if isinstance(rows[0][name], float)]
    return [
        {key: value} | {n: float(np.mean([r[n] for r in rows if r[key] == value])) for n in numbers}
        for value in values
    ]


def measure(codec: Codec, images: Path) -> dict[str, Any]:
    """Every picture of a folder at every quality; rows, mean curves and the BD-rate against JPEG."""
    rows: list[Row] = []
    jpeg: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in track(list_images(images), description="measuring"):
            pixels = read_image(path).pixels
            rows += [measure_codec(codec, path, quality, Path(folder)) for quality in QUALITIES]
            for quality in JPEG_QUALITIES:
                bpp, db = measure_jpeg(pixels, quality)
                jpeg.append({"image": path.stem, "quality": quality, "bpp": bpp, "psnr": db})
    curve, anchor = mean_curve(rows, "quality"), mean_curve(jpeg, "quality")
    return {
        "bundle": codec.bundle.config.name,
        "fingerprint": codec.bundle.fingerprint.hex(),
        "backend": codec.backend,
        "pictures": len(rows) // len(QUALITIES),
        "unequal_reconstructions": sum(not row["equals_reconstruction"] for row in rows),
        "bd_rate_against_jpeg": bd_rate(
            [p["bpp"] for p in anchor],
            [p["psnr"] for p in anchor],
            [p["bpp"] for p in curve],
            [p["psnr"] for p in curve],
        ),
        "jpeg_at_same_psnr": _jpeg_ratios(curve, anchor),
        "curve": curve,
        "jpeg": anchor,
        "rows": rows,
    }


def _jpeg_ratios(curve: Curve, anchor: Curve) -> list[float | None]:
    """Our bpp over JPEG's at the same PSNR, per quality (linear in PSNR and log bpp); None outside JPEG's range."""
    x, y = [p["psnr"] for p in anchor], np.log([p["bpp"] for p in anchor])
    inside = [x[0] <= p["psnr"] <= x[-1] for p in curve]
    at = [float(np.exp(np.interp(p["psnr"], x, y))) for p in curve]
    return [p["bpp"] / bpp if ok else None for p, bpp, ok in zip(curve, at, inside, strict=True)]


def table(result: dict[str, Any]) -> str:
    """The curve as a Markdown table."""
    lines = ["| quality | bpp | PSNR dB | MS-SSIM | size over estimate | size over JPEG's at the same PSNR |"]
    lines.append("|---|---|---|---|---|---|")
    for point, ratio in zip(result["curve"], result["jpeg_at_same_psnr"], strict=True):
        over = f"{100 * (point['bpp'] / point['estimated_bpp'] - 1):+.2f} %"
        against = "outside JPEG's range" if ratio is None else f"{100 * (ratio - 1):+.1f} %"
        numbers = f"{point['bpp']:.4f} | {point['psnr']:.2f} | {point['ms_ssim']:.4f}"
        lines.append(f"| {point['quality']:.0f} | {numbers} | {over} | {against} |")
    return "\n".join(lines)


def update_card(card: Path, text: str) -> None:
    """Replaces what stands between the two markers of a model card."""
    begin, end = "<!-- figures -->", "<!-- /figures -->"
    before, rest = card.read_text().split(begin)
    card.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-tiny"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--card", type=Path)
    arguments = parser.parse_args()
    with Codec.open(arguments.bundle, arguments.backend) as codec:
        result = measure(codec, arguments.images)
    unequal = result["unequal_reconstructions"]
    text = (
        f"{result['pictures']} pictures, bundle fingerprint `{result['fingerprint'][:16]}`, {result['backend']}; "
        f"decoded pictures that differ from the encoder's reconstruction: {unequal} of {len(result['rows'])}.\n\n"
        f"{table(result)}\n\nBD-rate against JPEG (Pillow, 4:4:4): {result['bd_rate_against_jpeg']:+.1f} %."
    )
    print(text)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.card is not None:
        update_card(arguments.card, text)


if __name__ == "__main__":
    main()

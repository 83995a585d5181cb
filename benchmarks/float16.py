"""What FP16 graphs cost through real files: PSNR and size of a bundle's streams, float32 against FP16.

    python -m benchmarks.float16 --images KODAK_DIR [--bundle engines/conv-small] [--qualities 1,2,…] [--out JSON]

Every picture is compressed and decompressed with the float32 graphs and with the FP16 ones, run by ONNX Runtime with
every rounding to FP16 explicit (s2c_deploy/export/precision/rounding.py), as it does not round by itself on a CPU.  The
float32 stream is also decoded with the FP16 g_s: that is what a decoder in FP16 loses.  The gate on the mean over the
pictures: at most 0.01 dB at every quality, coded and decoded in FP16.  The BD-rate is of FP16 streams decoded in FP16
against float32 ones decoded in float32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.progress import track

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.networks import Networks
from s2c_deploy.export.precision.half import LIMIT_DB
from s2c_deploy.export.precision.rounding import rounded_graph
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.formats.manifest import FLOAT_GRAPHS
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.metrics import bd_rate, psnr
from s2c_deploy.runtime import open_runner

Row = dict[str, Any]


class _Half(Networks):
    """A bundle's exact graphs, and its FP16 ones as FP16 rounds."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        super().__init__(bundle, "onnxruntime", threads=threads)
        with tempfile.TemporaryDirectory() as folder:
            for name in FLOAT_GRAPHS:
                path = Path(folder) / f"{name}.onnx"
                onnx.save(rounded_graph(onnx.load(bundle.graph(name, "float16"))), path)
                self._runners[name] = open_runner(path, backend="onnxruntime", threads=threads)


def measure_picture(codecs: Mapping[str, Codec], pixels: Pixels, quality: float) -> Row:
    """bpp and PSNR in float32 and FP16, and PSNR of the float32 stream decoded in FP16."""
    streams = {name: codec.compress(pixels, quality) for name, codec in codecs.items()}
    area = pixels.shape[0] * pixels.shape[1]
    row: Row = {"quality": quality}
    for name, codec in codecs.items():
        row[f"bpp_{name}"] = len(streams[name]) * 8 / area
        row[f"psnr_{name}"] = psnr(pixels, codec.decompress(streams[name]))
    row["psnr_decoded_in_float16"] = psnr(pixels, codecs["float16"].decompress(streams["float32"]))
    return row


def measure(bundle: Bundle, images: Path, qualities: list[float], threads: int = 0) -> dict[str, Any]:
    """Rows by picture and quality, and their means by quality."""
    rows: list[Row] = []
    codecs = {
        "float32": Codec(bundle, Networks(bundle, "onnxruntime", threads=threads)),
        "float16": Codec(bundle, _Half(bundle, threads)),
    }
    jobs = [(path, quality) for path in list_images(images) for quality in qualities]
    for path, quality in track(jobs, description="coding"):
        rows.append({"image": path.stem} | measure_picture(codecs, read_image(path).pixels, quality))
    means = []
    for quality in qualities:
        chosen = [row for row in rows if row["quality"] == quality]
        mean = {key: float(np.mean([row[key] for row in chosen])) for key in chosen[0] if key != "image"}
        losses = [row["psnr_float32"] - row["psnr_float16"] for row in chosen]
        mean["loss_db"] = float(np.mean(losses))
        mean["loss_standard_error_db"] = float(np.std(losses) / np.sqrt(len(losses)))
        mean["decoder_loss_db"] = mean["psnr_float32"] - mean["psnr_decoded_in_float16"]
        mean["size_change_percent"] = 100 * (mean["bpp_float16"] / mean["bpp_float32"] - 1)
        means.append(mean)
    return {
        "bundle": bundle.config.name,
        "fingerprint": bundle.fingerprint.hex(),
        "pictures": len(jobs) // len(qualities),
        "limit_db": LIMIT_DB,
        "passes": all(mean["loss_db"] <= LIMIT_DB for mean in means),
        "bd_rate_percent": _bd_rate(means),
        "float32_nodes": {name: graph["float32_nodes"] for name, graph in bundle.manifest["float16"]["graphs"].items()},
        "means": means,
        "rows": rows,
    }


def _bd_rate(means: list[Row]) -> float | None:
    """In percent; None with fewer qualities than a curve needs."""
    if len(means) < 4:
        return None
    c = {name: [mean[name] for mean in means] for name in means[0]}
    return bd_rate(c["bpp_float32"], c["psnr_float32"], c["bpp_float16"], c["psnr_float16"])


def table(result: dict[str, Any]) -> str:
    """The means as a Markdown table."""
    lines = ["| quality | bpp | PSNR dB | lost in FP16 dB | by the decoder alone dB | size |"]
    lines.append("|---|---|---|---|---|---|")
    for mean in result["means"]:
        loss = f"{mean['loss_db']:+.4f} ± {mean['loss_standard_error_db']:.4f}"
        size = f"{mean['size_change_percent']:+.3f} %"
        lines.append(
            f"| {mean['quality']:g} | {mean['bpp_float32']:.4f} | {mean['psnr_float32']:.3f} | {loss} | "
            f"{mean['decoder_loss_db']:+.5f} | {size} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--qualities", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    levels = [level + 1.0 for level in range(bundle.config.levels)]
    qualities = [float(q) for q in arguments.qualities.split(",")] if arguments.qualities else levels
    result = measure(bundle, arguments.images, qualities, arguments.threads)
    verdict = "passes" if result["passes"] else "FAILS"
    change = "" if result["bd_rate_percent"] is None else f"; BD-rate {result['bd_rate_percent']:+.4f} %"
    print(f"{table(result)}\n\n{result['pictures']} pictures; the gate of {LIMIT_DB} dB {verdict}{change}")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What exact integers, FP16 graphs and a bfloat16 g_s cost: size and PSNR of pictures, beside those in float32.

    python -m benchmarks.cost integers --images KODAK [--weights export/conv]
    python -m benchmarks.cost float16 --images KODAK [--bundle engines/conv-small]
    python -m benchmarks.cost bfloat16 --images KODAK [--bundle engines/conv-small] [--backend openvino]

All of them take --qualities 1,3,5,8 and --out FILE.json.  Speed is measured by the bench, not here.

integers: the exact entropy networks against the float ones they were made from.  Both run in PyTorch on the same
pictures with the model's own code lengths (symbols, indexes and means rounded as the coder sees them), so nothing but
the networks' arithmetic differs.

float16: through real files.  Every picture is compressed and decompressed with the float32 graphs and with the FP16
ones, run by ONNX Runtime with every rounding to FP16 explicit (s2c_deploy/export/precision/rounding.py), as it does not
round by itself on a CPU.  The float32 stream is also decoded with the FP16 g_s: that is what a decoder in FP16 loses.
The gate on the mean over the pictures: at most 0.01 dB at every quality, coded and decoded in FP16.  The BD-rate is of
FP16 streams decoded in FP16 against float32 ones decoded in float32.

bfloat16: the same streams, decoded with g_s in float32 and in bfloat16.  PyTorch computes in bfloat16 on any processor
(slowly where it has no instructions for it), so the pixels can be measured anywhere; OpenVINO only where the processor
has it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.progress import track
from torch.nn import functional as F

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.networks import Networks
from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.export.precision.half import LIMIT_DB
from s2c_deploy.export.precision.rounding import rounded_graph
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.formats.manifest import FLOAT_GRAPHS
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.metrics import bd_rate, psnr
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.quantize import exact_model
from s2c_deploy.runtime import open_runner

Row = dict[str, float]
#: What a measurement gives: a table for people, and a record for machines.
Result = tuple[str, dict[str, Any]]


def pictures(folder: Path) -> Iterator[tuple[str, Pixels]]:
    """Names and pixels, under a bar."""
    for path in track(list_images(folder), description="coding", console=Console(stderr=True)):
        yield path.stem, read_image(path).pixels


def means_of(rows: Sequence[Mapping[str, Any]], qualities: Sequence[float]) -> list[Row]:
    """The means over the pictures, by quality."""
    means = []
    for quality in qualities:
        chosen = [row for row in rows if row["quality"] == quality]
        means.append({key: float(np.mean([row[key] for row in chosen])) for key in chosen[0] if key != "image"})
    return means


def bd_rate_of(means: Sequence[Row], base: str, test: str) -> float | None:
    """Of one precision against another, in percent; None with fewer qualities than a curve needs."""
    if len(means) < 4:
        return None
    c = {key: [mean[key] for mean in means] for key in means[0]}
    return bd_rate(c[f"bpp_{base}"], c[f"psnr_{base}"], c[f"bpp_{test}"], c[f"psnr_{test}"])


def shown(cost: float | None) -> str:
    return "not known from fewer than four qualities" if cost is None else f"{cost:+.3f} %"


@torch.no_grad()
def model_point(model: S2CModel, pixels: Pixels, quality: int) -> tuple[float, float]:
    """bpp and PSNR of one picture, padded as the codec does, by the model's own code lengths."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    height, width = x.shape[2:]
    padded = F.pad(x, (0, -width % ALIGNMENT, 0, -height % ALIGNMENT), mode="replicate")
    output = model(padded, torch.tensor([quality - 1]))
    x_hat = torch.round(output.x_hat[:, :, :height, :width].clamp(0, 1) * 255) / 255
    return float(output.bits) / (height * width), float(-10 * np.log10(float((x_hat - x).square().mean())))


def integers(images: Path, weights: Path, qualities: Sequence[int]) -> Result:
    """Exact entropy networks against float ones."""
    checkpoint = load_checkpoint(weights)
    models = {"float": checkpoint.model, "integer": exact_model(checkpoint.model, checkpoint.ranges)}
    rows = []
    for _, pixels in pictures(images):
        for quality in qualities:
            row: Row = {"quality": quality}
            for name, model in models.items():
                row[f"bpp_{name}"], row[f"psnr_{name}"] = model_point(model, pixels, quality)
            rows.append(row)
    means = means_of(rows, qualities)
    cost = bd_rate_of(means, "float", "integer")
    lines = [f"{'quality':>8}{'float bpp':>12}{'PSNR':>9}{'integer bpp':>13}{'PSNR':>9}"]
    for m in means:
        floats = f"{m['bpp_float']:>12.5f}{m['psnr_float']:>9.3f}"
        lines.append(f"{m['quality']:>8g}{floats}{m['bpp_integer']:>13.5f}{m['psnr_integer']:>9.3f}")
    lines.append(f"BD-rate of integers against floats: {shown(cost)}")
    curves = {name: [[m[f"bpp_{name}"], m[f"psnr_{name}"]] for m in means] for name in models}
    record = {"weights_sha256": checkpoint.sha256, "qualities": list(qualities), "bd_rate": cost, **curves}
    return "\n".join(lines), record


class _Half(Networks):
    """A bundle's exact graphs, and its FP16 ones as FP16 rounds."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        super().__init__(bundle, "onnxruntime", threads=threads)
        with tempfile.TemporaryDirectory() as folder:
            for name in FLOAT_GRAPHS:
                path = Path(folder) / f"{name}.onnx"
                onnx.save(rounded_graph(onnx.load(bundle.graph(name, "float16"))), path)
                self._runners[name] = open_runner(path, backend="onnxruntime", threads=threads)


def float16_row(codecs: Mapping[str, Codec], pixels: Pixels, quality: float) -> Row:
    """bpp and PSNR in float32 and FP16, and PSNR of the float32 stream decoded in FP16."""
    streams = {name: codec.compress(pixels, quality) for name, codec in codecs.items()}
    row: Row = {"quality": quality}
    for name, codec in codecs.items():
        row[f"bpp_{name}"] = _bpp(streams[name], pixels)
        row[f"psnr_{name}"] = psnr(pixels, codec.decompress(streams[name]))
    row["psnr_decoded_in_float16"] = psnr(pixels, codecs["float16"].decompress(streams["float32"]))
    return row


def _bpp(stream: bytes, pixels: Pixels) -> float:
    return 8 * len(stream) / float(pixels.shape[0] * pixels.shape[1])


def float16(images: Path, bundle: Bundle, qualities: Sequence[float], threads: int) -> Result:
    """FP16 graphs against float32 ones, through real files."""
    codecs = {
        "float32": Codec(bundle, Networks(bundle, "onnxruntime", threads=threads)),
        "float16": Codec(bundle, _Half(bundle, threads)),
    }
    rows: list[dict[str, Any]] = []
    for name, pixels in pictures(images):
        rows += [{"image": name, **float16_row(codecs, pixels, quality)} for quality in qualities]
    means = means_of(rows, qualities)
    for mean in means:
        losses = [r["psnr_float32"] - r["psnr_float16"] for r in rows if r["quality"] == mean["quality"]]
        mean["loss_db"] = float(np.mean(losses))
        mean["loss_standard_error_db"] = float(np.std(losses) / np.sqrt(len(losses)))
        mean["decoder_loss_db"] = mean["psnr_float32"] - mean["psnr_decoded_in_float16"]
        mean["size_change_percent"] = 100 * (mean["bpp_float16"] / mean["bpp_float32"] - 1)
    record = {
        "bundle": bundle.config.name,
        "fingerprint": bundle.fingerprint.hex(),
        "pictures": len(rows) // len(qualities),
        "limit_db": LIMIT_DB,
        "passes": all(mean["loss_db"] <= LIMIT_DB for mean in means),
        "bd_rate_percent": bd_rate_of(means, "float32", "float16"),
        "float32_nodes": {name: graph["float32_nodes"] for name, graph in bundle.manifest["float16"]["graphs"].items()},
        "means": means,
        "rows": rows,
    }
    return _float16_table(record), record


def _float16_table(record: Mapping[str, Any]) -> str:
    lines = [
        "| quality | bpp | PSNR dB | lost in FP16 dB | by the decoder alone dB | size |",
        "|---|---|---|---|---|---|",
    ]
    for m in record["means"]:
        loss = f"{m['loss_db']:+.4f} ± {m['loss_standard_error_db']:.4f}"
        level = f"| {m['quality']:g} | {m['bpp_float32']:.4f} | {m['psnr_float32']:.3f} |"
        lines.append(f"{level} {loss} | {m['decoder_loss_db']:+.5f} | {m['size_change_percent']:+.3f} % |")
    verdict = "passes" if record["passes"] else "FAILS"
    cost = shown(record["bd_rate_percent"])
    lines += ["", f"{record['pictures']} pictures; the gate of {LIMIT_DB} dB {verdict}; BD-rate {cost}"]
    return "\n".join(lines)


def bfloat16(images: Path, bundle: Path, qualities: Sequence[float], backend: str) -> Result:
    """g_s in bfloat16 against float32, on the same streams."""
    precisions = ("float32", "bfloat16")
    codecs = {p: Codec.open(bundle, backend, precision=p) for p in precisions}
    rows, largest = [], 0
    for _, pixels in pictures(images):
        for quality in qualities:
            data = codecs["float32"].compress(pixels, quality)
            decoded = {p: codec.decompress(data) for p, codec in codecs.items()}
            largest = max(largest, int(np.abs(decoded["float32"].astype(int) - decoded["bfloat16"]).max()))
            row = {"quality": quality}
            for p in precisions:
                row |= {f"bpp_{p}": _bpp(data, pixels), f"psnr_{p}": psnr(pixels, decoded[p])}
            rows.append(row)
    means = means_of(rows, qualities)
    cost = bd_rate_of(means, "float32", "bfloat16")
    worst = max(row["psnr_float32"] - row["psnr_bfloat16"] for row in rows)
    lines = [f"{'quality':>8}{'float32':>10}{'bfloat16':>10}{'loss dB':>9}"]
    for m in means:
        levels = m["psnr_float32"], m["psnr_bfloat16"]
        lines.append(f"{m['quality']:>8g}{levels[0]:>10.3f}{levels[1]:>10.3f}{levels[0] - levels[1]:>9.4f}")
    difference = f"largest difference of a sample {largest} of 255"
    lines.append(f"worst picture {worst:.4f} dB; {difference}; BD-rate {shown(cost)}")
    record = {
        "bundle": codecs["float32"].bundle.config.name,
        "fingerprint": codecs["float32"].bundle.fingerprint.hex(),
        "backend": backend,
        "torch": torch.__version__,
        "pictures": len(rows) // len(qualities),
        "qualities": list(qualities),
        "bpp": [m["bpp_float32"] for m in means],
        "psnr": {p: [m[f"psnr_{p}"] for m in means] for p in precisions},
        "bd_rate_percent": cost,
        "worst_loss": worst,
        "largest_difference": largest,
    }
    for codec in codecs.values():
        codec.close()
    return "\n".join(lines), record


def parse() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--images", type=Path, required=True)
    options.add_argument("--qualities", default="1,3,5,8", help="with commas between")
    options.add_argument("--out", type=Path, help="write the figures here, as JSON")
    of_bundle = argparse.ArgumentParser(add_help=False, parents=[options])
    of_bundle.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("integers", parents=[options]).add_argument("--weights", type=Path, default=Path("export/conv"))
    commands.add_parser("float16", parents=[of_bundle]).add_argument("--threads", type=int, default=0)
    commands.add_parser("bfloat16", parents=[of_bundle]).add_argument("--backend", default="torch")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    named = arguments.qualities.split(",")
    qualities = [float(quality) for quality in named]
    if arguments.command == "integers":
        table, record = integers(arguments.images, arguments.weights, [int(quality) for quality in named])
    elif arguments.command == "float16":
        table, record = float16(arguments.images, open_bundle(arguments.bundle), qualities, arguments.threads)
    else:
        table, record = bfloat16(arguments.images, arguments.bundle, qualities, arguments.backend)
    print(table)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What the exact-integer entropy path is worth: streams of every engine decoded on every other, with either kind.

    python -m benchmarks.cross_engine --images KODAK_DIR                   # the integer networks, as shipped
    python -m benchmarks.cross_engine --images KODAK_DIR --float-entropy   # the float networks they were made from

The float networks exist here only: no stream that anybody can keep is ever made with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from rich.progress import Progress
from torch import Tensor, nn

from s2c_deploy.cli.bench import weights_of
from s2c_deploy.contract import MEAN_LIMIT, MEAN_STEPS, SCALE_LEVELS
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.formats.manifest import file_entries
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.models.entropy_model import GroupContext
from s2c_deploy.models.model import INDEX_GAIN
from s2c_deploy.verify.cross import Agreement, cross_decode


def _coded(parameters: Tensor) -> tuple[Tensor, Tensor]:
    indexes, means = parameters.chunk(2, dim=1)
    limit = MEAN_LIMIT * MEAN_STEPS
    return (
        torch.round(indexes * INDEX_GAIN).clamp(0, SCALE_LEVELS - 1),
        torch.round(means * MEAN_STEPS).clamp(-limit, limit),
    )


class FloatAnchor(nn.Module):
    """The anchor graph of a group, computed in floats."""

    def __init__(self, context: GroupContext) -> None:
        super().__init__()
        self.context = context

    def forward(self, hyper: Tensor, y_prev: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        earlier = hyper[:, :0] if y_prev is None else y_prev / MEAN_STEPS
        features = self.context.features(hyper, earlier)
        return (features, *_coded(self.context.anchor(features)))


class FloatNonanchor(nn.Module):
    """The non-anchor graph of a group, computed in floats."""

    def __init__(self, context: GroupContext) -> None:
        super().__init__()
        self.context = context

    def forward(self, features: Tensor, y_cur: Tensor) -> tuple[Tensor, Tensor]:
        return _coded(self.context.nonanchor(features, y_cur / MEAN_STEPS))


def float_bundle(bundle: Bundle, model: S2CModel, folder: Path) -> Bundle:
    """A copy of a bundle in ``folder`` whose entropy graphs are the float networks."""
    for name in ("g_a", "h_a"):
        (folder / f"{name}.onnx").write_bytes(bundle.graph(name).read_bytes())
    config = bundle.config
    hyper = torch.zeros(1, config.hyper_features, 8, 12)
    features = torch.zeros(1, config.context_width, 8, 12)
    z_hat = torch.zeros(1, config.hyper_channels, 2, 3)
    _trace(folder / "h_s.onnx", model.h_s, {"z_hat": z_hat}, ["hyper"])
    start = 0
    for k, channels in enumerate(config.groups):
        context = model.group_contexts[k]
        inputs = {"hyper": hyper} | ({"y_prev": torch.zeros(1, start, 8, 12)} if start else {})
        outputs = ["features", "indexes", "means"]
        _trace(folder / f"context_{k}_anchor.onnx", FloatAnchor(context), inputs, outputs)
        inputs = {"features": features, "y_cur": torch.zeros(1, channels, 8, 12)}
        _trace(folder / f"context_{k}_nonanchor.onnx", FloatNonanchor(context), inputs, outputs[1:])
        start += channels
    return dataclasses.replace(
        bundle,
        path=folder,
        manifest=_listing(bundle.manifest, folder),
        config=dataclasses.replace(config, operand_bits=11),  # INT8 kernels are for integers
    )


def _listing(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The manifest with the files that lie in ``folder``, and without the integers, which those do not hold."""
    files = manifest["files"] | file_entries({file.name: file.read_bytes() for file in folder.glob("*.onnx")})
    return {key: value for key, value in manifest.items() if key != "numbers"} | {"files": files}


def _trace(file: Path, module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> None:
    axes = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in (*inputs, *outputs)}
    with warnings.catch_warnings():
        # The exporter that needs no package more is an old one, and says so.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(file),
            opset_version=17,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            dynamo=False,
        )
    # The exporter forgets the channels of outputs that are halves of a tensor; graphs are held to their description.
    graph = onnx.load(file)
    with torch.inference_mode():
        found = module(*inputs.values())
    for output, tensor in zip(graph.graph.output, [found] if isinstance(found, Tensor) else found, strict=True):
        output.type.tensor_type.shape.dim[1].dim_value = tensor.shape[1]
    onnx.save(graph, file)


def report(agreements: list[Agreement]) -> str:
    """A Markdown table: pairs of engines, values and symbols that differ, streams that fail."""
    lines = ["| encoded with | decoded with | outputs that differ | symbols wrong | streams that fail |"]
    lines.append("|---|---|---|---|---|")
    for a in agreements:
        outputs = f"{a.differing_outputs:,} of {a.outputs:,}"
        lines.append(f"| {a.encoder} | {a.decoder} | {outputs} | {a.differing_symbols:,} | {a.failed} of {a.streams} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Streams of every engine decoded on every other.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--weights", type=Path, help="of --float-entropy: model folder; the released one if not given")
    parser.add_argument("--qualities", type=float, nargs="+", default=[1, 3, 5, 8])
    parser.add_argument("--backends", nargs="+", default=["openvino", "onnxruntime", "torch"])
    parser.add_argument("--float-entropy", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    pictures = [read_image(path).pixels for path in list_images(arguments.images)]
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        task = bar.add_task("coding")

        def advance(done: int, total: int | None, step: str) -> None:
            bar.update(task, description=step, completed=done, total=total)

        if arguments.float_entropy:
            weights = arguments.weights or weights_of(arguments.bundle)
            if weights is None:
                raise SystemExit(f"{arguments.bundle}: no weights of its preset in export/: name --weights")
            bundle = float_bundle(bundle, load_checkpoint(weights).model, Path(folder))
        agreements = cross_decode(
            bundle,
            pictures,
            arguments.qualities,
            arguments.backends,
            known_answers=not arguments.float_entropy,
            progress=advance,
        )
    print(report(agreements))
    if arguments.out is not None:
        record = {
            "float_entropy": arguments.float_entropy,
            "fingerprint": bundle.fingerprint.hex(),
            "pictures": len(pictures),
            "qualities": arguments.qualities,
            "agreements": [vars(agreement) for agreement in agreements],
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A trained model's folder to a bundle."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from s2c_deploy.contract import ALIGNMENT, EXACT_LIMIT, MEAN_STEPS, SCALE_LEVELS
from s2c_deploy.entropy.tables import FrequencyTables, gaussian_tables
from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.export.entropy_graphs import entropy_graphs
from s2c_deploy.export.numbers import model_numbers
from s2c_deploy.export.parity import check_graph
from s2c_deploy.export.precision import HalfGraphs, half_graphs
from s2c_deploy.export.probes import full_range_probes, probe_graphs
from s2c_deploy.export.syntheses import described_syntheses
from s2c_deploy.export.transform_graphs import transform_graphs
from s2c_deploy.formats.bundle import Bundle, Gains, exact_graphs, npz_bytes, open_bundle, write_bundle
from s2c_deploy.formats.manifest import KNOWN_ANSWERS, SCHEMA_VERSION, TABLES, is_int8
from s2c_deploy.formats.numbers import check_numbers, graph_numbers
from s2c_deploy.formats.numbers import describe as describe_numbers
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.image import read_image
from s2c_deploy.listing import list_images
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint
from s2c_deploy.models.model import INDEX_GAIN
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.progress import Progress, Steps, silent
from s2c_deploy.quantize import activation_ranges, exact_model
from s2c_deploy.quantize.integer_conv import IntegerConv
from s2c_deploy.runtime.probe import FULL_RANGE, Comparison, Probe, probe_arrays

#: Qualities whose numbers the parity gate looks at: the ends and the default.
PARITY_QUALITIES = (1.0, 4.0, 8.0)
#: Known answers are taken from a corner of the first picture of this size: small, but larger than any kernel.
KNOWN_ANSWER_SIZE = (128, 192)

PRECISIONS = ("float32", "float16")


def export_bundle(
    checkpoint: Checkpoint,
    out: Path,
    *,
    images: Path,
    precision: str = "float32",
    io: str = "float32",
    progress: Progress = silent,
) -> Bundle:
    """Writes the bundle of a trained model to ``out`` and opens it.

    images: a folder of photographs for the parity gates; precision: float32, or float16 for FP16 versions of g_a, h_a
    and g_s beside the float32 ones; io: type of those versions' inputs and outputs.

    Nothing is written when a step fails: InputError for unusable arguments, ExportError (ParityError, ExactnessError)
    when the model cannot be exported.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision: expected {', '.join(PRECISIONS)}, found {precision!r}")
    steps = Steps(progress)  # how often the gate of FP16 measures, nobody knows before
    tables, gains = _tables_and_gains(checkpoint)
    pictures = _pictures(images)
    model = _exact(checkpoint, pictures, steps)
    proof = exactness_proof(model)
    steps("writing graphs")
    lighter = {f"g_s.{s.shape.name}": s.module for s in checkpoint.lighter}
    graphs = _graphs(model, checkpoint, lighter)
    files = {f"{name}.onnx": graph.SerializeToString(deterministic=True) for name, graph in graphs.items()}
    described = describe_numbers(model_numbers(model, tables, gains))
    steps("running the model on photographs")
    probes = [probe_graphs(model, gains, pictures[0], quality, lighter) for quality in PARITY_QUALITIES]
    probes += [probe_graphs(model, gains, x, PARITY_QUALITIES[1], lighter) for x in pictures[1:]]
    parity = _gate(files, probes, exact_graphs(checkpoint.config), steps)
    for name in exact_graphs(checkpoint.config):  # as whoever opens the bundle will
        check_numbers(name, graph_numbers(OnnxGraph(name=name, data=files[f"{name}.onnx"]), name), described)
    files[KNOWN_ANSWERS] = npz_bytes(probe_arrays(_known_answers(model, gains, pictures[0], lighter)))
    files[TABLES] = npz_bytes({**tables.to_arrays(), **vars(gains)})

    syntheses = described_syntheses(checkpoint, model, gains, pictures, steps)

    def describe(entries: Mapping[str, object]) -> dict[str, Any]:
        told = {"numbers": described, "syntheses": syntheses}
        return _manifest(checkpoint, graphs, entries, parity, proof) | told

    if precision == "float32":
        write_bundle(out, files, describe)
        return open_bundle(out)
    half = _half(files, describe, images, io, steps)
    files |= {f"{name}.float16.onnx": m.SerializeToString(deterministic=True) for name, m in half.models.items()}
    write_bundle(out, files, lambda entries: describe(entries) | {"float16": half.report})
    return open_bundle(out)


def _exact(checkpoint: Checkpoint, pictures: Sequence[Tensor], steps: Steps) -> S2CModel:
    """The model with entropy networks on integers, of the ranges that were saved or, without, of these pictures."""
    ranges = checkpoint.ranges
    if not ranges:
        steps("calibrating on the photographs")
        ranges = activation_ranges(checkpoint.model, pictures)
    steps("making the entropy networks exact")
    return exact_model(checkpoint.model, ranges)


def _graphs(model: S2CModel, checkpoint: Checkpoint, lighter: Mapping[str, Synthesis]) -> dict[str, onnx.ModelProto]:
    graphs = transform_graphs(model, lighter) | entropy_graphs(model)
    for name, graph in graphs.items():
        _describe(graph, name, checkpoint)
    return graphs


def _known_answers(
    model: S2CModel, gains: Gains, picture: Tensor, lighter: Mapping[str, Synthesis]
) -> dict[str, Probe]:
    """Of a corner of the picture, and of the exact graphs over the full range of their inputs."""
    height, width = KNOWN_ANSWER_SIZE
    corner = picture[:, :, :height, :width].contiguous()
    answers = probe_graphs(model, gains, corner, PARITY_QUALITIES[1], lighter)
    return answers | {name + FULL_RANGE: probe for name, probe in full_range_probes(model).items()}


def _tables_and_gains(checkpoint: Checkpoint) -> tuple[FrequencyTables, Gains]:
    """The Gaussian tables, and behind them those of a factorised prior, which then code the hyper-latent."""
    gaussian, gains = gaussian_tables(), deployed_gains(checkpoint.model)
    if not checkpoint.z_tables:
        return gaussian, gains
    indexes = np.arange(gaussian.count, gaussian.count + len(checkpoint.z_tables), dtype=np.uint8)
    z_indexes = np.tile(indexes, (checkpoint.config.levels, 1))
    return gaussian.extended(checkpoint.z_tables), dataclasses.replace(gains, z_indexes=z_indexes)


def deployed_gains(model: S2CModel) -> Gains:
    """The gains as the runtime multiplies them; inverse_gain includes the 1/16 of y_hat's steps.

    Computed in float64 and rounded once, so that every machine gets the same float32.
    """

    def gain(parameter: Tensor, scale: float = 1.0) -> np.ndarray:
        return (np.exp(parameter.detach().numpy().astype(np.float64)) * scale).astype(np.float32)

    z_indexes = np.clip(np.rint(model.z_index.detach().numpy() * INDEX_GAIN), 0, SCALE_LEVELS - 1)
    return Gains(
        gain=gain(model.log_gain),
        inverse_gain=gain(model.log_inverse_gain, 1 / MEAN_STEPS),
        hyper_gain=gain(model.log_hyper_gain),
        z_indexes=z_indexes.astype(np.uint8),
    )


def exactness_proof(model: S2CModel) -> dict[str, dict[str, float]]:
    """Per integer layer: the largest sum any output channel can reach (below 2^24) and the smallest shift (>= 0).

    ExactnessError when a layer cannot be proven.
    """
    proof = {}
    for module in model.modules():
        if isinstance(module, IntegerConv):
            exact = module.integers()
            proof[module.name] = {
                "bound": float(exact.bound.max()),
                "smallest_shift": float(exact.shifts.min()),
            }
    return proof


def _gate(
    files: Mapping[str, bytes],
    probes: Sequence[Mapping[str, Probe]],
    exact: Sequence[str],
    steps: Steps,
) -> dict[str, Comparison]:
    """Parity of the files as written to disk, by graph."""
    parity = {}
    with tempfile.TemporaryDirectory() as folder:
        for file, data in files.items():
            name = Path(file).stem
            steps(f"checking {name}")
            path = Path(folder) / file
            path.write_bytes(data)
            parity[name] = check_graph(name, path, list(probes), exact=name in exact)
    return parity


def _half(
    files: Mapping[str, bytes],
    describe: Callable[[dict[str, dict[str, object]]], dict[str, Any]],
    images: Path,
    io: str,
    steps: Steps,
) -> HalfGraphs:
    """The FP16 graphs, made and measured on the bundle as it would be without them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32"
        write_bundle(path, files, describe)
        pictures = [read_image(file).pixels for file in list_images(images)]
        return half_graphs(open_bundle(path), pictures, io=io, progress=lambda _done, _total, step: steps(step))


def _pictures(images: Path) -> list[Tensor]:
    """Photographs of a folder, cut to multiples of 64, float32 1 x 3 x H x W in [0, 1]."""
    pictures = []
    for path in list_images(images):
        pixels = read_image(path).pixels
        height, width = (side // ALIGNMENT * ALIGNMENT for side in pixels.shape[:2])
        if height < KNOWN_ANSWER_SIZE[0] or width < KNOWN_ANSWER_SIZE[1]:
            raise InputError(f"{path}: expected at least 192x128 pixels, found {pixels.shape[1]}x{pixels.shape[0]}")
        x = torch.from_numpy(pixels[:height, :width].copy()).permute(2, 0, 1)[None].float() / 255
        pictures.append(x.contiguous())
    return pictures


def _describe(graph: onnx.ModelProto, name: str, checkpoint: Checkpoint) -> None:
    """Fills a graph's metadata; nothing that changes from machine to machine, as the bytes are fingerprinted."""
    exact = name in exact_graphs(checkpoint.config)
    floats = "float32, convolutions of bytes" if is_int8(name) else "float32"
    graph.producer_name = "s2c-deploy"
    graph.producer_version = ""
    graph.doc_string = f"{name} of {checkpoint.config.name}, an S2CFormer image codec"
    properties = {
        "model": checkpoint.config.name,
        "graph": name,
        "weights_sha256": checkpoint.sha256,
        "arithmetic": "exact integers in float32" if exact else floats,
    }
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, properties)


def _manifest(
    checkpoint: Checkpoint,
    graphs: Mapping[str, onnx.ModelProto],
    entries: Mapping[str, object],
    parity: Mapping[str, Comparison],
    proof: Mapping[str, object],
) -> dict[str, Any]:
    exact = exact_graphs(checkpoint.config)
    packages = ("s2c-deploy", "torch", "onnx", "onnxruntime", "numpy")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": checkpoint.config.name,
        "model": checkpoint.config.to_dict(),
        "recipe": checkpoint.recipe,
        "weights_sha256": checkpoint.sha256,
        "files": entries,
        "graphs": {
            name: {
                "file": f"{name}.onnx",
                "exact": name in exact,
                "precision": "float32",
                "inputs": [_tensor(value) for value in graph.graph.input],
                "outputs": [_tensor(value) for value in graph.graph.output],
                "parity": {
                    "relative_difference": parity[name].largest,
                    "differing_values": parity[name].differing,
                },
            }
            for name, graph in graphs.items()
        },
        "exactness": {"limit": EXACT_LIMIT, "layers": proof},
        "tools": {package: metadata.version(package) for package in packages},
    }
    try:
        return dict(json.loads(json.dumps(manifest, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ExportError(f"manifest: expected plain values: {error}") from error


def _tensor(value: onnx.ValueInfoProto) -> dict[str, object]:
    dims = value.type.tensor_type.shape.dim
    shape = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
    return {"name": value.name, "dtype": "float32", "shape": shape}

"""The numbers that decode a stream: the fingerprint that is made of them, and the files that must hold them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from forging import as_schema_1, edit, forge, forge_tables
from onnx import numpy_helper

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import BitstreamError, BundleError
from s2c_deploy.export.graph_writer import GraphWriter
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.formats.bundle import npz_bytes, open_bundle
from s2c_deploy.formats.finding import BundleFinder
from s2c_deploy.formats.fingerprints import fingerprint
from s2c_deploy.formats.manifest import MANIFEST, read_manifest
from s2c_deploy.formats.numbers import describe as describe_numbers
from s2c_deploy.formats.numbers import fingerprint_of, graph_numbers
from s2c_deploy.formats.onnx_graph import OnnxGraph
from s2c_deploy.metrics import psnr
from s2c_deploy.models.entropy_model import CheckerboardConv, pack_nonanchors
from s2c_deploy.quantize.integer_conv import Grid, IntegerConv
from s2c_deploy.runtime import open_runner


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A bundle of the test's own to damage."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def test_the_fingerprint_is_the_documented_one(bundle_path: Path) -> None:
    """docs/bundle.md, followed with the package onnx and nothing of ours."""
    numbers: dict[str, np.ndarray[Any, Any]] = {}
    with np.load(bundle_path / "tables.npz") as arrays:
        for name in ("sizes", "freqs"):
            numbers[f"tables.{name}"] = arrays[name].astype("<u2")
        numbers["tables.centers"] = arrays["centers"].astype("<i4")
        numbers["tables.shifts"] = arrays["shifts"].astype("u1")
        numbers["tables.skip_below"] = np.array([int(arrays["skip_below"])], "<i4")
        numbers["z_indexes"], numbers["inverse_gain"] = arrays["z_indexes"], arrays["inverse_gain"].astype("<f4")
    for name in ["h_s", *(f"context_{k}_{part}" for k in range(5) for part in ("anchor", "nonanchor"))]:
        graph = onnx.load(bundle_path / f"{name}.onnx").graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        users = {value: node for node in graph.node for value in node.input}
        for key, value in values.items():
            if key.endswith(".scale"):
                node = users[key]
                while node.op_type != "Clip":
                    node = users[node.output[0]]
                layer = key.removesuffix(".scale")
                layer = f"{name.rsplit('_', 1)[0]}.{layer}" if layer in ("y_prev", "y_cur") else layer
                numbers[f"{layer}.shift"] = -np.log2(value).ravel().astype("u1")
                numbers[f"{layer}.range"] = np.array([values[limit].item() for limit in node.input[1:]]).astype("<i4")
            elif key.endswith("weight_0.even"):
                kernel = np.zeros((*value.shape[:2], 5, 5), "<i2")
                kernel[:, :, 0::2, 1::2] = value
                kernel[:, :, 1::2, 0::2] = values[key.removesuffix("even") + "odd"]
                numbers[key.removesuffix(".even")] = kernel
            elif ".weight_" in key and not key.endswith("odd"):
                numbers[key] = value.astype("<i2")
            elif key.endswith(".bias"):
                numbers[key] = value.astype("<i4")
    lines = ["s2c numbers 1"]
    for key, value in sorted(numbers.items()):
        lines.append(
            f"{key} {value.dtype.name} {'x'.join(map(str, value.shape))} {sha256(value.tobytes()).hexdigest()}"
        )
    assert open_bundle(bundle_path).fingerprint == sha256("\n".join(lines).encode()).digest()


def test_the_bytes_that_are_hashed() -> None:
    """Literally: another writing of the same numbers would be another fingerprint."""
    described = {
        "a.bias": {"dtype": "int32", "shape": [2], "sha256": sha256(b"\1\0\0\0\xfe\xff\xff\xff").hexdigest()},
        "Z": {"dtype": "uint8", "shape": [1, 3], "sha256": sha256(b"\7\0\xff").hexdigest()},
    }
    numbers = {"a.bias": np.array([1, -2], ">i4"), "Z": np.array([[7, 0, 255]], np.uint8)}
    assert describe_numbers(numbers) == described
    text = (
        b"s2c numbers 1\n"
        b"Z uint8 1x3 6d9db2122fbad5fb2a9c8f0703d50cd0ce6ab5456f80391cca63632583a8a345\n"
        b"a.bias int32 2 b5f56b64f014154a5433fcb074019bb39a5bc74b2004cb4670565d57b5af23b6"
    )
    assert sha256(text).hexdigest() == "c9a1a41363d399740d4dcda34036b522f26b7974e901e63eb1b11c0d5f6ec35e"
    assert fingerprint_of(described) == sha256(text).digest()


def test_the_fingerprint_of_released_weights_stays(bundle_path: Path) -> None:
    """On every machine, and as long as streams of theirs are to be read."""
    assert open_bundle(bundle_path).fingerprint.hex()[:16] == "bf6160c8a66051a6"


def test_what_decodes_a_stream_is_in_the_fingerprint(copy: Path) -> None:
    before = read_manifest(copy)
    for name in before["numbers"]:
        changed = json.loads(json.dumps(before))
        changed["numbers"][name]["sha256"] = "0" * 64
        assert fingerprint(changed) != fingerprint(before), name


def test_files_and_transforms_are_not_in_the_fingerprint(copy: Path) -> None:
    before = read_manifest(copy)
    for name in before["files"]:
        edit(copy, lambda manifest, name=name: manifest["files"][name].update(sha256="0" * 64))  # type: ignore[misc]
    edit(copy, lambda manifest: manifest.update(weights_sha256="0" * 64))
    assert fingerprint(read_manifest(copy)) == fingerprint(before)
    forge_tables(copy, gain=lambda array: array * 2, hyper_gain=lambda array: array * 2, scales=lambda array: array + 1)
    assert fingerprint(read_manifest(copy)) == fingerprint(before)


# --- numbers against what holds them


@pytest.mark.parametrize(
    ("graph", "weights"),
    [("h_s", "h_s.1.weight_0"), ("context_2_anchor", "y_prev.scale"), ("context_0_nonanchor", "limit_1023")],
)
def test_a_graph_of_other_numbers(copy: Path, graph: str, weights: str) -> None:
    """Its bytes are those of the manifest, and its numbers are not: the fingerprint would promise what is not there."""
    model = onnx.load(copy / f"{graph}.onnx")
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == weights)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = array.flat[0] / 2 if weights.endswith(".scale") else array.flat[0] + 1
    tensor.CopyFrom(numpy_helper.from_array(array, weights))
    forge(copy, f"{graph}.onnx", model.SerializeToString())
    bundle = open_bundle(copy)
    with pytest.raises(BundleError, match=r"of the manifest's numbers, found"):
        bundle.read_graph(graph)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a + 0.5, "expected int16 integers"),
        (lambda a: a * 2**20, "expected int16 integers"),
        (lambda a: a * np.nan, "expected int16 integers"),
    ],
)
def test_a_graph_of_no_integers(copy: Path, change: Callable[[Any], Any], says: str) -> None:
    model = onnx.load(copy / "h_s.onnx")
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "h_s.0.weight_0")
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    forge(copy, "h_s.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=says):
        open_bundle(copy).read_graph("h_s")


def test_a_graph_without_the_weights_of_a_layer(copy: Path) -> None:
    model = onnx.load(copy / "h_s.onnx")
    for node in model.graph.node:
        node.input[:] = [name.replace("h_s.1.bias", "other") for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("h_s.1.bias", "other")
    forge(copy, "h_s.onnx", model.SerializeToString())
    with pytest.raises(BundleError, match=r"expected weights h_s.1.bias, found none"):
        open_bundle(copy).read_graph("h_s")


def test_tables_of_other_numbers(copy: Path) -> None:
    with np.load(copy / "tables.npz") as arrays:
        tables = {name: arrays[name] for name in arrays.files}
    tables["z_indexes"][0, 0] ^= 1
    forge(copy, "tables.npz", npz_bytes(tables))
    assert "tables.npz: z_indexes: expected" in refused(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: n.pop("h_s.2.bias"),
        lambda n: n.update({"h_s.9.bias": n["h_s.2.bias"]}),
        lambda n: n["h_s.2.bias"].update(shape=[0]),
        lambda n: n["h_s.2.bias"].update(shape="64"),
        lambda n: n["h_s.2.bias"].update(dtype="in t"),
        lambda n: n["h_s.2.bias"].update(sha256="0"),
        lambda n: n["h_s.2.bias"].update(more=1),
        lambda n: n.update({"a b": n["h_s.2.bias"]}),
        lambda n: n.update({"h_s.2.bias": 3}),
        lambda n: n.clear(),
    ],
)
def test_impossible_lists_of_numbers(copy: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(copy, lambda manifest: change(manifest["numbers"]))
    edit(copy, lambda manifest: manifest.update(fingerprint=fingerprint_or_zeros(manifest)))
    assert "numbers" in refused(copy)


def fingerprint_or_zeros(manifest: dict[str, Any]) -> str:
    try:
        return fingerprint(manifest).hex()
    except (TypeError, KeyError):
        return "0" * 64


# --- bundles of schema 1


def test_a_bundle_of_schema_1(copy: Path) -> None:
    """Its fingerprint is one of files."""
    names = sorted(["h_s.onnx", *(f"context_{k}_{part}.onnx" for k in range(5) for part in ("anchor", "nonanchor"))])
    lines = [f"{n} {sha256((copy / n).read_bytes()).hexdigest()}" for n in [*names, "tables.npz"]]
    weights = json.loads((copy / MANIFEST).read_text())["weights_sha256"]
    text = "\n".join([*lines, f"weights {weights}"])
    old = open_bundle(as_schema_1(copy))
    assert old.fingerprint == sha256(text.encode()).digest()
    assert old.read_graph("h_s").data == (copy / "h_s.onnx").read_bytes()
    edit(copy, lambda manifest: manifest["files"]["h_s.onnx"].update(sha256="0" * 64))
    assert fingerprint(read_manifest(copy)) != old.fingerprint


def test_streams_of_schema_1_are_read_by_the_same_numbers(
    copy: Path, bundle_path: Path, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Codec.open(as_schema_1(copy), "onnxruntime", threads=1) as old:
        stream = old.compress(small_photograph)
        picture = old.decompress(stream)
        assert parse(stream).fingerprint != open_bundle(bundle_path).fingerprint[:8]
        with Codec.open(bundle_path, "onnxruntime", threads=1) as new:
            np.testing.assert_array_equal(new.decompress(stream), picture)
        monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
        assert BundleFinder(None).find(parse(stream).fingerprint, "conv-tiny") == bundle_path
        with Codec.open(bundle_path, "onnxruntime", threads=1) as new:
            other = new.compress(small_photograph)
        # The other way round nothing says that the numbers are the same.
        with pytest.raises(BitstreamError, match="fingerprint"):
            old.decompress(other)


#: Streams of the released weights as earlier versions made them: quality 4.5, a part of kodim23; and y_hat's SHA-256
#: (int32, little-endian, 1/16 steps), as the entropy networks of that time computed it.
EARLIER_STREAMS = ("conv-tiny-schema1.s2c", "conv-tiny-schema2.s2c")
EARLIER_LATENTS = "fdc6f3c4077b852939202da7e25bf205f5c9faa8aaecd4ffe4879bc678092965"


@pytest.mark.parametrize("name", EARLIER_STREAMS)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "torch"])
def test_streams_of_earlier_versions_have_the_same_symbols(
    bundle_path: Path, small_photograph: Pixels, name: str, backend: str
) -> None:
    stream = (Path(__file__).parent.parent / "golden" / name).read_bytes()
    with Codec.open(bundle_path, backend) as codec:
        (y_hat,) = codec.read_latents(parse(stream))
        assert sha256(y_hat.astype("<i4").tobytes()).hexdigest() == EARLIER_LATENTS
        assert psnr(codec.decompress(stream), small_photograph) > 30


def test_a_checkerboard_is_the_whole_kernel_without_its_zeros() -> None:
    """Against a dense 5x5 convolution, at every size that a latent can have."""
    torch.manual_seed(0)
    conv = CheckerboardConv(3, 5)
    grid = Grid(exponents=torch.zeros(3), limit=1023)
    layer = IntegerConv(
        "context_0.spatial", [conv], [grid], largest_weight=2047, out=torch.zeros(5), low=-500, high=500
    ).eval()
    writer = GraphWriter("checkerboard")
    y = writer.input("y_cur", ["batch", 3, "height", "width"])
    out = writer.checkerboard_conv(layer, *writer.planes(y, parity=0))
    writer.output(out, "means", ["batch", 5, "height", "packed_width"])
    graph = OnnxGraph(name="checkerboard", data=writer.model().SerializeToString())
    for height, width in ((4, 4), (4, 8), (12, 4), (8, 20)):
        values = torch.randint(-1023, 1024, (2, 3, height, width)).float()
        rows, columns = np.mgrid[:height, :width]
        anchors = values * torch.from_numpy((rows + columns) % 2 == 0)
        expected = pack_nonanchors(layer(anchors)).detach().numpy()
        assert np.unique(expected).size > 50
        for backend in ("onnxruntime", "openvino", "torch"):
            with open_runner(graph, backend=backend) as runner:
                np.testing.assert_array_equal(runner({"y_cur": anchors.numpy()})["means"], expected)


def test_a_checkerboard_of_strange_parts(bundle_path: Path) -> None:
    """Parts that do not make a 5x5 kernel are refused, not broadcast."""
    graph = onnx.load(bundle_path / "context_0_nonanchor.onnx")
    for weight in graph.graph.initializer:
        if weight.name.endswith("weight_0.odd"):
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, :1], weight.name))
    with pytest.raises(BundleError, match="expected 3x2 and 2x3"):
        graph_numbers(OnnxGraph(name="x", data=graph.SerializeToString()), "context_0_nonanchor")

"""The numbers that decode a stream, in a form of their own, and the fingerprint that is made of them.

What a decoder computes between two symbols is integers: weights, biases, shifts and ranges of the entropy networks'
layers, frequency tables, and which table codes which hyper-latent channel; what it hands to g_s has the scale of the
inverse gains.  Here each is an array with a name, whatever files hold it and whatever form a graph has
(docs/bundle.md, "Fingerprint").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.errors import BundleError
from s2c_deploy.formats.onnx_graph import OnnxGraph, Weights, graph_nodes, graph_weights

#: First line of what is hashed: another form of the numbers would have another.
FORM = "s2c numbers 1"
#: Types of the arrays, little-endian, by the last part of their names.
_DTYPES = {"bias": "int32", "shift": "uint8", "range": "int32"}
_TABLES = {"sizes": "uint16", "freqs": "uint16", "centers": "int32", "shifts": "uint8", "skip_below": "int32"}

Numbers = dict[str, npt.NDArray[Any]]


def layers_of(graph: str) -> dict[str, int]:
    """The integer layers of an exact graph, and how many inputs each sums over."""
    if graph == "h_s":
        return {f"h_s.{i}": 1 for i in range(3)}
    context, part = graph.rsplit("_", 1)
    first = {"input": 1 if context == "context_0" else 2, "mix": 1} if part == "anchor" else {"spatial": 1}
    return {f"{context}.{layer}": inputs for layer, inputs in (first | {f"{part}.0": 1, f"{part}.1": 1}).items()}


def names_of(graph: str) -> list[str]:
    """The names of an exact graph's arrays."""
    names = []
    for layer, inputs in layers_of(graph).items():
        names += [f"{layer}.weight_{i}" for i in range(inputs)] + [f"{layer}.{part}" for part in _DTYPES]
    context, latents = graph.rsplit("_", 1)[0], _latents(graph)
    return names + [f"{context}.{latents}.{part}" for part in ("shift", "range") if latents]


def _latents(graph: str) -> str | None:
    """The input of a context whose latents are brought into a range."""
    if graph.endswith("_nonanchor"):
        return "y_cur"
    return "y_prev" if graph.endswith("_anchor") and graph != "context_0_anchor" else None


def table_numbers(arrays: Mapping[str, npt.NDArray[Any]]) -> Numbers:
    """Those of ``tables.npz``: the tables, z_indexes and inverse_gain; not what only an encoder reads."""
    numbers: Numbers = {f"tables.{name}": np.atleast_1d(arrays[name]).astype(kind) for name, kind in _TABLES.items()}
    return numbers | {name: np.asarray(arrays[name]) for name in ("z_indexes", "inverse_gain")}


def layer_numbers(
    layer: str, weights: Weights, bias: npt.NDArray[Any], shift: npt.NDArray[Any], low: float, high: float
) -> Numbers:
    """One layer's: weights by input's number, O x I x k x k; bias and shift, O.  BundleError for what is no integer."""
    numbers: Numbers = {f"{layer}.weight_{i}": _whole(layer, weight, "int16") for i, weight in weights.items()}
    parts = {"bias": bias, "shift": shift, "range": np.array([low, high])}
    return numbers | {f"{layer}.{name}": _whole(layer, parts[name], kind) for name, kind in _DTYPES.items()}


def latent_numbers(name: str, shift: npt.NDArray[Any], low: float, high: float) -> Numbers:
    """How latents are brought into a range before a layer; name: as context_1.y_prev."""
    return {
        f"{name}.shift": _whole(name, shift, _DTYPES["shift"]),
        f"{name}.range": _whole(name, np.array([low, high]), _DTYPES["range"]),
    }


def _whole(name: str, values: npt.NDArray[Any], kind: str) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore"):  # not-a-number becomes something else, and is found by that
        whole = np.asarray(values).astype(kind)
    if not np.array_equal(whole, values):
        raise BundleError(f"{name}: expected {kind} integers, found others", hint="export the bundle again")
    return whole


def graph_numbers(graph: OnnxGraph, name: str) -> Numbers:
    """The numbers inside an exact graph's file; BundleError where they are not where the exporter puts them."""
    weights = graph_weights(graph)
    reading = _Reading(weights, {tuple(node.inputs): node.outputs[0] for node in graph_nodes(graph)}, graph.name)
    numbers: Numbers = {}
    for layer, inputs in layers_of(name).items():
        kernels = {str(i): reading.kernel(f"{layer}.weight_{i}") for i in range(inputs)}
        scale = f"{layer}.scale"
        low, high = reading.limits(scale)
        bias = reading.weight(f"{layer}.bias")
        numbers |= layer_numbers(layer, kernels, bias, _shift(layer, reading.weight(scale)), low, high)
    if (latents := _latents(name)) is not None:
        low, high = reading.limits(f"{latents}.scale")
        shift = _shift(latents, reading.weight(f"{latents}.scale"))
        numbers |= latent_numbers(f"{name.rsplit('_', 1)[0]}.{latents}", shift, low, high)
    return numbers


class _Reading:
    """Where a graph's file has what: its weights, and the output of a node by its inputs."""

    def __init__(self, weights: Weights, outputs: Mapping[tuple[str, ...], str], file: str) -> None:
        self._weights, self._file = weights, file
        self._by_input = {name: (names, out) for names, out in outputs.items() for name in names}

    def weight(self, name: str) -> npt.NDArray[Any]:
        if name not in self._weights:
            raise BundleError(f"{self._file}: expected weights {name}, found none", hint="export the bundle again")
        return self._weights[name]

    def kernel(self, name: str) -> npt.NDArray[Any]:
        """A convolution's weights; a checkerboard's 5x5 from its rows of even and of odd distance, as they may lie
        there without the taps that are zero."""
        if name in self._weights or f"{name}.even" not in self._weights:
            return self.weight(name)
        even, odd = self.weight(f"{name}.even"), self.weight(f"{name}.odd")
        if even.shape[2:] != (3, 2) or odd.shape != (*even.shape[:2], 2, 3):
            raise BundleError(f"{self._file}: {name}: expected 3x2 and 2x3, found {even.shape} and {odd.shape}")
        whole = np.zeros((*even.shape[:2], 5, 5), even.dtype)
        whole[:, :, 0::2, 1::2], whole[:, :, 1::2, 0::2] = even, odd
        return whole

    def limits(self, scale: str) -> tuple[float, float]:
        """The limits of the Clip that comes after the product with a scale: Mul, for latents Add of a half, Floor,
        Clip."""
        value = scale
        for _ in range(4):
            inputs, value = self._by_input.get(value, ((), ""))
            if len(inputs) == 3:
                low, high = (float(self.weight(name).reshape(-1)[0]) for name in inputs[1:])
                return low, high
        raise BundleError(f"{self._file}: expected a Clip after {scale}, found none", hint="export the bundle again")


def _shift(name: str, scale: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """k of 2^-k, one per channel."""
    mantissa, exponent = np.frexp(scale.reshape(-1))
    if not (mantissa == 0.5).all():
        raise BundleError(f"{name}: expected powers of two, found others", hint="export the bundle again")
    shift: npt.NDArray[np.int32] = 1 - exponent
    return shift


def describe(numbers: Numbers) -> dict[str, dict[str, Any]]:
    """The arrays as a manifest lists them: dtype, shape, and the SHA-256 of their bytes."""
    return {
        name: {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": _digest(array)}
        for name, array in sorted(numbers.items())
    }


def _digest(array: npt.NDArray[Any]) -> str:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


def fingerprint_of(described: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The SHA-256 of a line per array, in the byte order of the names."""
    lines = [FORM]
    for name, entry in sorted(described.items()):
        shape = "x".join(map(str, entry["shape"]))
        lines.append(f"{name} {entry['dtype']} {shape} {entry['sha256']}")
    return hashlib.sha256("\n".join(lines).encode()).digest()


def check_numbers(where: str, numbers: Numbers, listed: Mapping[str, Any]) -> None:
    """BundleError unless the manifest lists these arrays with these bytes."""
    for name, entry in describe(numbers).items():
        if listed.get(name) != entry:
            raise BundleError(
                f"{where}: {name}: expected {entry} of the manifest's numbers, found {listed.get(name)!r:.200}",
                hint="fetch or export the bundle again",
            )

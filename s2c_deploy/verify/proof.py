"""Proof, from an ONNX file alone, that its arithmetic is exact in float32 (docs/entropy.md).

Walks the graph with the largest magnitude that every channel can have.  Sums of integers below 2^24 in magnitude are
exact in any order; so are products with powers of two.  Nothing is believed but the weights in the file and the ranges
of the graph's inputs, which the codec guarantees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from s2c_deploy.contract import EXACT_INPUTS, PARAMETER_LIMIT, SCALE_LEVELS
from s2c_deploy.errors import ExactnessError
from s2c_deploy.formats.onnx_graph import OnnxGraph

#: What float32 sums exactly, and what TF32 takes as it is.  Not the contract's, which the exporter keeps to.
EXACT_LIMIT = 2**24
OPERAND_LIMIT = 2**11
#: Largest magnitudes of the inputs, and of what else comes out.
INPUT_LIMITS = {name: max(-low, high) for name, (low, high) in EXACT_INPUTS.items()}
OUTPUT_LIMITS = INPUT_LIMITS | {"indexes": SCALE_LEVELS - 1, "means": PARAMETER_LIMIT}
MOST_CHANNELS = 1 << 16

Bounds = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Range:
    """What the values of a tensor can be, per channel."""

    #: Largest magnitude.
    limit: Bounds
    #: A power of two that every value is a multiple of.
    unit: Bounds

    @property
    def whole(self) -> bool:
        """Whether all values are integers."""
        return bool((self.unit >= 1).all())


def _integers(limit: Bounds) -> Range:
    return Range(limit=limit, unit=np.ones_like(limit))


@dataclass(frozen=True, kw_only=True)
class LayerProof:
    """One convolution sum."""

    layer: str
    #: Largest magnitude that any of its channels can reach, in any order of summation.
    bound: float


@dataclass(kw_only=True)
class _Walk:
    """State of one pass over a graph."""

    graph: str
    constants: Mapping[str, npt.NDArray[Any]]
    ranges: dict[str, Range]
    layers: list[LayerProof] = field(default_factory=list)

    def fail(self, node: onnx.NodeProto, what: str) -> ExactnessError:
        return ExactnessError(f"{self.graph}: {node.name}: {what}", hint="export the bundle again")

    def define(self, name: str, result: Range) -> None:
        """A value has one meaning: no name may come twice."""
        if name in self.ranges or name in self.constants:
            raise ExactnessError(f"{self.graph}: {name}: expected every name once", hint="export the bundle again")
        self.ranges[name] = result

    def axis_of(self, node: onnx.NodeProto) -> int | None:
        """The attribute axis."""
        found = [helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"]
        return found[0] if len(found) == 1 else None

    def check(self, node: onnx.NodeProto, limit: Bounds) -> None:
        channel = int(np.argmax(limit))
        if limit[channel] >= EXACT_LIMIT:
            raise self.fail(node, f"channel {channel}: expected sums below 2^24, found {limit[channel]:.0f}")


def prove_graph(source: OnnxGraph | Path) -> list[LayerProof]:
    """The bound of every convolution of an exact graph; ExactnessError names the node and channel that has none."""
    source = OnnxGraph.read(source) if isinstance(source, Path) else source
    try:
        return _prove(onnx.load_model_from_string(source.data))
    except ExactnessError:
        raise
    except Exception as error:  # of a graph that is none: protobuf's DecodeError, KeyError, IndexError, ValueError …
        raise ExactnessError(
            f"{source.name}: expected a graph that can be proven, found {type(error).__name__}: {error!s:.200}",
            hint="export the bundle again",
        ) from error


def _prove(model: onnx.ModelProto) -> list[LayerProof]:
    if not model.graph.output:
        raise ExactnessError("expected a graph with outputs, found none", hint="export the bundle again")
    constants = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    ranges: dict[str, Range] = {}
    walk = _Walk(graph=model.graph.name, constants=constants, ranges=ranges)
    for value in model.graph.input:
        if value.name not in INPUT_LIMITS:
            raise ExactnessError(f"{walk.graph}: expected inputs {', '.join(INPUT_LIMITS)}, found {value.name}")
        channels = value.type.tensor_type.shape.dim[1].dim_value
        if not 0 < channels <= MOST_CHANNELS:
            found = f"{walk.graph}: {value.name}: expected up to {MOST_CHANNELS} channels, found {channels}"
            raise ExactnessError(found, hint="export the bundle again")
        walk.define(value.name, _integers(np.full(channels, float(INPUT_LIMITS[value.name]))))
    for node in model.graph.node:
        if node.op_type not in _RULES:
            raise walk.fail(node, f"expected an operator that stays exact, found {node.op_type}")
        for name, result in zip(node.output, _RULES[node.op_type](walk, node), strict=True):
            walk.define(name, result)
    for value in model.graph.output:
        result = ranges[value.name]
        promised = OUTPUT_LIMITS.get(value.name, EXACT_LIMIT)
        if not result.whole or float(result.limit.max()) > promised:
            raise ExactnessError(
                f"{walk.graph}: output {value.name}: expected integers within {promised}, "
                f"found {float(result.limit.max()):g}{'' if result.whole else ', not whole'}"
            )
    return walk.layers


def _conv(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    x, weight = walk.ranges[node.input[0]], walk.constants[node.input[1]].astype(np.float64)
    bias = walk.constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros(len(weight))
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if weight.ndim != 4 or bias.shape != weight.shape[:1]:
        raise walk.fail(node, f"expected four dimensions and a bias a channel, found {weight.shape} and {bias.shape}")
    if attributes.get("group", 1) != 1 or weight.shape[1] != x.limit.size:
        raise walk.fail(node, f"expected {x.limit.size} ungrouped input channels, found {weight.shape[1]}")
    if not (x.whole and (weight == np.rint(weight)).all() and (bias == np.rint(bias)).all()):
        raise walk.fail(node, "expected integer inputs, weights and biases")
    largest = max(float(np.abs(weight).max()), float(x.limit.max()))
    if largest > OPERAND_LIMIT:
        raise walk.fail(node, f"expected operands up to 2^11, found {largest:.0f}")
    limit = (np.abs(weight).sum((2, 3)) * x.limit).sum(1) + np.abs(bias)
    walk.check(node, limit)
    walk.layers.append(LayerProof(layer=node.name, bound=float(limit.max())))
    return [_integers(limit)]


def _add(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    a, b = (walk.ranges.get(name) for name in node.input)
    if a is not None and b is not None:
        if a.limit.size != b.limit.size:
            raise walk.fail(node, f"expected as many channels, found {a.limit.size} and {b.limit.size}")
        limit = a.limit + b.limit
        walk.check(node, limit)
        if not (a.whole and b.whole):
            raise walk.fail(node, "expected integers")
        if node.input[1].startswith("conv"):
            walk.layers.append(LayerProof(layer=node.name, bound=float(limit.max())))
        return [_integers(limit)]
    constant = walk.constants[node.input[1]]
    if a is None or constant.size != 1 or float(constant.reshape(-1)[0]) != 0.5:
        raise walk.fail(node, "expected another value or 1/2 to be added")
    result = Range(limit=a.limit + 0.5, unit=np.minimum(a.unit, 0.5))
    # A multiple of a power of two is exact in float32 while it is below 2^24 times it.
    walk.check(node, result.limit / result.unit)
    return [result]


def _mul(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    x, scale = walk.ranges[node.input[0]], walk.constants[node.input[1]].astype(np.float64).reshape(-1)
    fractions, _ = np.frexp(scale)
    # One a channel stands along the channels: along the width it would be another one for every column.
    shape = walk.constants[node.input[1]].shape
    placed = scale.size == 1 or shape in ((1, x.limit.size, 1, 1), (x.limit.size, 1, 1))
    if not ((fractions == 0.5).all() and (scale <= 1).all() and placed):
        raise walk.fail(node, "expected powers of two up to 1, one a channel")
    return [Range(limit=x.limit * scale, unit=x.unit * scale)]


def _floor(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    return [_integers(np.ceil(walk.ranges[node.input[0]].limit))]


def _clip(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    x = walk.ranges[node.input[0]]
    (low,), (high,) = (walk.constants[name].reshape(-1).tolist() for name in node.input[1:])
    if not (low <= 0 <= high and low == np.rint(low) and high == np.rint(high)):
        raise walk.fail(node, f"expected whole bounds around 0, found {low:g} and {high:g}")
    return [Range(limit=np.minimum(x.limit, max(-low, high)), unit=x.unit)]


def _slice(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    """Of rows and columns: channels stay where they are."""
    axes = walk.constants[node.input[3]].reshape(-1).tolist()
    if not set(axes) <= {2, 3}:
        raise walk.fail(node, f"expected rows and columns to be cut, found axes {axes}")
    return [walk.ranges[node.input[0]]]


def _concat(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    parts = [walk.ranges[name] for name in node.input]
    if walk.axis_of(node) != 2:
        raise walk.fail(node, "expected rows to be put below one another")
    limits, units = ([getattr(part, name) for part in parts] for name in ("limit", "unit"))
    return [Range(limit=np.max(limits, axis=0), unit=np.min(units, axis=0))]


def _split(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    if walk.axis_of(node) != 1:
        raise walk.fail(node, "expected channels to be split")
    x, ends = walk.ranges[node.input[0]], np.cumsum(walk.constants[node.input[1]])[:-1]
    return [Range(limit=a, unit=b) for a, b in zip(np.split(x.limit, ends), np.split(x.unit, ends), strict=True)]


def _depth_to_space(walk: _Walk, node: onnx.NodeProto) -> list[Range]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if attributes != {"blocksize": 2, "mode": b"CRD"}:
        raise walk.fail(node, f"expected blocks of 2 in the order CRD, found {attributes}")
    x = walk.ranges[node.input[0]]
    return [Range(limit=x.limit.reshape(-1, 4).max(1), unit=x.unit.reshape(-1, 4).min(1))]


_RULES: dict[str, Callable[[_Walk, onnx.NodeProto], list[Range]]] = {
    "Add": _add,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Floor": _floor,
    "Mul": _mul,
    "Slice": _slice,
    "Split": _split,
}

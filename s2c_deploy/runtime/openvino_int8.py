"""The convolutions of an exact graph on INT8 kernels of OpenVINO's CPU plugin: the same integers, in fewer bits.

Inputs that are whole numbers of a byte, times weights that are, give the sums that float32 gives, below 2^24 (that is
proven), and both hold them.  In OpenVINO's own graph a FakeQuantize whose steps are 1 tells the plugin that a tensor is
such: it changes no value.  The plugin then multiplies bytes, adds in 32 bits and goes on in float32.
"""

from __future__ import annotations

from importlib import import_module
from math import inf
from typing import Any

import numpy as np

from s2c_deploy.contract import EXACT_INPUTS
from s2c_deploy.errors import EngineError
from s2c_deploy.runtime.silent import import_openvino

import_openvino()
ops = import_module("openvino.opset13")

#: What unsigned and signed bytes hold.
_BYTES = ((0, 255), (-128, 127))


def multiply_bytes_in_place(model: Any) -> int:
    """Rewrites every convolution of an openvino.Model of an exact graph; returns how many there were.

    EngineError where one has weights or inputs beyond a byte.  Inputs must be whole numbers, as the proof of the graph
    says (``verify/proof.py``): only their limits are looked at here.
    """
    found = [node for node in model.get_ops() if node.get_type_name() == "Convolution"]
    for node in found:
        x, weight = node.input_value(0), node.input_value(1).get_node()
        limits = _limits(x.get_node())
        byte = next((byte for byte in _BYTES if byte[0] <= limits[0] and limits[1] <= byte[1]), None)
        if byte is None or weight.get_type_name() != "Constant" or not _is_bytes(weight.data):
            raise EngineError(
                f"{node.get_friendly_name()}: expected operands of a byte, found inputs from {limits[0]:g} to "
                f"{limits[1]:g} and weights up to {_largest(weight):g}"
            )
        node.input(0).replace_source_output(_told(x, *byte).output(0))
        node.input(1).replace_source_output(_stored(weight.data).output(0))
    model.validate_nodes_and_infer_types()
    return len(found)


def _limits(node: Any) -> tuple[float, float]:
    """The smallest and the largest value that a node can give, as far as that can be read off."""
    kind, sources = node.get_type_name(), [value.get_node() for value in node.input_values()]
    if kind == "Parameter":
        return EXACT_INPUTS.get(node.output(0).get_any_name(), (-inf, inf))
    if kind in ("Maximum", "Minimum"):  # what the reader of ONNX makes of Clip
        bounds = [source for source in sources if source.get_type_name() == "Constant"]
        inner = [_limits(source) for source in sources if source.get_type_name() != "Constant"]
        if len(bounds) == len(inner) == 1 and bounds[0].data.size == 1:
            pick, bound = max if kind == "Maximum" else min, float(bounds[0].data.item())
            return pick(inner[0][0], bound), pick(inner[0][1], bound)
    if kind == "DepthToSpace":
        return _limits(sources[0])
    return -inf, inf


def _is_bytes(weight: Any) -> bool:
    return bool((weight == np.rint(weight)).all() and (np.abs(weight) <= 127).all())


def _largest(weight: Any) -> float:
    return float(np.abs(weight.data).max()) if weight.get_type_name() == "Constant" else inf


def _told(x: Any, low: int, high: int) -> Any:
    low_end, high_end = (ops.constant(np.float32(bound).reshape(1, 1, 1, 1)) for bound in (low, high))
    return ops.fake_quantize(x, low_end, high_end, low_end, high_end, high - low + 1)


def _stored(weight: Any) -> Any:
    """Weights as the plugin wants them: bytes, converted, times a scale per output channel."""
    ones = ops.constant(np.ones((weight.shape[0], 1, 1, 1), np.float32))
    return ops.multiply(ops.convert(ops.constant(weight.astype(np.int8)), "f32"), ones)

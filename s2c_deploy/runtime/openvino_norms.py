"""LayerNorms over channels without the transpositions around them, as OpenVINO's CPU plugin runs them faster.

ONNX's LayerNormalization has the last axis only, so the exporter transposes before and after it.  In OpenVINO's own
graph the same mean, variance and scale are taken over the axis where channels are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from s2c_deploy.runtime.silent import import_openvino

import_openvino()
ops = import_module("openvino.opset13")

#: The axes of a picture batch x C x H x W with its channels last, and back.
_LAST, _BACK = [0, 2, 3, 1], [0, 3, 1, 2]


def normalise_in_place(model: Any) -> int:
    """Rewrites every transposition, LayerNorm, transposition back of an openvino.Model; returns how many there were."""
    found = [(node, parts) for node in model.get_ops() if (parts := _parts(node)) is not None]
    for back, (x, weight, bias, epsilon) in found:
        back.output(0).replace(_normalised(x, weight, bias, epsilon).output(0))
    model.validate_nodes_and_infer_types()
    return len(found)


def _parts(back: Any) -> tuple[Any, Any, Any, float] | None:
    """Of the last node of such a chain: what goes in, weight and bias of C, epsilon; None for any other node."""
    if not _is_transpose(back, _BACK):
        return None
    chain = [back]
    for kind in ("Add", "Multiply", "MVN"):
        node = chain[-1].input_value(0).get_node()
        # Whoever else reads it needs it as it is.
        if node.get_type_name() != kind or len(node.output(0).get_target_inputs()) != 1:
            return None
        chain.append(node)
    _, add, multiply, norm = chain
    first, told = norm.input_value(0).get_node(), norm.get_attributes()
    weight, bias = (node.input_value(1).get_node() for node in (multiply, add))
    constant = all(node.get_type_name() == "Constant" and node.data.ndim == 1 for node in (weight, bias))
    inside = told["normalize_variance"] and told["eps_mode"].lower() == "inside_sqrt"
    if not (_is_transpose(first, _LAST) and _axes(norm) == [-1] and constant and inside):
        return None
    return first.input_value(0), weight.data, bias.data, float(told["eps"])


def _is_transpose(node: Any, order: list[int]) -> bool:
    if node.get_type_name() != "Transpose":
        return False
    found = node.input_value(1).get_node()
    return bool(found.get_type_name() == "Constant" and found.data.tolist() == order)


def _axes(norm: Any) -> list[int] | None:
    """Constants, or the range from -1 that the reader of ONNX makes."""
    node = norm.input_value(1).get_node()
    if node.get_type_name() == "Constant":
        return [int(axis) for axis in node.data.reshape(-1)]
    bounds = [value.get_node() for value in node.input_values()]
    if node.get_type_name() != "Range" or any(bound.get_type_name() != "Constant" for bound in bounds):
        return None
    return list(range(*(int(bound.data.reshape(-1)[0]) for bound in bounds)))


def _normalised(x: Any, weight: Any, bias: Any, epsilon: float) -> Any:
    channels = ops.constant(np.array([1], np.int64))
    scale, shift = (ops.constant(np.asarray(part, np.float32).reshape(1, -1, 1, 1)) for part in (weight, bias))
    centred = ops.subtract(x, ops.reduce_mean(x, channels, keep_dims=True))
    variance = ops.reduce_mean(ops.multiply(centred, centred), channels, keep_dims=True)
    deviation = ops.sqrt(ops.add(variance, ops.constant(np.float32(epsilon))))
    return ops.add(ops.multiply(ops.divide(centred, deviation), scale), shift)

"""The exact graphs without what OpenVINO's CPU plugin copies value by value: every second row and column of a tensor,
and the halves of its channels.

A convolution of such a plane is one of the whole tensor, with steps of 2 between its positions and between its taps.
Halves of what a convolution gives are two convolutions.  Sums are the same, and they are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from s2c_deploy.runtime.silent import import_openvino

import_openvino()
ops = import_module("openvino.opset13")

#: What computes value by value, its constants per channel.
_POINTWISE = {"Add": ops.add, "Floor": ops.floor, "Maximum": ops.maximum, "Minimum": ops.minimum}
_POINTWISE |= {"Multiply": ops.multiply}


def convolve_whole_in_place(model: Any) -> int:
    """Rewrites every convolution of an openvino.Model that reads a plane or whose channels are divided; returns how
    many there were.  Tensors have an even number of rows and of columns, as latents do."""
    planes = [(node, found) for node in model.get_ops() if (found := _plane_behind(node)) is not None]
    for node, (plane, chain) in planes:
        node.output(0).replace(_dilated(node, plane, chain).output(0))
    divided = [(node, found) for node in model.get_ops() if (found := _convolution_behind(node)) is not None]
    for node, (convolution, chain) in divided:
        _divide(node, convolution, chain)
    model.validate_nodes_and_infer_types()
    return len(planes) + len(divided)


def _plane_behind(node: Any) -> tuple[Any, list[Any]] | None:
    """Of a convolution: the Slice of every second row and column that it reads, and what is computed in between."""
    if node.get_type_name() != "Convolution":
        return None
    plane, chain = _behind(node.input_value(0).get_node())
    constants = [_constant(value.get_node()) for value in plane.input_values()[1:]]
    if plane.get_type_name() != "Slice" or len(constants) != 4 or any(found is None for found in constants):
        return None
    _, _, steps, axes = (found.tolist() for found in constants if found is not None)
    one = all(node.get_attributes()[name] == [1, 1] for name in ("strides", "dilations"))
    return (plane, chain) if one and steps == [2, 2] and axes == [2, 3] else None


def _convolution_behind(node: Any) -> tuple[Any, list[Any]] | None:
    """Of a VariadicSplit of channels: the convolution whose they are, and what is computed in between."""
    if node.get_type_name() != "VariadicSplit":
        return None
    convolution, chain = _behind(node.input_value(0).get_node())
    axis, sizes = (_constant(value.get_node()) for value in node.input_values()[1:])
    if convolution.get_type_name() != "Convolution" or axis is None or axis.tolist() != 1 or sizes is None:
        return None
    return (convolution, chain) if _constant(convolution.input_value(1).get_node()) is not None else None


def _behind(node: Any) -> tuple[Any, list[Any]]:
    """The first node, backwards, that is not point-wise, and the point-wise ones behind it in the order of data."""
    chain: list[Any] = []
    while node.get_type_name() in _POINTWISE:
        data = [value.get_node() for value in node.input_values() if _constant(value.get_node()) is None]
        if len(data) != 1:
            break
        chain.insert(0, node)
        node = data[0]
    return node, chain


def _constant(node: Any) -> Any | None:
    """A constant's array, as the reader of ONNX makes them: a bias is a constant, reshaped."""
    if node.get_type_name() == "Reshape":
        inner = _constant(node.input_value(0).get_node())
        shape = node.output(0).get_partial_shape()
        return inner.reshape(shape.to_shape()) if inner is not None and shape.is_static else None
    return node.data if node.get_type_name() == "Constant" else None


def _again(chain: list[Any], x: Any, part: Callable[[Any], Any] = lambda constant: constant) -> Any:
    """The same point-wise nodes on another input, with a part of their constants."""
    for node in chain:
        constants = (_constant(value.get_node()) for value in node.input_values())
        x = _POINTWISE[node.get_type_name()](*(x if c is None else ops.constant(part(c)) for c in constants))
    return x


def _dilated(node: Any, plane: Any, chain: list[Any]) -> Any:
    """Output (i, j) of the plane that starts at (r, c) is over position (2 i + r, 2 j + c) of the whole.

    Hence the pads: before it, 2 p - r; behind it what gives as many outputs as before.
    """
    told, starts = node.get_attributes(), _constant(plane.input_value(1).get_node())
    assert starts is not None
    before = [2 * pad - int(start) for pad, start in zip(told["pads_begin"], starts, strict=True)]
    behind = [2 * pad + int(start) - 1 for pad, start in zip(told["pads_end"], starts, strict=True)]
    x = _again(chain, plane.input_value(0))
    return ops.convolution(x, node.input_value(1), [2, 2], before, behind, [2, 2])


def _divide(node: Any, convolution: Any, chain: list[Any]) -> None:
    told, weight = convolution.get_attributes(), _constant(convolution.input_value(1).get_node())
    sizes = node.input_value(2).get_node().data
    assert weight is not None
    starts = np.cumsum(sizes) - sizes
    for output, start, size in zip(node.outputs(), starts, sizes, strict=True):
        channels = slice(int(start), int(start + size))
        kernels = ops.constant(np.ascontiguousarray(weight[channels]))
        steps = (told[name] for name in ("strides", "pads_begin", "pads_end", "dilations"))
        x = ops.convolution(convolution.input_value(0), kernels, *steps)

        def part(constant: Any, channels: slice = channels) -> Any:
            return constant if constant.size == 1 else np.ascontiguousarray(constant[:, channels])

        x = _again(chain, x, part).output(0)
        x.set_names(output.get_names())
        output.replace(x)

"""How far a transform looks: the positions of its input that a block of its output depends on, read from its graph.

A position of the output depends on those of the input that the operators between them reach, and on no other, whatever
the weights are.  Followed from the output back to the input, every operator widens an interval:

    convolution of kernel k, stride s, padding p    [a, b)  ->  [a s - p, (b - 1) s - p + k)
    transposed convolution                          [a, b)  ->  [ceil((a + p - k + 1) / s), floor((b - 1 + p) / s) + 1)
    sub-pixel shuffle of r                          [a, b)  ->  [floor(a / r), ceil(b / r))
    attention in windows of w                       [a, b)  ->  [w floor(a / w), w ceil(b / w))
    everything else, position by position           [a, b)  ->  [a, b)

and where paths meet again the interval is the smallest that holds both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from s2c_deploy.contract import ALIGNMENT, ATTENTION_WINDOW
from s2c_deploy.errors import BundleError
from s2c_deploy.formats.onnx_graph import Node, OnnxGraph, graph_nodes

#: Kernels, strides and dilations above this are no transform's.
_LARGEST = 2**10
#: Positions of the input whose block of output is followed back: a multiple of every unit.
_BLOCK = ALIGNMENT * ATTENTION_WINDOW
Interval = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Of a transform, in positions of its input, the same in both directions."""

    #: Beside a block: above it and left of it, below it and right of it.
    before: int
    after: int
    #: Parts of the input that are given to the transform begin at multiples of this, and end there or with the input.
    unit: int

    def around(self, start: int, stop: int, size: int) -> Interval:
        """What the block of the output that belongs to ``[start, stop)`` needs of an input of ``size`` positions."""
        first = max(0, start - self.before) // self.unit * self.unit
        last = -(-(stop + self.after) // self.unit) * self.unit
        return first, min(size, last)


def receptive_field(graph: OnnxGraph, source: str) -> ReceptiveField:
    """Of a transform's graph from its input ``source`` to its first output.

    BundleError for operators of which it cannot be told.
    """
    nodes = [_Node.of(graph.name, node) for node in graph_nodes(graph)]
    densities = {source: Fraction(1)}
    unit = 1
    for node in nodes:
        followed = node.followed(densities)
        if not followed:
            continue
        density = {densities[name] for name in followed}
        if len(density) > 1:
            raise BundleError(f"{graph.name}: {node.operator}: expected operands of one resolution, found several")
        window = ATTENTION_WINDOW if node.is_attention(followed) else 1
        # A shift by ``unit`` is one by whole positions, and by whole windows, in every tensor.
        unit = math.lcm(unit, (window / density.pop()).numerator)
        densities |= dict.fromkeys(node.outputs, node.density(densities[followed[0]]))
    density_out = densities.get(nodes[-1].outputs[0]) if nodes else None
    if density_out is None:
        raise BundleError(f"{graph.name}: expected an output that depends on {source}, found none")
    unit = math.lcm(unit, (1 / density_out).numerator)
    if _BLOCK % unit:
        raise BundleError(f"{graph.name}: expected strides that {_BLOCK} positions are whole units of, found {unit}")
    first, last = _followed_back(nodes, densities, source, int(_BLOCK * density_out))
    return ReceptiveField(before=max(0, -first), after=max(0, last - _BLOCK), unit=unit)


def _followed_back(nodes: Sequence[_Node], densities: dict[str, Fraction], source: str, size: int) -> Interval:
    """What the last node's output ``[0, size)`` needs of the source."""
    needs: dict[str, Interval] = {nodes[-1].outputs[0]: (0, size)}
    for node in reversed(nodes):
        wanted = [needs[name] for name in node.outputs if name in needs]
        followed = node.followed(densities)
        if not wanted or not followed:
            continue
        start, stop = node.needed(min(a for a, _ in wanted), max(b for _, b in wanted), node.is_attention(followed))
        for name in followed:
            a, b = needs.get(name, (start, stop))
            needs[name] = min(a, start), max(b, stop)
    return needs[source]


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A node, as far as positions are concerned; kernel, stride, padding and dilation are the same in both directions,
    padding that before the first position."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    #: Of a sub-pixel shuffle.
    factor: int = 1

    @classmethod
    def of(cls, graph: str, node: Node) -> _Node:
        def one(name: str, values: Iterator[int] | Sequence[int], most: int = _LARGEST) -> int:
            found = set(values)
            if len(found) != 1 or not 0 <= (value := found.pop()) <= most:
                raise BundleError(f"{graph}: {node.operator}: expected one {name} of 0 to {most}, found {values}")
            return value

        kernel, stride, padding, factor = 1, 1, 0, 1
        if node.operator in ("Conv", "ConvTranspose"):
            dilation = one("dilation", node.integers.get("dilations", (1,)))
            kernel = (one("kernel", node.integers.get("kernel_shape", ())) - 1) * dilation + 1
            stride = one("stride", node.integers.get("strides", (1,)))
            padding = one("padding", node.integers.get("pads", (0,))[:2])
        elif node.operator == "DepthToSpace":
            factor = one("block size", node.integers.get("blocksize", ()))
        if kernel < 1 or stride < 1 or factor < 1:
            raise BundleError(f"{graph}: {node.operator}: expected sizes of 1 or more, found 0")
        return cls(
            operator=node.operator,
            inputs=node.inputs,
            outputs=node.outputs,
            kernel=kernel,
            stride=stride,
            padding=padding,
            factor=factor,
        )

    def followed(self, densities: dict[str, Fraction]) -> list[str]:
        """The inputs that hold positions: not weights, nor a shape and what is computed from it."""
        if self.operator == "Shape":
            return []
        data = self.inputs[:1] if self.operator in ("Reshape", "Slice", "Gather", "Split") else self.inputs
        return [name for name in data if name in densities]

    def is_attention(self, followed: list[str]) -> bool:
        """Whether positions are multiplied with each other, as only attention does: Q with K, and both with V."""
        return self.operator == "MatMul" and len(followed) == 2

    def density(self, density: Fraction) -> Fraction:
        """Positions of the output for each of the transform's input."""
        if self.operator == "Conv":
            return density / self.stride
        return density * self.factor * self.stride

    def needed(self, start: int, stop: int, attention: bool) -> Interval:
        """What of its input the output ``[start, stop)`` needs."""
        if self.operator == "Conv":
            return start * self.stride - self.padding, (stop - 1) * self.stride - self.padding + self.kernel
        if self.operator == "ConvTranspose":
            first = -((self.kernel - 1 - self.padding - start) // self.stride)
            return first, (stop - 1 + self.padding) // self.stride + 1
        step = ATTENTION_WINDOW if attention else self.factor
        first, last = start // step, -(-stop // step)
        return (first * step, last * step) if attention else (first, last)

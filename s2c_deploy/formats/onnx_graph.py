"""What an .onnx file asks an engine to do, looked at before any engine sees it.

A bundle's graphs are data from elsewhere, and an engine does whatever they say: a Loop that never ends, weights from
another file, an operator of somebody's library.  So only the operators that the exporter writes are let through,
without subgraphs and functions, with all weights inside.  This reads the file's protocol buffers by itself (field
numbers from onnx.proto3, https://github.com/onnx/onnx): a decoder installs without the package onnx.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.errors import BundleError, EngineError

#: What the exporter writes, of ONNX's own operators, and what every engine here runs.
OPERATORS = frozenset(
    {"Add", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Erf", "Floor"}
    | {"DequantizeLinear", "Gather", "Identity", "QuantizeLinear"}
    | {"LayerNormalization", "LeakyRelu", "MatMul", "Mul", "Relu", "Reshape", "Round", "Shape", "Slice", "Softmax"}
    | {"Split", "Transpose", "Unsqueeze"}
)
MAX_NODES = 10_000
#: Of one message, and dimensions of a tensor: more are not looked at.
MAX_FIELDS, MAX_DIMENSIONS = 40_000, 8
#: TensorProto.DataType: name in a manifest, bytes a value.
_TYPES = {1: ("float32", 4), 2: ("uint8", 1), 3: ("int8", 1), 6: ("int32", 4), 7: ("int64", 8), 9: ("bool", 1)}
_TYPES |= {10: ("float16", 2)}

_SIDES = {"inputs": 11, "outputs": 12}
Message = Mapping[int, Sequence[Any]]
Weights = dict[str, npt.NDArray[np.float32]]
#: Of a tensor: its dtype, and its dimensions, None where one is dynamic.
Signature = tuple[str, tuple[int | None, ...]]


@dataclass(frozen=True, kw_only=True)
class OnnxGraph:
    """An .onnx file in memory."""

    #: Of the file, for messages.
    name: str
    data: bytes

    @classmethod
    def read(cls, path: Path) -> OnnxGraph:
        """A file of the user's own; EngineError if it cannot be read."""
        try:
            return cls(name=path.name, data=path.read_bytes())
        except OSError as error:
            raise EngineError(f"cannot read {path}: {error.strerror}", hint="check the path") from error


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node's inputs and outputs, by name, and those of its attributes that are integers."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: Mapping[str, tuple[int, ...]]


def graph_nodes(graph: OnnxGraph) -> list[Node]:
    """The nodes of a graph that ``check_graph`` let through, in the file's order."""
    nodes = (_message(view) for view in _content(graph).get(1, ()))
    return [
        Node(operator=_text(node, 4), inputs=_names(node, 1), outputs=_names(node, 2), integers=_integers(node))
        for node in nodes
    ]


def graph_weights(graph: OnnxGraph) -> Weights:
    """The float32 weights of such a graph, by name; those that are not stored as raw bytes are left out."""
    weights: Weights = {}
    for tensor in (_message(view) for view in _content(graph).get(5, ())):
        if _TYPES.get(tensor[2][-1], ("", 0))[0] == "float32" and (raw := tensor.get(9)):
            shape = tuple(_numbers(tensor.get(1, ())))
            weights[_text(tensor, 8)] = np.frombuffer(raw[-1], "<f4", math.prod(shape)).reshape(shape)
    return weights


def _content(graph: OnnxGraph) -> Message:
    (body,) = _message(memoryview(graph.data))[7]
    return _message(body)


def _names(node: Message, field: int) -> tuple[str, ...]:
    return tuple(bytes(name).decode() for name in node.get(field, ()))


def _integers(node: Message) -> dict[str, tuple[int, ...]]:
    """One integer is a row of one."""
    attributes = [_message(view) for view in node.get(5, ())]
    return {_text(a, 1): tuple(_numbers(a.get(8, a.get(3, ())))) for a in attributes if 8 in a or 3 in a}


def check_graph(graph: OnnxGraph, described: Mapping[str, Any], *, half_io: bool = False) -> None:
    """BundleError unless a graph has known operators only, its weights inside, and the inputs and outputs of its
    manifest entry.

    half_io: float16 may stand where the manifest says float32, and an output of pixels beside the others: an FP16 graph
    is described by its float32 twin.
    """
    try:
        model = _message(memoryview(graph.data))
        (body,) = model[7]
        content = _message(body)
        problem = _problem(model, content)
        found = {side: dict(map(_signature, content.get(field, ()))) for side, field in _SIDES.items()}
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise BundleError(f"{graph.name}: expected an ONNX model, found none: {error}") from error
    if problem:
        raise BundleError(f"{graph.name}: {problem}", hint="export the bundle again, from weights that you trust")
    for side, signatures in found.items():
        _check_side(graph.name, side, signatures, described[side], half_io=half_io)


def _check_side(
    name: str, side: str, found: Mapping[str, Signature], described: Sequence[Mapping[str, Any]], *, half_io: bool
) -> None:
    for tensor in described:
        wanted = tensor["dtype"], tuple(n if isinstance(n, int) else None for n in tensor["shape"])
        kinds = {wanted, ("float16", wanted[1])} if half_io else {wanted}
        if found.get(tensor["name"]) not in kinds:
            raise BundleError(
                f"{name}: {side}: expected {tensor['name']}, {wanted[0]} {wanted[1]}, as the manifest has it, "
                f"found {found.get(tensor['name'])}"
            )
    extra = set(found) - {tensor["name"] for tensor in described}
    if half_io and side == "outputs":
        extra -= {"pixels"}
    if extra:
        raise BundleError(f"{name}: {side}: expected those of the manifest, found {', '.join(sorted(extra))!r:.80} too")


def _problem(model: Message, content: Message) -> str | None:
    """What an engine must not be asked to do, if anything."""
    if model.get(25) or model.get(20):
        return "expected operators only, found functions or training"
    if content.get(15):
        return "expected dense weights, found sparse ones"
    nodes = content.get(1, ())
    if len(nodes) > MAX_NODES:
        return f"expected at most {MAX_NODES} nodes, found {len(nodes)}"
    for view in nodes:
        if problem := _node_problem(_message(view)):
            return problem
    for view in content.get(5, ()):
        if problem := _tensor_problem(_message(view)):
            return problem
    return None


def _node_problem(node: Message) -> str | None:
    kind, domain = (_text(node, field) for field in (4, 7))
    if domain not in ("", "ai.onnx") or kind not in OPERATORS:
        name = f"{domain}.{kind}" if domain else kind
        return f"expected operators that the exporter writes ({', '.join(sorted(OPERATORS))}), found {name!r:.80}"
    for view in node.get(5, ()):
        attribute = _message(view)
        if any(attribute.get(field) for field in (6, 11, 14, 15, 22, 23)):
            return f"{kind}: expected numbers, strings and tensors as attributes, found a graph or a type"
        for tensor in (*attribute.get(5, ()), *attribute.get(10, ())):
            if problem := _tensor_problem(_message(tensor)):
                return problem
    return None


def _tensor_problem(tensor: Message) -> str | None:
    """Values must lie in the message itself: as many as the dimensions say."""
    name = _text(tensor, 8)
    if tensor.get(13) or any(tensor.get(14, ())):
        return f"weights {name!r:.80}: expected them inside the file, found them in another one"
    kind = _TYPES.get(tensor.get(2, (0,))[-1])
    if kind is None:
        return f"weights {name!r:.80}: expected {', '.join(n for n, _ in _TYPES.values())}, found another type"
    sizes = list(islice(_numbers(tensor.get(1, ())), MAX_DIMENSIONS + 1))
    if len(sizes) > MAX_DIMENSIONS:
        return f"weights {name!r:.80}: expected at most {MAX_DIMENSIONS} dimensions, found more"
    count = math.prod(sizes)
    raw = tensor.get(9)
    if raw:
        stored = len(raw[-1]) // kind[1]
    else:  # in typed fields: a byte each at least
        stored = sum(len(v) if isinstance(v, memoryview) else 1 for field in (4, 5, 7) for v in tensor.get(field, ()))
    if count > stored:
        return f"weights {name!r:.80}: expected {count} values, found {stored}"
    return None


def _signature(view: memoryview) -> tuple[str, Signature]:
    """Name, dtype and dimensions of an input or output (ValueInfoProto)."""
    value = _message(view)
    # Of several, an engine would take the sum: there must be one.
    (declared,) = value[2]
    (tensor_type,) = _message(declared)[1]
    tensor = _message(tensor_type)
    (dimensions,) = tensor[2]
    shape: list[int | None] = []
    for dimension in _message(dimensions).get(1, ()):
        size = _message(dimension).get(1)
        shape.append(int(size[-1]) if size else None)
    kind = _TYPES.get(tensor[1][-1], (f"type {tensor[1][-1]}", 0))[0]
    return _text(value, 1), (kind, tuple(shape))


def _text(message: Message, field: int) -> str:
    values = message.get(field, ())
    return bytes(values[-1]).decode() if values else ""


def _numbers(values: Sequence[Any]) -> Iterator[int]:
    """A repeated integer field, packed or not."""
    for value in values:
        if not isinstance(value, memoryview):
            yield value
            continue
        position = 0
        while position < len(value):
            number, position = _varint(value, position)
            yield number


def _message(view: memoryview) -> dict[int, list[Any]]:
    """Field number to its values in order: integers, and views of what has a length.  ValueError if it is cut short."""
    if not isinstance(view, memoryview):
        raise ValueError("a number where a message belongs")
    fields: dict[int, list[Any]] = {}
    position, end, count = 0, len(view), 0
    while position < end:
        count += 1
        if count > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} fields")
        key, position = _varint(view, position)
        kind = key & 7
        value: Any
        if kind == 0:
            value, position = _varint(view, position)
        elif kind in (1, 2, 5):
            size, position = _varint(view, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            if size > end - position:
                raise ValueError("it is cut short")
            value, position = view[position : position + size], position + size
        else:
            raise ValueError(f"unknown wire type {kind}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise ValueError("it is cut short")
        byte = view[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than ten bytes")

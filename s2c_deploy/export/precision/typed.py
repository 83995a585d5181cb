"""A float32 graph as one whose types are FP16, but for the nodes that stay in float32.

Written here rather than taken from onnxruntime.transformers.float16 or onnxconverter-common: those clamp weights that
FP16 cannot hold, without a word, and cast to FP16 and back between two neighbours that both stay in float32, where the
value would overflow all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from s2c_deploy.errors import InputError, ParityError

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
#: Types of the pictures and latents that go in and out; gains are float32 always, being exact tables.
IO_TYPES = {"float32": FLOAT, "float16": HALF}
_SUFFIX = {FLOAT: "/float32", HALF: "/float16"}


def is_gain(name: str) -> bool:
    """Whether a graph's input is a gain: gain, inverse_gain or hyper_gain."""
    return name.endswith("gain")


def typed_graph(model: onnx.ModelProto, float32_nodes: Collection[str], *, io: str = "float32") -> onnx.ModelProto:
    """The graph with FP16 weights and activations; nodes named in ``float32_nodes`` compute in float32.

    io: float32 or float16, the type of inputs and outputs that are no gains.  A value crosses between types through
    one Cast; neighbours that both stay in float32 hand it over as it is.  ParityError names a node whose weights FP16
    cannot hold; InputError for another io.
    """
    if io not in IO_TYPES:
        raise InputError(f"io: expected {', '.join(IO_TYPES)}, found {io!r}")
    source = folded(model)
    typist = _Typist(source, IO_TYPES[io])
    for node in source.graph.node:
        typist.add(node, FLOAT if node.name in float32_nodes else HALF)
    graph = helper.make_graph(
        list(typist.nodes()), source.graph.name, typist.inputs, typist.outputs, typist.initializers
    )
    typed = helper.make_model(
        graph, opset_imports=list(source.opset_import), ir_version=source.ir_version, producer_name="s2c-deploy"
    )
    helper.set_model_props(typed, {p.key: p.value for p in source.metadata_props})
    typed.doc_string = source.doc_string
    return typed


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose Constant nodes are initializers."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    for node in constants:
        array = numpy_helper.to_array(helper.get_attribute_value(node.attribute[0]))
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        model.graph.node.remove(node)
    return model


def values_of_type(model: onnx.ModelProto, kind: int) -> set[str]:
    """Names of the inputs, initializers and values of this element type (strict shape inference)."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    typed = [(v.name, v.type.tensor_type.elem_type) for v in (*graph.input, *graph.output, *graph.value_info)]
    typed += [(tensor.name, tensor.data_type) for tensor in graph.initializer]
    return {name for name, found in typed if found == kind}


class _Typist:
    """Nodes are added in order.  ``_names[value, type]`` is the name under which a value exists in that type."""

    def __init__(self, source: onnx.ModelProto, io: int) -> None:
        self._floats = values_of_type(source, FLOAT)
        self._weights = {tensor.name: tensor for tensor in source.graph.initializer}
        self._results = {value.name for value in source.graph.output}
        self._io = io
        self._nodes: list[onnx.NodeProto] = []
        self._names: dict[tuple[str, int], str] = {}
        self._types: dict[str, int] = {}
        self.initializers: list[onnx.TensorProto] = []
        self._kept: set[str] = set()
        self.inputs = [self._retyped(v) for v in source.graph.input]
        self.outputs = [self._retyped(v) for v in source.graph.output]
        for value in self.inputs:
            self._types[value.name] = value.type.tensor_type.elem_type
            self._names[value.name, self._types[value.name]] = value.name

    def _retyped(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        value = onnx.ValueInfoProto.FromString(value.SerializeToString())
        value.type.tensor_type.elem_type = FLOAT if is_gain(value.name) else self._io
        return value

    def add(self, node: onnx.NodeProto, kind: int) -> None:
        """Appends a node that reads and writes its float values in this type."""
        node = onnx.NodeProto.FromString(node.SerializeToString())
        for i, name in enumerate(node.input):
            if name in self._weights:
                node.input[i] = self._weight(node, name, kind if name in self._floats else None)
            elif name in self._floats:
                # Shape takes any type; a cast only to ask for a shape would be wasted.
                node.input[i] = self._value(name, self._types[name] if node.op_type == "Shape" else kind)
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == FLOAT:
                    attribute.i = kind
        for i, name in enumerate(node.output):
            if name in self._floats:
                node.output[i] = self._produced(name, kind)
        self._nodes.append(node)

    def _produced(self, name: str, kind: int) -> str:
        self._types[name] = kind
        # An output of the graph keeps its name in the type that the graph promises.
        new = name + _SUFFIX[kind] if name in self._results and kind != self._io else name
        self._names[name, kind] = new
        return new

    def _value(self, name: str, kind: int) -> str:
        if (name, kind) not in self._names:
            held = self._types[name]
            self._cast(self._names[name, held], name + _SUFFIX[kind], kind)
            self._names[name, kind] = name + _SUFFIX[kind]
        return self._names[name, kind]

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"Cast/{target}", to=kind))

    def _weight(self, node: onnx.NodeProto, name: str, kind: int | None) -> str:
        tensor = self._weights[name]
        new = name if kind in (HALF, None) else name + _SUFFIX[FLOAT]
        if new in self._kept:
            return new
        self._kept.add(new)
        array = numpy_helper.to_array(tensor)
        if kind == HALF:
            with np.errstate(over="ignore"):
                array = array.astype(np.float16)
            if not np.isfinite(array).all():
                raise ParityError(f"{node.name}: FP16 cannot hold its weights {name}")
        self.initializers.append(numpy_helper.from_array(array, new))
        return new

    def nodes(self) -> Iterator[onnx.NodeProto]:
        """The nodes, and the casts of outputs that were computed in another type than promised."""
        for name in sorted(self._results):
            if self._types[name] != self._io:
                self._cast(self._names[name, self._types[name]], name, self._io)
                self._types[name] = self._io
        return iter(self._nodes)

"""The exact-integer entropy networks as ONNX graphs.

    h_s                   z_hat                    -> hyper
    context_k_anchor      hyper, y_prev (k > 0)    -> features, indexes, means
    context_k_nonanchor   features, y_cur          -> indexes, means

All tensors are integer-valued float32: z_hat the hyper-latent symbols; y_prev and y_cur 16 * y_hat of the groups
before k and of group k (zeros at non-anchors); indexes 0..63; means in 1/16 steps.  Indexes and means are packed
(models.entropy_model).
"""

from __future__ import annotations

from typing import cast

import onnx

from s2c_deploy.contract import SCALE_LEVELS
from s2c_deploy.export.graph_writer import GraphWriter
from s2c_deploy.models import S2CModel
from s2c_deploy.quantize.exact_entropy import ExactGroupContext, ExactHyperSynthesis, ExactParameterNetwork


def entropy_graphs(model: S2CModel) -> dict[str, onnx.ModelProto]:
    """Graphs of a model whose entropy networks are exact (``quantize.exact_model``), by name."""
    config = model.config
    graphs = {"h_s": _hyper_graph(cast(ExactHyperSynthesis, model.h_s), config.hyper_channels)}
    start = 0
    for k, channels in enumerate(config.groups):
        context = cast(ExactGroupContext, model.group_contexts[k])
        graphs[f"context_{k}_anchor"] = _anchor_graph(k, context, config.hyper_features, start, channels)
        graphs[f"context_{k}_nonanchor"] = _nonanchor_graph(k, context, channels)
        start += channels
    return graphs


def _hyper_graph(h_s: ExactHyperSynthesis, channels: int) -> onnx.ModelProto:
    writer = GraphWriter("h_s")
    z_hat = writer.input("z_hat", ["batch", channels, "z_height", "z_width"])
    v = writer.pixel_shuffle(writer.integer_conv(h_s.first, z_hat))
    v = writer.pixel_shuffle(writer.integer_conv(h_s.second, v))
    v = writer.integer_conv(h_s.third, v)
    writer.output(v, "hyper", ["batch", h_s.third.out_exponents.numel(), "height", "width"])
    return writer.model()


def _anchor_graph(
    k: int, context: ExactGroupContext, hyper_features: int, earlier: int, channels: int
) -> onnx.ModelProto:
    writer = GraphWriter(f"context_{k}_anchor")
    inputs = [writer.input("hyper", ["batch", hyper_features, "height", "width"])]
    if earlier:
        y_prev = writer.input("y_prev", ["batch", earlier, "height", "width"])
        inputs.append(writer.shrink("y_prev", y_prev, context.earlier_shifts, context.limits.latent))
    features = writer.integer_conv(context.mix, writer.integer_conv(context.input, *inputs))
    writer.output(features, "features", ["batch", context.mix.out_exponents.numel(), "height", "width"])
    _parameters(writer, context.anchor_parameters, writer.pack(features, parity=0), channels)
    return writer.model()


def _nonanchor_graph(k: int, context: ExactGroupContext, channels: int) -> onnx.ModelProto:
    writer = GraphWriter(f"context_{k}_nonanchor")
    features = writer.input("features", ["batch", context.mix.out_exponents.numel(), "height", "width"])
    y_cur = writer.input("y_cur", ["batch", channels, "height", "width"])
    even, odd = (
        writer.shrink("y_cur", plane, context.current_shifts, context.limits.latent)
        for plane in writer.planes(y_cur, parity=0)
    )
    spatial = writer.checkerboard_conv(context.spatial, even, odd)
    seen = writer.node("Add", writer.pack(features, parity=1), spatial)
    _parameters(writer, context.nonanchor_parameters, seen, channels)
    return writer.model()


def _parameters(writer: GraphWriter, network: ExactParameterNetwork, packed: str, channels: int) -> None:
    v = writer.integer_conv(network.first, writer.clip(packed, 0, network.limits.pointwise))
    indexes, means = writer.split_channels(writer.integer_conv(network.second, v), [channels, channels])
    shape: list[int | str] = ["batch", channels, "height", "packed_width"]
    writer.output(writer.clip(indexes, 0, SCALE_LEVELS - 1), "indexes", shape)
    writer.output(means, "means", shape)

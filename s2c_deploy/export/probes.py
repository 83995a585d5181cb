"""Inputs of every graph on a real picture, with the outputs that PyTorch's modules give: parity and known answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.contract import FEATURE_LIMIT, HYPER_LIMIT, LARGEST_LATENT, MEAN_STEPS, SCALE_LEVELS, Z_LIMIT
from s2c_deploy.formats.bundle import Gains
from s2c_deploy.models import S2CModel
from s2c_deploy.models.entropy_model import pack_anchors, pack_nonanchors, unpack
from s2c_deploy.models.model import INDEX_GAIN
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.runtime.probe import Probe

#: The parts of their range that inputs of known answers span, a picture each.
RANGE_PARTS = (1, 8, 64, 512)


@torch.no_grad()
def probe_graphs(
    model: S2CModel, gains: Gains, x: Tensor, quality: float, lighter: Mapping[str, Synthesis]
) -> dict[str, Probe]:
    """Runs an exact model as the encoder would; x: float32 1 x 3 x H x W in [0, 1], sides multiples of 64.

    lighter: other versions of g_s by the names of their graphs.
    """
    gain, hyper_gain, inverse_gain, _ = (torch.from_numpy(np.asarray(a)) for a in gains.at(quality))
    probes: dict[str, Probe] = {}

    def record(name: str, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
        probes[name] = _probe(inputs, outputs)

    y = model.g_a(x) * gain
    record("g_a", {"x": x, "gain": gain}, {"y": y})
    z = model.h_a(y) * hyper_gain
    record("h_a", {"y": y, "hyper_gain": hyper_gain}, {"z": z})
    z_hat = torch.round(z).clamp(-Z_LIMIT, Z_LIMIT)
    hyper = model.h_s(z_hat)
    record("h_s", {"z_hat": z_hat}, {"hyper": hyper})
    decoded: list[Tensor] = []
    for k, (context, target) in enumerate(
        zip(model.group_contexts, torch.split(y, list(model.config.groups), 1), strict=True)
    ):
        inputs = {"hyper": hyper}
        if decoded:
            inputs["y_prev"] = torch.cat(decoded, 1)
        earlier = torch.cat(decoded, 1) / MEAN_STEPS if decoded else y[:, :0]
        features = context.features(hyper, earlier)
        indexes, means = _coded(context.anchor(features))
        record(f"context_{k}_anchor", inputs, {"features": features, "indexes": indexes, "means": means})
        anchors = _decoded(pack_anchors(target), indexes, means)
        y_cur = unpack(anchors, torch.zeros_like(anchors))
        indexes, means = _coded(context.nonanchor(features, y_cur / MEAN_STEPS))
        record(
            f"context_{k}_nonanchor",
            {"features": features, "y_cur": y_cur},
            {"indexes": indexes, "means": means},
        )
        decoded.append(unpack(anchors, _decoded(pack_nonanchors(target), indexes, means)))
    y_hat = torch.cat(decoded, 1)
    for name, g_s in {"g_s": model.g_s, **lighter}.items():
        record(name, {"y_hat": y_hat, "inverse_gain": inverse_gain}, {"x_hat": g_s(y_hat * inverse_gain)})
    return probes


@torch.no_grad()
def full_range_probes(model: S2CModel, *, seed: int = 0) -> dict[str, Probe]:
    """Exact graphs on random integers at 8 x 8 latents: a batch whose first picture spans the whole proven range of
    the inputs, and whose others span ever smaller parts of it, where fewer activations are clipped."""
    random = torch.Generator().manual_seed(seed)
    config, side = model.config, 8

    def integers(low: int, high: int, channels: int, size: int = side) -> Tensor:
        reaches = [(round(low / part), max(1, round(high / part)) + 1) for part in RANGE_PARTS]
        pictures = [torch.randint(*reach, (1, channels, size, size), generator=random) for reach in reaches]
        return torch.cat(pictures).float()

    z_hat = integers(-Z_LIMIT, Z_LIMIT, config.hyper_channels, side // 4)
    probes = {"h_s": _probe({"z_hat": z_hat}, {"hyper": model.h_s(z_hat)})}
    start = 0
    for k, (context, channels) in enumerate(zip(model.group_contexts, config.groups, strict=True)):
        inputs = {"hyper": integers(0, HYPER_LIMIT, config.hyper_features)}
        y_prev = integers(-LARGEST_LATENT, LARGEST_LATENT, start)
        if start:
            inputs["y_prev"] = y_prev
        features = context.features(inputs["hyper"], y_prev / MEAN_STEPS)
        indexes, means = _coded(context.anchor(features))
        outputs = {"features": features, "indexes": indexes, "means": means}
        probes[f"context_{k}_anchor"] = _probe(inputs, outputs)
        features = integers(-FEATURE_LIMIT, FEATURE_LIMIT, config.context_width)
        y_cur = integers(-LARGEST_LATENT, LARGEST_LATENT, channels)
        indexes, means = _coded(context.nonanchor(features, y_cur / MEAN_STEPS))
        answer = {"indexes": indexes, "means": means}
        probes[f"context_{k}_nonanchor"] = _probe({"features": features, "y_cur": y_cur}, answer)
        start += channels
    return probes


def _probe(inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> Probe:
    sides = [{name: np.ascontiguousarray(x.numpy()) for name, x in side.items()} for side in (inputs, outputs)]
    return Probe(inputs=sides[0], outputs=sides[1])


def _coded(parameters: Tensor) -> tuple[Tensor, Tensor]:
    indexes, means = parameters.chunk(2, dim=1)
    return (indexes * INDEX_GAIN).clamp(0, SCALE_LEVELS - 1), means * MEAN_STEPS


def _decoded(y: Tensor, indexes: Tensor, means: Tensor) -> Tensor:
    """y_hat in 1/16 steps."""
    return torch.round(y - means / MEAN_STEPS) * (indexes > 0) * MEAN_STEPS + means

"""The float transforms g_a, h_a and g_s as ONNX graphs, traced by PyTorch's exporter, gains included.

g_a   x, gain               -> y        y gained, as h_a and the symbols want it
h_a   y, hyper_gain         -> z
g_s   y_hat, inverse_gain   -> x_hat    y_hat in 1/16 steps (inverse_gain holds the 1/16), x_hat unclipped
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import onnx
import torch
from torch import Tensor, nn

from s2c_deploy.export.graph_writer import OPSET
from s2c_deploy.models import S2CModel
from s2c_deploy.models.transforms import Synthesis


class _ThenGain(nn.Module):
    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        out: Tensor = self.transform(x) * gain
        return out


class _GainFirst(nn.Module):
    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        out: Tensor = self.transform(x * gain)
        return out


def transform_graphs(model: S2CModel, lighter: Mapping[str, Synthesis]) -> dict[str, onnx.ModelProto]:
    """g_a, h_a and g_s of a model, with dynamic batch, height and width; and lighter versions of g_s by the names of
    their graphs."""
    m, n = model.config.latent_channels, model.config.hyper_channels
    return {
        "g_a": _trace("g_a", _ThenGain(model.g_a), ("x", (1, 3, 128, 192)), ("gain", m), "y"),
        "h_a": _trace("h_a", _ThenGain(model.h_a), ("y", (1, m, 8, 12)), ("hyper_gain", n), "z"),
    } | {
        name: _trace(name, _GainFirst(g_s), ("y_hat", (1, m, 8, 12)), ("inverse_gain", m), "x_hat")
        for name, g_s in {"g_s": model.g_s, **lighter}.items()
    }


def _trace(
    name: str, module: nn.Module, data: tuple[str, tuple[int, ...]], gain: tuple[str, int], output: str
) -> onnx.ModelProto:
    file = io.BytesIO()
    example = (torch.zeros(data[1]), torch.ones(1, gain[1], 1, 1))
    axes = {
        data[0]: {0: "batch", 2: "height", 3: "width"},
        output: {0: "batch", 2: "out_height", 3: "out_width"},
    }
    with warnings.catch_warnings():
        # The TorchScript-based exporter is the one that writes opset 17 natively; the newer one writes 18 and
        # converts down, which TensorRT 8.6 users would have to trust.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module.eval(),
            example,
            file,  # type: ignore[arg-type]
            opset_version=OPSET,
            input_names=[data[0], gain[0]],
            output_names=[output],
            dynamic_axes=axes,
            dynamo=False,
        )
    model = onnx.load_from_string(file.getvalue())
    model.graph.name = name
    return model

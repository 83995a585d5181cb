"""The decoder of a bundle as a differentiable function of latents, from its own graphs.

What is searched with is what is coded: integer networks run as they are, with the gradient of the identity through
their rounding.  Symbols may lie between integers; at integers the latents are the decoder's, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.arrays import FloatArray
from s2c_deploy.contract import MEAN_STEPS, SYMBOL_LIMIT, Z_LIMIT
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.models.entropy_model import pack_anchors, pack_nonanchors, unpack
from s2c_deploy.models.model import bits_at
from s2c_deploy.runtime.torch_graph import TorchGraph

#: Rounds values, or nearly so; the result has a gradient.
Quantize = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """A latent at hand."""

    #: 1 x M x h x w in 1/16 steps.
    y_hat: Tensor
    #: Of all symbols, by Gaussians of the scales that the tables are of; a scalar.
    bits: Tensor


class RelaxedDecoder:
    """The graphs between symbols and pixels, with gradients."""

    def __init__(self, bundle: Bundle) -> None:
        self._config, self._gains, self._tables = bundle.config, bundle.gains, bundle.tables
        names = ["h_s", "g_s"]
        names += [f"context_{k}_{kind}" for k in range(len(bundle.config.groups)) for kind in ("anchor", "nonanchor")]
        self._graphs = {
            name: TorchGraph(bundle.read_graph(name), memory_format=torch.channels_last, straight_through=True)
            for name in names
        }
        scales = np.asarray(bundle.tables.scales, np.float64)
        #: 1 where a table is no Gaussian's: its symbols cost what they cost, and have no gradient.
        self._scales = torch.from_numpy(np.where(scales > 0, scales, 1.0)).float()
        self._first, self._step = math.log(scales[0]), math.log(scales[63] / scales[0]) / 63

    def latent(self, y: Tensor, z: Tensor, quality: float, quantize: Quantize) -> Relaxed:
        """Group by group, pass by pass, as the coder's walk (``codec/latent.py``).

        y, 1 x M x h x w, and z, 1 x N x h/4 x w/4, are gained latents.
        """
        z_indexes = torch.from_numpy(self._gains.at(quality)[3].astype(np.int64)).reshape(1, -1, 1, 1)
        z_hat = quantize(z).clamp(-Z_LIMIT, Z_LIMIT) * (z_indexes >= self._tables.skip_below)
        bits = [bits_at(z_hat.abs(), self._scales[z_indexes]) * (z_indexes >= self._tables.skip_below)]
        hyper = self._graphs["h_s"]({"z_hat": z_hat})["hyper"]
        groups: list[Tensor] = []
        for k, target in enumerate(torch.split(y, list(self._config.groups), 1)):
            inputs = {"hyper": hyper} | ({"y_prev": torch.cat(groups, 1)} if groups else {})
            out = self._graphs[f"context_{k}_anchor"](inputs)
            anchors = self._coded(pack_anchors(target), out, quantize, bits)
            current = unpack(anchors, torch.zeros_like(anchors))
            out = self._graphs[f"context_{k}_nonanchor"]({"features": out["features"], "y_cur": current})
            groups.append(unpack(anchors, self._coded(pack_nonanchors(target), out, quantize, bits)))
        return Relaxed(y_hat=torch.cat(groups, 1), bits=torch.stack([part.sum() for part in bits]).sum())

    def synthesize(self, y_hat: Tensor, quality: float, *, bfloat16: bool) -> Tensor:
        """x_hat, 1 x 3 x 16 h x 16 w, unclipped; with bfloat16 from products of such."""
        gain = torch.from_numpy(np.ascontiguousarray(self._gains.at(quality)[2]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            return self._graphs["g_s"]({"y_hat": y_hat, "inverse_gain": gain})["x_hat"].float()

    def _coded(self, y: Tensor, out: dict[str, Tensor], quantize: Quantize, bits: list[Tensor]) -> Tensor:
        """y_hat of a pass, and its bits beside the others'."""
        indexes, means = out["indexes"], out["means"]
        kept = indexes.detach() >= self._tables.skip_below
        symbols = quantize(y - means / MEAN_STEPS).clamp(-SYMBOL_LIMIT, SYMBOL_LIMIT) * kept
        bits.append(bits_at(symbols.abs(), torch.exp(self._first + self._step * indexes)) * kept)
        return MEAN_STEPS * symbols + means


def as_array(tensor: Tensor) -> FloatArray:
    """A tensor's values, for the coder."""
    array: FloatArray = tensor.detach().numpy().copy()
    return array

"""Latents of one picture refined by gradient: fewer bits and less error for the decoder as it is.

Symbols are rounded softly at first and hard in the end: between their two neighbours, by odds that sharpen as the
temperature falls, and by chance (stochastic Gumbel annealing, Yang, Bamler, Mandt, arXiv 2006.04240), of which there is
less here than there: without it latents stay where no symbol is, and with all of it a search needs hundreds of steps.
What counts is the cost of symbols as they will be coded, lmbda 255^2 MSE and the bits of the Gaussians that the tables
are made of: the best latents by it are kept, and those that were there to begin with are among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.arrays import FloatArray
from s2c_deploy.effort.relaxed import Quantize, RelaxedDecoder, as_array
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.host import multiplies_bfloat16
from s2c_deploy.runtime.torch_graph import use_threads

#: Steps of the levels from 2 on.
STEPS = {level: 8 * 2 ** (level - 2) for level in range(2, 10)}
#: Adam's rate at the beginning, in steps of a latent, by quality: those of a low one are coarse, and move less.
_QUALITIES, _RATES = (1, 4, 8), (0.01, 0.014, 0.035)
#: Temperature of the odds, from the first step to the last.
_HOT, _COLD = 0.65, 0.065
#: Of the Gumbel noise.
_CHANCE = 0.35
#: How often the real cost is asked for in a search's second half; before, soft symbols are too far from it.
_CHECKS = 4
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What g_s is to see, and which of its pixels count."""

    #: y_hat around the tile and of it, 1 x M x H x W in 1/16 steps; the tile's own is replaced.
    y_hat: FloatArray
    #: Where the tile lies in it: rows and columns.
    tile: tuple[slice, slice]
    #: The picture there, float32 1 x 3 x h x w in [0, 1], from the first pixel that counts.
    target: FloatArray
    #: Where these pixels begin in x_hat: row and column.
    corner: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What was found."""

    #: Gained latents, 1 x M x h x w and 1 x N x h/4 x w/4.
    y: FloatArray
    z: FloatArray
    #: The trade-off in bits, of what was there and of what was found.
    before: float
    after: float


#: Called with the steps done, of how many, and the best cost so far as a part of the first.
Told = Callable[[int, int, float], None]


class Refiner:
    """Searches with the graphs of one bundle; threads: of the process's PyTorch, 0 keeps its setting."""

    def __init__(self, bundle: Bundle, *, threads: int = 0) -> None:
        if bundle.config.objective != "mse":
            raise InputError(
                f"effort: expected a model trained for MSE, found one for {bundle.config.objective}",
                hint="take effort 0 or 1",
            )
        use_threads(threads)
        self._decoder = RelaxedDecoder(bundle)
        self._lmbdas = np.log(bundle.config.lmbdas)
        #: Steps take g_s in bfloat16 where that pays: its gradients are as good.  Costs are of float32.
        self._bfloat16 = multiplies_bfloat16()

    def lmbda(self, quality: float) -> float:
        """The trade-off of a quality, between those that the model was trained for."""
        return float(np.exp(np.interp(quality - 1, np.arange(len(self._lmbdas)), self._lmbdas)))

    def refine(
        self, y: FloatArray, z: FloatArray, around: Surroundings, quality: float, *, steps: int, told: Told
    ) -> Refined:
        """Better latents for a tile than y and z, or these.  The same on every run of one machine."""
        generator = torch.Generator().manual_seed(_SEED)
        leaves = [torch.from_numpy(array.copy()).requires_grad_() for array in (y, z)]
        rate = float(np.exp(np.interp(quality, _QUALITIES, np.log(_RATES))))
        optimizer = torch.optim.Adam(leaves, lr=rate)
        best, best_leaves = first, _ = self._cost(leaves, around, quality), [y, z]
        every = steps // (2 * _CHECKS)
        for step in range(steps):
            part = step / steps
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * part))
            soft = annealed(_HOT * (_COLD / _HOT) ** part, generator)
            optimizer.zero_grad()
            cost = self._objective(leaves, around, quality, soft, bfloat16=self._bfloat16)
            cost.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if part >= 0.5 and (step + 1) % every == 0:
                real = self._cost(leaves, around, quality)
                if real < best:
                    best, best_leaves = real, [as_array(leaf) for leaf in leaves]
            told(step + 1, steps, best / first)
        return Refined(y=best_leaves[0], z=best_leaves[1], before=first, after=best)

    @torch.no_grad()
    def _cost(self, leaves: list[Tensor], around: Surroundings, quality: float) -> float:
        return float(self._objective(leaves, around, quality, torch.round, bfloat16=False))

    def _objective(
        self, leaves: list[Tensor], around: Surroundings, quality: float, quantize: Quantize, *, bfloat16: bool
    ) -> Tensor:
        """The trade-off in bits."""
        latent = self._decoder.latent(leaves[0], leaves[1], quality, quantize)
        y_hat = torch.from_numpy(around.y_hat.copy())
        rows, columns = around.tile
        y_hat[:, :, rows, columns] = latent.y_hat
        x_hat = self._decoder.synthesize(y_hat, quality, bfloat16=bfloat16)
        target = torch.from_numpy(around.target)
        (top, left), (height, width) = around.corner, target.shape[2:]
        error = x_hat[:, :, top : top + height, left : left + width].clamp(0, 1) - target
        # lmbda 255^2 MSE + bits / pixels, times the pixels; a picture has three samples a pixel.
        return latent.bits + self.lmbda(quality) * 255**2 / 3 * error.square().sum()


def annealed(temperature: float, generator: torch.Generator) -> Quantize:
    """Between the two neighbours: softly, by the odds of their distances and some chance."""

    def quantize(v: Tensor) -> Tensor:
        low = torch.floor(v.detach())
        distance = (v - low).clamp(1e-4, 1 - 1e-4)
        odds = (torch.atanh(distance) - torch.atanh(1 - distance)) / temperature
        # The difference of two Gumbel variables is logistic.
        chance = torch.rand(v.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
        return low + torch.sigmoid((odds + _CHANCE * torch.logit(chance)) / temperature)

    return quantize

"""Training g_s alone: everything before it stands still, and so do the latents of a crop.

They are computed as the decoder will have them, with the entropy networks on integers, and kept in a file beside the
run's state: the crops of ``bank_steps`` steps come round again and again.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.contract import MEAN_STEPS
from s2c_deploy.errors import InputError
from s2c_deploy.files import cannot_write
from s2c_deploy.models import S2CModel

BANK = "latents.bank"


class LatentBank:
    """y_hat of the crops of a run's first steps, and the bits that they cost, once they have been computed.

    One record a crop, int16 M x h x w in 1/16 steps; ``known`` is written last, so that a record is whole or not there.
    """

    def __init__(self, file: Path, *, crops: int, channels: int, side: int, resumes: bool) -> None:
        """side: of the latents.  InputError where the file cannot be written, or is a link."""
        if os.path.islink(file):
            raise InputError(f"{file}: expected a regular file, found a link", hint="remove it")
        fields = [("y_hat", "<i2", (channels, side, side)), ("bits", "<f4"), ("known", "u1")]
        record = np.dtype(fields)
        try:
            if not resumes:
                file.unlink(missing_ok=True)
            with file.open("ab"):
                os.truncate(file, crops * record.itemsize)  # holes where nothing is known
            self._records = np.memmap(file, record, mode="r+", shape=(crops,))
        except OSError as error:
            raise cannot_write(file, error) from error

    def get(self, first: int, count: int) -> tuple[Tensor, Tensor] | None:
        """y_hat and bits of consecutive crops, unless one is unknown."""
        found = self._records[first : first + count]
        if not found["known"].all():
            return None
        return torch.from_numpy(found["y_hat"].astype(np.float32) / MEAN_STEPS), torch.from_numpy(found["bits"].copy())

    def put(self, first: int, y_hat: Tensor, bits: Tensor) -> None:
        """Keeps what 16 bits can hold."""
        steps = (y_hat * MEAN_STEPS).round()
        if float(steps.abs().max()) >= 2**15:
            return
        records = self._records[first : first + len(y_hat)]
        records["y_hat"], records["bits"] = steps.numpy(), bits.numpy()
        records["known"] = 1


class Frozen:
    """All of a model but its g_s, in evaluation mode, with exact entropy networks."""

    def __init__(self, model: S2CModel, bank: LatentBank | None) -> None:
        self.model, self.bank = model.eval(), bank

    @torch.no_grad()
    def latents(self, x: Tensor, levels: Tensor, first: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """What g_s is given, B x M x h x w; y_hat before its gain; and the bits per sample.

        first: the number of the first of the crops in the bank; None: they are not in it.
        """
        bank = None if first is None else self.bank
        known = None if bank is None or first is None else bank.get(first, len(x))
        if known is not None:
            y_hat, bits = (tensor.to(x.device) for tensor in known)
        else:
            y_hat, bits_y, bits_z = self.model.latents(x, levels)
            bits = bits_y + bits_z
            if bank is not None and first is not None:
                bank.put(first, y_hat.cpu(), bits.cpu())
        return y_hat * self.model.inverse_gain(levels), y_hat, bits

"""What a training run is asked to do, and the schedules that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2c_deploy.contract import ALIGNMENT
from s2c_deploy.errors import InputError
from s2c_deploy.presets import SynthesisConfig
from s2c_deploy.train.optimizer import OPTIMIZERS

#: ``lmbda_weight`` of g_s alone: its loss in dB is then about as dear at every quality.
SYNTHESIS_LMBDA_WEIGHT = 0.3


@dataclass(frozen=True, kw_only=True)
class SynthesisOnly:
    """A g_s to be trained for the latents of a finished model."""

    shape: SynthesisConfig
    #: Hash of the model's tensors.
    weights_sha256: str
    #: So many steps have crops of their own, then the same come round: their latents are computed once.  0: all do.
    bank_steps: int = 2000

    def __post_init__(self) -> None:
        _check("bank_steps", self.bank_steps >= 0, "0 or more", self.bank_steps)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What a run is asked to do.  Fractions are of all its steps."""

    #: Optimiser steps in all.
    steps: int
    #: soap or adam.
    optimizer: str = "soap"
    #: Crops per step, of all processes together.
    batch: int = 8
    #: Their side in pixels.
    crop: int = 128
    #: Their side at the end; the batch is smaller then, so that a step costs the same.
    last_crop: int = 256
    #: Fraction from which the crops have that side.
    last_crop_from: float = 0.9
    #: Held from the end of the warm-up until ``decay_from``.
    learning_rate: float = 5e-4
    #: Where it falls to, along a cosine.
    final_rate: float = 1e-5
    #: Steps in which it rises.
    warmup: int = 200
    #: Fraction from which it falls.
    decay_from: float = 0.4
    #: So many steps at first train the entropy model alone, on the transforms as they begin.
    entropy_steps: int = 0
    #: Fraction from which the entropy networks compute in the exact integers that ship (1: never).
    exact_from: float = 0.85
    clip: float = 1.0
    ema_decay: float = 0.999
    #: A sample's loss is divided by lmbda^lmbda_weight, so that no quality level outshouts the others.
    lmbda_weight: float = 0.5
    seed: int = 0
    device: str = "cpu"
    #: Autocast until integers begin; pays where the processor multiplies bfloat16 in hardware.
    bfloat16: bool = False
    compiled: bool = False
    #: Train g_s alone, everything else standing still.
    only: SynthesisOnly | None = None
    #: Steps between saved states.
    save_every: int = 500
    #: Steps between looks at the held-out pictures.
    validate_every: int = 5000

    def __post_init__(self) -> None:
        _check("optimizer", self.optimizer in OPTIMIZERS, " or ".join(OPTIMIZERS), self.optimizer)
        for name in ("steps", "batch", "save_every", "validate_every"):
            _check(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        for name in ("crop", "last_crop"):
            side = getattr(self, name)
            _check(name, side >= ALIGNMENT and side % ALIGNMENT == 0, f"a multiple of {ALIGNMENT}", side)
        for name in ("decay_from", "exact_from", "last_crop_from"):
            _check(name, 0 <= getattr(self, name) <= 1, "a fraction of the steps, 0 to 1", getattr(self, name))
        alone, last = self.entropy_steps, self.exact_step
        _check("entropy_steps", 0 <= alone <= last, f"at most {last}, where integers begin", alone)
        int8 = self.only is not None and self.only.shape.int8
        _check("bfloat16", not (int8 and self.bfloat16), "none with a g_s of bytes: it does not hold them", True)
        for name in ("learning_rate", "final_rate", "clip"):
            _check(name, getattr(self, name) > 0, "above 0", getattr(self, name))

    @property
    def exact_step(self) -> int:
        """The first step on integers."""
        return math.ceil(self.exact_from * self.steps)

    def crop_at(self, step: int) -> tuple[int, int]:
        """Side of the crops of a step, and their number."""
        if step < self.last_crop_from * self.steps or self.last_crop == self.crop:
            return self.crop, self.batch
        return self.last_crop, max(1, round(self.batch * (self.crop / self.last_crop) ** 2))

    def crops_of(self, step: int) -> int:
        """The step whose crops a step takes: its own, unless latents are kept."""
        bank = 0 if self.only is None else self.only.bank_steps
        return step % bank if bank and self.crop_at(step)[0] == self.crop else step

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, plateau, cosine."""
        start = self.decay_from * self.steps
        progress = min(max(0.0, (step - start) / max(1.0, self.steps - start)), 1.0)
        low, high = self.final_rate, self.learning_rate
        rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))
        return min(rate, high * (step + 1) / self.warmup) if step < self.warmup else rate


def _check(name: str, holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise InputError(f"{name}: expected {expected}, found {found}")

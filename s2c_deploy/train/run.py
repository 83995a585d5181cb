"""The state of a run: model, optimiser, averages; one step of it; saved and resumed exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.models import S2CModel
from s2c_deploy.models.model import ModelOutput
from s2c_deploy.presets import ModelConfig
from s2c_deploy.quantize import exact_model, exact_twin
from s2c_deploy.quantize.calibrate import range_names
from s2c_deploy.train.data import Crops
from s2c_deploy.train.frozen import Frozen, LatentBank
from s2c_deploy.train.log import Row, TrainingLog
from s2c_deploy.train.objective import balanced, rate_distortion_cost
from s2c_deploy.train.optimizer import make_optimizer
from s2c_deploy.train.parallel import Processes
from s2c_deploy.train.settings import TrainSettings
from s2c_deploy.train.state import (
    STATE,
    check_optimizer,
    check_ranges,
    check_tensors,
    read_state,
    unusable,
    write_state,
)

#: What may differ when a run goes on; everything else would make it another run.
_FREE_SETTINGS = ("device", "compiled", "save_every", "validate_every")
#: What may differ besides until its last step: only what is ahead depends on it.
_SCHEDULE = ("steps", "final_rate", "decay_from", "exact_from", "last_crop", "last_crop_from")
#: What stands still while the entropy model learns alone.
_TRANSFORMS = ("g_a.", "g_s.", "log_gain", "log_inverse_gain")


def own_gradients(parameters: Iterable[Parameter]) -> None:
    """Gives every gradient memory of its own.

    The terms of a sum of stacked tensors, as biases on integers are, get views of one gradient: clipping in place would
    scale it once for each of them.
    """
    seen = set()
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.data_ptr() in seen:
            parameter.grad = parameter.grad.clone()
        seen.add(parameter.grad.data_ptr())


class Run:
    """Every random number of a step follows from (seed, step), so nothing random needs to be saved.

    ``model`` holds the parameters; what computes is the model itself or, in the last phase, its exact twin.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: TrainSettings,
        crops: Crops,
        processes: Processes,
        initial: dict[str, Tensor] | None = None,
        bank: LatentBank | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.config, self.settings, self.crops, self.processes = config, settings, crops, processes
        self.model = self._fresh_model()
        if initial is not None:
            self.model.load_state_dict(initial)
        self.model.to(processes.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.averages = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.trained = [p for name, p in self.model.named_parameters() if name.startswith(self._trained_prefix)]
        self.optimizer = make_optimizer(
            settings.optimizer, self.trained, settings.learning_rate, bfloat16=settings.bfloat16
        )
        self.lmbdas = torch.tensor(config.lmbdas, device=processes.device)
        self.ranges: dict[str, Tensor] | None = None
        self.frozen: Frozen | None = None
        self._bank = bank
        self.step = 0
        self.log = TrainingLog()
        self.validation: list[Row] = []
        self._begin_phase()

    @property
    def _trained_prefix(self) -> str:
        return "" if self.settings.only is None else "g_s."

    def _fresh_model(self) -> S2CModel:
        return S2CModel(self.config, None if self.settings.only is None else self.settings.only.shape)

    def _begin_phase(self) -> None:
        held = self.step < self.settings.entropy_steps
        for name, parameter in self.model.named_parameters():
            learns = name.startswith(self._trained_prefix) and not (held and name.startswith(_TRANSFORMS))
            parameter.requires_grad_(learns)
        self._compute_with(self.model)

    def _compute_with(self, network: torch.nn.Module) -> None:
        if self.settings.compiled:
            network = torch.compile(network)  # type: ignore[assignment]
        self.network = self.processes.spread(network)

    def go_exact(self, ranges: dict[str, Tensor]) -> None:
        """From the next step on, the entropy networks compute in integers on grids chosen from ``ranges``."""
        self.ranges = self.processes.shared({name: tensor.cpu() for name, tensor in ranges.items()})
        twin = exact_twin(self.model.cpu(), self.ranges)
        self._compute_with(twin.to(self.processes.device).train())

    def freeze(self, ranges: dict[str, Tensor]) -> None:
        """Everything but g_s stands still, with the entropy networks on integers of these ranges."""
        self.ranges = {name: tensor.cpu() for name, tensor in ranges.items()}
        self.frozen = Frozen(exact_model(self.model.cpu(), self.ranges).to(self.processes.device), self._bank)
        self.model.to(self.processes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compute_with(self.model.g_s)

    def one_step(self) -> None:
        """One optimiser step; each sample draws its own quality level."""
        settings, rank = self.settings, self.processes.rank
        if self.step == settings.entropy_steps > 0:
            self._begin_phase()
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate_at(self.step)
        side, batch = settings.crop_at(self.step)
        crops, levels = self.crops.batch(settings.crops_of(self.step), range(rank, batch, self.processes.count), side)
        x = torch.from_numpy(crops).to(self.processes.device).contiguous(memory_format=torch.channels_last)
        level = torch.from_numpy(levels).to(self.processes.device)
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, self.step, rank]).generate_state(1)[0]))
        output = self._output(x, level)
        cost = rate_distortion_cost(output, x, self.lmbdas[level], self.config.objective)
        self.optimizer.zero_grad()
        loss = balanced(cost.loss, self.lmbdas[level], self.lmbdas, settings.lmbda_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        own_gradients(self.trained)
        norm = torch.nn.utils.clip_grad_norm_(self.trained, settings.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
        self._average()
        last = self.step + 1 == settings.steps
        self.log.add(cost, rate=settings.rate_at(self.step), step=self.step, last=last)
        self.step += 1

    def _output(self, x: Tensor, level: Tensor) -> ModelOutput:
        settings = self.settings
        if self.frozen is None:
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16 and self.ranges is None):
                output: ModelOutput = self.network(x, level)
            return output
        repeated = self._bank is not None and x.shape[-1] == settings.crop
        first = settings.crops_of(self.step) * settings.batch if repeated else None
        gained, y_hat, bits = self.frozen.latents(x, level, first)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
            x_hat = self.network(gained.contiguous(memory_format=torch.channels_last))
        return ModelOutput(x_hat=x_hat, y_hat=y_hat, bits_y=bits, bits_z=torch.zeros_like(bits))

    @torch.no_grad()
    def _average(self) -> None:
        # A short memory at first: the average must not be dominated by the random start.
        decay = min(self.settings.ema_decay, (2 + self.step) / (11 + self.step))
        for name, value in self.model.state_dict().items():
            if name.startswith(self._trained_prefix):
                self.averages[name].lerp_(value, 1 - decay)

    def averaged_model(self) -> S2CModel:
        """A float model of the averaged weights, in evaluation mode, on the run's device."""
        model = self._fresh_model()
        model.load_state_dict(self.averages)
        return model.to(self.processes.device).eval()

    def save(self, out: Path) -> None:
        """Writes state.pt beside the old one, then renames; InputError where it cannot be written."""
        state = {
            "config": asdict(self.config),
            "settings": asdict(self.settings),
            "model": self.model.state_dict(),
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
            "ranges": self.ranges,
            "step": self.step,
            "log": self.log.rows,
            "log_sums": self.log.sums,
            "validation": self.validation,
        }
        write_state(out, state)

    def resume(self, out: Path) -> None:
        """Goes on from ``out/state.pt``.

        InputError if the file is damaged (it says what to delete), and if it is another run's: what differs is named.
        """
        file, state = out / STATE, read_state(out)
        check_same_run(out, state, self.config, self.settings)
        check_tensors(file, "model", state["model"], self.model.state_dict())
        check_tensors(file, "averages", state["averages"], self.averages)
        check_optimizer(file, state["optimizer"], self.optimizer.state_dict(), self.trained)
        if not 0 <= state["step"] <= self.settings.steps:
            raise unusable(file, f"a step from 0 to {self.settings.steps}", state["step"])
        self.model.load_state_dict(state["model"])
        for name, tensor in state["averages"].items():
            self.averages[name].copy_(tensor)
        self.step = state["step"]
        self._begin_phase()
        if state["ranges"] is not None:
            check_ranges(file, state["ranges"], range_names(len(self.config.groups)))
            try:
                (self.go_exact if self.settings.only is None else self.freeze)(state["ranges"])
            except ExportError as error:
                raise unusable(file, "ranges of this model's activations", error.message) from error
        self.optimizer.load_state_dict(state["optimizer"])
        self.log.rows, self.log.sums = state["log"], state["log_sums"]
        self.validation = state["validation"]


def check_same_run(out: Path, state: Mapping[str, Any], config: ModelConfig, settings: TrainSettings) -> None:
    """InputError, which names what differs, unless a state is of a run with this configuration and these settings.

    The schedule of a run that has not ended may be another one, of no fewer steps than it has made.
    """
    wanted = asdict(config) | asdict(settings)
    found = state["config"] | state["settings"]
    free = _FREE_SETTINGS if state["step"] == found.get("steps") else _FREE_SETTINGS + _SCHEDULE
    differing = [
        f"{name} {found.get(name)!r:.80} there, {wanted[name]!r} here"
        for name in wanted
        if name not in free and wanted[name] != found.get(name)
    ]
    if differing:
        raise InputError(
            f"{out} holds a run with other settings: {'; '.join(differing)}",
            hint="give another --out; --from takes over the weights",
        )
    planned = found.get("steps")
    if isinstance(planned, int) and settings.steps < state["step"] <= planned:  # and not a step of a damaged state
        raise InputError(f"{out} has made {state['step']:,} steps: expected at least as many, found {settings.steps:,}")

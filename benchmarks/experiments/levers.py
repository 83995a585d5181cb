"""What makes an hour of training worth more?  Ways to train S2C-Conv ``tiny``, at equal processor time.

    python -m benchmarks.experiments.levers --data PHOTOS --from runs/ablation-trunk [--only WAY,…]
        [--seconds 100] [--seeds 2] [--out FILE.json]

Every way begins with the Karhunen-Loeve transform and an entropy model trained on it, whose command stands in
``benchmarks.experiments.ablation``, and with blocks that are the identity.  Some steps tell what one costs; the run
then has as many as the time buys, on one thread, with its learning rate's decay over its own length.  BD-rate: on the
same held-out pictures against ``soap`` of the same seed, by code lengths of the averaged weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.experiments.ablation import against, among, short_run, trunk
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint, load_checkpoint
from s2c_deploy.models.lighter import lighter_start
from s2c_deploy.presets import ModelConfig, model_config, synthesis_config
from s2c_deploy.report.environment import processor
from s2c_deploy.report.table import Table, markdown
from s2c_deploy.train import TrainSettings, hold_out, open_cache
from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.parallel import Processes
from s2c_deploy.train.run import Run
from s2c_deploy.train.soap import Soap
from s2c_deploy.train.validation import rate_distortion

BASELINE = "soap"
#: Steps that tell what one costs, after two that allocate: two rounds of SOAP's bases.
_TRIED = 20


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train; what it leaves alone is as in ``soap``."""

    #: What its model is besides: shortcuts, transposed, or nothing.
    model: str = ""
    optimizer: str = "soap"
    learning_rate: float = 5e-4
    batch: int = 4
    crop: int = 128
    bfloat16: bool = True
    #: Of SOAP: steps between new bases.
    bases_every: int = 10


WAYS = {
    BASELINE: Way(),
    "adam": Way(optimizer="adam", learning_rate=1e-3),
    "float32": Way(bfloat16=False),
    "half the rate": Way(learning_rate=2.5e-4),
    "twice the rate": Way(learning_rate=1e-3),
    "batches of 2": Way(batch=2),
    "batches of 8": Way(batch=8),
    "one crop of 256": Way(batch=1, crop=256),
    "bases every 40th step": Way(bases_every=40),
    "linear shortcuts": Way(model="shortcuts"),
    "transposed upsampling": Way(model="transposed"),
}


class Shortcut(nn.Module):
    """A stage with a linear way around it, zero at first: what AuxT (arXiv 2501.13751) lays beside the stages of g_a
    and g_s.  A Haar wavelet and a projection of its bands are together a convolution of 2 x 2 with stride 2."""

    def __init__(self, stage: list[nn.Module], way: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        nn.init.zeros_(way.weight)
        self.stage, self.way = nn.Sequential(*stage), way

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.stage(x) + self.way(x)
        return out


def lay_shortcuts(model: S2CModel, config: ModelConfig) -> None:
    """Lays one around every stage, the last convolution of either transform being one of its own."""
    latent, rising = config.latent_channels, (3, *config.widths)
    for transform, depths, channels, kind in (
        (model.g_a, config.depths, (*rising, latent), nn.Conv2d),
        (model.g_s, config.depths[::-1], (latent, *rising[::-1]), nn.ConvTranspose2d),
    ):
        layers, stages = list(transform), []
        for depth, inputs, outputs in zip((*depths, 0), channels, channels[1:], strict=False):
            stages.append(Shortcut(layers[: 1 + depth], kind(inputs, outputs, 2, stride=2, bias=False)))
            layers = layers[1 + depth :]
        transform._modules = {str(i): stage for i, stage in enumerate(stages)}


class WayRun(Run):
    """A run whose model and optimiser are a way's."""

    def __init__(self, way: Way, config: ModelConfig, settings: TrainSettings, crops: Crops, start: Checkpoint) -> None:
        self.way = way
        begun = S2CModel(config)
        begun.load_state_dict(trunk(config, start, settings.seed))
        super().__init__(config, settings, crops, Processes(device="cpu"), self._changed(begun).state_dict())
        if way.optimizer == "soap":
            self.optimizer = Soap(self.trained, way.learning_rate, bfloat16=way.bfloat16, bases_every=way.bases_every)

    def _fresh_model(self) -> S2CModel:
        return self._changed(S2CModel(self.config))

    def _changed(self, model: S2CModel) -> S2CModel:
        config = model.config
        if self.way.model == "transposed":
            shape = replace(synthesis_config(config), upsampling="transposed3x3")
            model.g_s = lighter_start(config, shape, model.g_s)
        if self.way.model == "shortcuts":
            lay_shortcuts(model, config)
        return model


def settings_of(way: Way, steps: int, seed: int) -> TrainSettings:
    """Of a run of a way; the warm-up and the decay are fractions of its own length."""
    return short_run(
        steps,
        batch=way.batch,
        crop=way.crop,
        optimizer=way.optimizer,
        learning_rate=way.learning_rate,
        bfloat16=way.bfloat16,
        seed=seed,
    )


def trained(way: Way, pictures: Pictures, start: Checkpoint, seconds: float, seed: int) -> dict[str, Any]:
    """What a way makes of so much processor time: steps, seconds, and the held-out curve."""
    config = model_config("conv", "tiny")
    crops = Crops(pictures, levels=config.levels, seed=seed)
    trial = WayRun(way, config, settings_of(way, _TRIED + 2, seed), crops, start)
    for _ in range(2):
        trial.one_step()
    began = time.process_time()
    for _ in range(_TRIED):
        trial.one_step()
    steps = max(1, round(seconds * _TRIED / (time.process_time() - began)))
    run = WayRun(way, config, settings_of(way, steps, seed), crops, start)
    began = time.process_time()
    for _ in range(steps):
        run.one_step()
    spent = time.process_time() - began
    return {"steps": steps, "seconds": spent, "curve": rate_distortion(run.averaged_model(), pictures, steps)}


def compare(
    ways: dict[str, Way], pictures: Pictures, start: Checkpoint, seconds: float, seeds: int
) -> list[dict[str, Any]]:
    """The ways in their order, with the BD-rate of every seed against the baseline's, None where curves do not compare
    (or the baseline is not among the ways)."""
    results: list[dict[str, Any]] = []
    for name, way in ways.items():
        print(name, file=sys.stderr, flush=True)
        runs = [trained(way, pictures, start, seconds, seed) for seed in range(seeds)]
        results.append({"way": name, **asdict(way), "runs": runs})
    anchors: list[dict[str, Any]] = next((result["runs"] for result in results if result["way"] == BASELINE), [])
    for result in results:
        pairs = zip(anchors, result["runs"], strict=False)
        result["bd_rates"] = [against(anchor["curve"], run["curve"]) for anchor, run in pairs]
    return results


def table(results: list[dict[str, Any]]) -> Table:
    """A row for each way."""
    rows = []
    for result in results:
        rates = [rate for rate in result["bd_rates"] if rate is not None]
        shown = [f"{mean(rates):+.1f} %", " ".join(f"{rate:+.1f}" for rate in rates)] if rates else ["-", "-"]
        steps, spent = (mean(run[name] for run in result["runs"]) for name in ("steps", "seconds"))
        rows.append((result["way"], f"{steps:.0f}", f"{1000 * spent / steps:.0f}", *shown))
    columns = ("way", "steps", "ms a step", f"BD-rate against {BASELINE}", "of each seed")
    return Table(title="ways to train at equal processor time", columns=columns, rows=tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to train S2C-Conv tiny, at equal processor time.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=Path, required=True, help="folder of the trunk")
    parser.add_argument("--cache", type=Path, default=Path("runs/pictures.u8"), help="decoded pictures")
    parser.add_argument("--only", default="", help=f"some of {', '.join(WAYS)}; with commas between")
    parser.add_argument("--seconds", type=float, default=100.0, help="of one core, for a run")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    ways = among(arguments.only, WAYS)
    torch.set_num_threads(1)
    pictures = hold_out(open_cache(arguments.data, arguments.cache), 16)
    start = load_checkpoint(arguments.start)
    results = compare(ways, pictures, start, arguments.seconds, arguments.seeds)
    print(markdown(table(results)))
    if arguments.out is not None:
        record = {"seconds": arguments.seconds, "processor": processor(), "torch": torch.__version__}
        arguments.out.write_text(json.dumps(record | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

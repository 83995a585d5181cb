"""Training in two processes: one batch between them, gradients averaged, and the first one writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training import CONFIG, SETTINGS, nine_pictures

from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.objective import balanced, rate_distortion_cost
from s2c_deploy.train.parallel import Processes
from s2c_deploy.train.run import STATE, Run

#: Both phases, and no clipping: it would hide a sum that was not divided.
TWO_PHASES = replace(SETTINGS, optimizer="adam", steps=3, last_crop=64, exact_from=0.6, validate_every=100, clip=1e9)
BEGINNING = """
import json, os, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from s2c_deploy.presets import ModelConfig
from s2c_deploy.train import TrainSettings, hold_out, open_cache, train
asked = json.loads(sys.argv[1])
config = ModelConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in asked["config"].items()})
settings = TrainSettings(**asked["settings"])
pictures = hold_out(open_cache(Path(asked["data"]), Path(asked["data"]) / "cache.u8"), 2)
out = Path(asked["out"]) / os.environ["RANK"]
"""
TRAINING = (
    BEGINNING
    + """
result = train(config, settings, pictures, out)
assert (result is None) == (os.environ["RANK"] != "0")
"""
)
#: A run's steps, with the weights before each, and the gradients it stepped with.
STEPS = (
    BEGINNING
    + """
from s2c_deploy.train.data import Crops
from s2c_deploy.train.parallel import processes
from s2c_deploy.train.release import calibrate
from s2c_deploy.train.run import Run
seen = []
with processes("cpu") as group:
    run = Run(config, settings, Crops(pictures, levels=config.levels, seed=settings.seed), group)
    while run.step < settings.steps:
        if run.step == settings.exact_step:
            run.go_exact(calibrate(run.averaged_model(), pictures) if group.first else {})
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        run.one_step()
        gradients = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
        seen.append({"before": before, "gradients": gradients, "ranges": run.ranges})
out.mkdir()
torch.save(seen, out / "seen.pt")
"""
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return nine_pictures(tmp_path_factory.mktemp("pictures"))


def in_two_processes(script: str, pictures: Pictures, out: Path) -> None:
    """Runs a script as torchrun would, on a free port of this machine's own, one thread each."""
    (out / "script.py").write_text(script)
    data = str(Path(str(pictures.cache.pixels.filename)).parent)  # type: ignore[attr-defined]
    asked = {"config": asdict(CONFIG), "settings": asdict(TWO_PHASES), "data": data, "out": str(out)}
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *rendezvous]
    done = subprocess.run(
        [*command, str(out / "script.py"), json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_first_process_writes(pictures: Pictures, tmp_path: Path) -> None:
    in_two_processes(TRAINING, pictures, tmp_path)
    state = torch.load(tmp_path / "0" / STATE, weights_only=True)
    assert state["step"] == TWO_PHASES.steps
    assert state["ranges"]
    assert not any((tmp_path / "1").iterdir())


def test_two_processes_average_their_gradients(pictures: Pictures, tmp_path: Path) -> None:
    """Against the same two halves of the batch, one after the other in one process, from the same weights.

    Gradients, not weights after some steps: Adam makes a step of full size of a gradient's sign, and the phase on
    integers a whole step of a weight's last bit.
    """
    torch.set_num_threads(1)  # as there: threads change the order of sums
    in_two_processes(STEPS, pictures, tmp_path)
    first, second = (torch.load(tmp_path / rank / "seen.pt", weights_only=True) for rank in ("0", "1"))
    assert len(first) == TWO_PHASES.steps
    crops = Crops(pictures, levels=CONFIG.levels, seed=TWO_PHASES.seed)
    for step, seen in enumerate(first):
        for kind in ("before", "gradients"):
            assert all(torch.equal(tensor, second[step][kind][name]) for name, tensor in seen[kind].items())
        assert (seen["ranges"] is None) == (step < TWO_PHASES.exact_step)
        halves = [_half(crops, step, rank, seen) for rank in (0, 1)]
        assert halves[0].keys() == halves[1].keys() == seen["gradients"].keys()
        for name, gradient in seen["gradients"].items():
            expected = (halves[0][name] + halves[1][name]) / 2
            # The same kernels give the same halves; only their sum may be rounded otherwise, in 24 bits.  In one
            # element of a tensor halves may cancel, so it is held to the largest.
            bound = 1e-5 * float(expected.abs().max())
            assert float((gradient - expected).abs().max()) <= bound, (step, name)
            # Neither half alone would do; what new blocks compute before their zeros has no gradient at first.
            assert float((gradient - halves[0][name]).abs().max()) > 100 * bound or not expected.any(), (step, name)


def _half(crops: Crops, step: int, rank: int, seen: dict[str, Any]) -> dict[str, Tensor]:
    """One process's gradients of a step by name, from the weights before it."""
    settings = TWO_PHASES
    run = Run(CONFIG, settings, crops, Processes(), seen["before"])
    if seen["ranges"] is not None:
        run.go_exact(seen["ranges"])
    x, levels = (torch.from_numpy(v) for v in crops.batch(step, range(rank, 4, 2), 64))
    x = x.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, step, rank]).generate_state(1)[0]))
    cost = rate_distortion_cost(run.network(x, levels), x, run.lmbdas[levels])
    loss = balanced(cost.loss, run.lmbdas[levels], run.lmbdas, settings.lmbda_weight)
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}

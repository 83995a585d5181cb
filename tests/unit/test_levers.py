"""Ways to train: what each changes, and that they are compared as said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.experiments import levers
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import Checkpoint, load_checkpoint
from s2c_deploy.presets import model_config
from s2c_deploy.report.table import markdown
from s2c_deploy.train import hold_out, open_cache
from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.soap import Soap

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    return load_checkpoint(ROOT / "export" / "conv-tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return hold_out(open_cache(tmp_path, tmp_path / "pictures.u8"), 1)


@torch.no_grad()
def test_shortcuts_begin_as_nothing_and_reach_around_every_stage() -> None:
    torch.manual_seed(0)
    config = model_config("conv", "tiny")
    model = S2CModel(config).eval()
    x, latent = torch.rand(1, 3, 64, 128), torch.randn(1, config.latent_channels, 4, 8)
    expected = model.g_a(x), model.g_s(latent)
    levers.lay_shortcuts(model, config)
    found = model.g_a(x), model.g_s(latent)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    for transform in (model.g_a, model.g_s):
        assert len(transform) == 4
        for stage in transform:
            assert isinstance(stage, levers.Shortcut)
            before = transform(x if transform is model.g_a else latent)
            stage.way.weight.fill_(0.1)
            assert not torch.equal(before, transform(x if transform is model.g_a else latent))


def test_a_way_begins_with_the_trunk_and_trains_what_it_says(start: Checkpoint, pictures: Pictures) -> None:
    config = model_config("conv", "tiny")
    crops = Crops(pictures, levels=config.levels, seed=0)
    names = {}
    for name in (levers.BASELINE, "linear shortcuts", "transposed upsampling"):
        way = levers.WAYS[name]
        run = levers.WayRun(way, config, levers.settings_of(way, 5, 0), crops, start)
        names[name] = {key: tensor.shape for key, tensor in run.averages.items()}
        assert torch.equal(run.averages["h_a.0.weight"], start.model.state_dict()["h_a.0.weight"])
        assert run.averaged_model().state_dict().keys() == names[name].keys()
    seldom = levers.WAYS["bases every 40th step"]
    run = levers.WayRun(seldom, config, levers.settings_of(seldom, 5, 0), crops, start)
    assert isinstance(run.optimizer, Soap)
    assert run.optimizer._bases_every == 40
    plain, shortcuts, transposed = names.values()
    assert sum("way" in key for key in shortcuts) == 8
    assert plain["g_s.0.0.weight"] == (4 * 96, 256, 3, 3)
    assert transposed["g_s.0.weight"] == (256, 96, 3, 3)


def test_every_way_has_the_steps_that_its_time_buys(
    start: Checkpoint, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levers, "_TRIED", 1)
    ways = {name: levers.WAYS[name] for name in ("batches of 8", levers.BASELINE, "batches of 2")}
    results = levers.compare(ways, pictures, start, seconds=1.0, seeds=1)
    assert [result["way"] for result in results] == list(ways)
    eight, four, two = (result["runs"][0] for result in results)
    assert 1 <= eight["steps"] < two["steps"]
    assert [len(run["curve"]) for run in (eight, four, two)] == [8, 8, 8]
    assert results[1]["bd_rates"] in ([0.0], [None])  # so short a run's curve may not rise


def test_the_table_has_the_mean_of_the_seeds() -> None:
    runs = [{"steps": 100, "seconds": 10.0}, {"steps": 300, "seconds": 30.0}]
    results = [
        {"way": "adam", "runs": runs, "bd_rates": [1.0, 2.0]},
        {"way": "alone", "runs": runs[:1], "bd_rates": [None]},
    ]
    assert markdown(levers.table(results)).splitlines()[-2:] == [
        "| adam | 200 | 100 | +1.5 % | +1.0 +2.0 |",
        "| alone | 100 | 100 | - | - |",
    ]

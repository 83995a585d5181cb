"""The ablation's figures, held against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from untrained import small_config

from benchmarks.experiments import ablation
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.train import TrainSettings, hold_out, open_cache

ROOT = Path(__file__).resolve().parents[2]
BLOCK = ("spatial", "aggregation")


def test_every_spatial_operator_meets_every_aggregation() -> None:
    models = ablation.candidates()
    assert len(models) == 4 * 4 + 1
    assert len(set(models.values())) == len(models)
    assert {(m.variant, m.aggregation) for m in models.values()} == {
        (variant, aggregation)
        for variant in ("identity", "conv", "attention", "hybrid")
        for aggregation in ("mlp", "conv_ffn", "glu", "glu_dw")
    }
    assert [name for name, model in models.items() if model.spatial_norm] == ["conv-glu-norm"]


def test_the_cost_is_what_training_minimises() -> None:
    # 20 dB is an MSE of 0.01, 10 dB one of 0.1; 255^2 = 65025.  The median lambda is 0.02.
    points = [{"quality": 1.0, "psnr": 10.0, "bpp": 0.5}, {"quality": 2.0, "psnr": 20.0, "bpp": 1.5}]
    costs = (0.01 * 6502.5 + 0.5, 0.03 * 650.25 + 1.5)
    assert ablation.balanced_cost(points, (0.01, 0.03), 0.0) == pytest.approx(sum(costs) / 2)
    balanced = costs[0] / 0.5**0.5 + costs[1] / 1.5**0.5
    assert ablation.balanced_cost(points, (0.01, 0.03), 0.5) == pytest.approx(balanced / 2)


def test_curves_that_do_not_rise_have_no_bd_rate() -> None:
    rising = [{"bpp": 0.1 * 2**i, "psnr": 25.0 + 2 * i} for i in range(5)]
    doubled = [{**p, "bpp": 2 * p["bpp"]} for p in rising]
    assert ablation.against(rising, doubled) == pytest.approx(100.0)
    flat = [{**p, "psnr": 25.0} for p in rising]
    assert ablation.against(rising, flat) is None


def test_some_of_the_models_can_be_asked_for() -> None:
    assert list(ablation.chosen("conv-glu-norm,conv-mlp")) == ["conv-glu-norm", "conv-mlp"]
    assert ablation.chosen("") == ablation.candidates()
    with pytest.raises(SystemExit, match=r"expected identity-mlp, .*; found conv-relu"):
        ablation.chosen("conv-mlp,conv-relu")


def test_the_table_says_what_cannot_be_compared() -> None:
    results = [
        {"model": "conv-mlp", "parameters": 3_456_000, "kmac_per_pixel": 27.9, "cost": 1.5, "bd_rate": -1.26},
        {"model": "identity-mlp", "parameters": 3_000_000, "kmac_per_pixel": 24.6, "cost": 2.0, "bd_rate": None},
    ]
    assert ablation.table(results).splitlines()[2:] == [
        "| conv-mlp | 3.46 | 27.9 | 1.500 | -1.3 % |",
        "| identity-mlp | 3.00 | 24.6 | 2.000 | - |",
    ]


def test_models_are_trained_and_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    pictures = hold_out(open_cache(tmp_path, tmp_path / "pictures.u8"), 1)
    settings = TrainSettings(steps=2, batch=1, crop=64, last_crop=64, exact_from=1.0)
    models = {f"{variant}-mlp": small_config(variant, aggregation="mlp") for variant in ("identity", "conv")}
    results = ablation.compare(models, settings, pictures, tmp_path / "runs")
    assert {r["model"] for r in results} == set(models)
    assert results[0]["cost"] <= results[1]["cost"]
    assert [r["bd_rate"] for r in results] == [None, None]  # nothing to compare with: no conv-glu among them
    expected = ablation.balanced_cost(results[0]["curve"], models[results[0]["model"]].lmbdas, 0.5)
    assert results[0]["cost"] == expected


def test_blocks_begin_fresh_on_a_trained_trunk() -> None:
    start = load_checkpoint(ROOT / "export" / "conv-tiny")
    trained = start.model.state_dict()
    state = ablation.trunk(ablation.candidates()["attention-glu"], start, 0)
    blocks = [name for name in state if name.startswith(("g_a.", "g_s.")) and name.split(".")[2] in BLOCK]
    assert len(blocks) == 6 * (6 + 8)  # six blocks: attention with its norm, glu with its own
    for name, tensor in state.items():
        if name in blocks:
            assert name not in trained or not torch.equal(tensor, trained[name]) or "norm" in name
        else:
            assert torch.equal(tensor, trained[name])

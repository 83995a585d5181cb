"""The ablation's figures, held against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import ablation

    return ablation


def test_every_spatial_operator_meets_every_aggregation(ablation) -> None:  # type: ignore[no-untyped-def]
    models = ablation.candidates()
    assert len(models) == 4 * 4 + 1
    assert len(set(models.values())) == len(models)
    assert {(m.variant, m.aggregation) for m in models.values()} == {
        (variant, aggregation)
        for variant in ("identity", "conv", "attention", "hybrid")
        for aggregation in ("mlp", "conv_ffn", "glu", "glu_dw")
    }
    assert [name for name, model in models.items() if model.spatial_norm] == ["conv-glu-norm"]


def test_the_cost_is_what_training_minimises(ablation) -> None:  # type: ignore[no-untyped-def]
    # 20 dB is an MSE of 0.01, 10 dB one of 0.1; 255^2 = 65025.  The median lambda is 0.02.
    points = [{"quality": 1.0, "psnr": 10.0, "bpp": 0.5}, {"quality": 2.0, "psnr": 20.0, "bpp": 1.5}]
    costs = (0.01 * 6502.5 + 0.5, 0.03 * 650.25 + 1.5)
    assert ablation.balanced_cost(points, (0.01, 0.03), 0.0) == pytest.approx(sum(costs) / 2)
    balanced = costs[0] / 0.5**0.5 + costs[1] / 1.5**0.5
    assert ablation.balanced_cost(points, (0.01, 0.03), 0.5) == pytest.approx(balanced / 2)


def test_curves_that_do_not_rise_have_no_bd_rate(ablation) -> None:  # type: ignore[no-untyped-def]
    rising = [{"bpp": 0.1 * 2**i, "psnr": 25.0 + 2 * i} for i in range(5)]
    doubled = [{**p, "bpp": 2 * p["bpp"]} for p in rising]
    assert ablation.against(rising, doubled) == pytest.approx(100.0)
    flat = [{**p, "psnr": 25.0} for p in rising]
    assert ablation.against(rising, flat) is None


def test_some_of_the_models_can_be_asked_for(ablation) -> None:  # type: ignore[no-untyped-def]
    assert list(ablation.chosen("conv-glu-norm,conv-mlp")) == ["conv-glu-norm", "conv-mlp"]
    assert ablation.chosen("") == ablation.candidates()
    with pytest.raises(SystemExit, match=r"expected identity-mlp, .*; found conv-relu"):
        ablation.chosen("conv-mlp,conv-relu")


def test_the_table_says_what_cannot_be_compared(ablation) -> None:  # type: ignore[no-untyped-def]
    results = [
        {"model": "conv-mlp", "parameters": 3_456_000, "kmac_per_pixel": 27.9, "cost": 1.5, "bd_rate": -1.26},
        {"model": "identity-mlp", "parameters": 3_000_000, "kmac_per_pixel": 24.6, "cost": 2.0, "bd_rate": None},
    ]
    assert ablation.table(results).splitlines()[2:] == [
        "| conv-mlp | 3.46 | 27.9 | 1.500 | -1.3 % |",
        "| identity-mlp | 3.00 | 24.6 | 2.000 | - |",
    ]

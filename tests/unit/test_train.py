"""Training: schedules, crops, resuming to the bit, the phase on integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training import CONFIG, SETTINGS, nine_pictures

from s2c_deploy import presets
from s2c_deploy.errors import InputError
from s2c_deploy.metrics import ms_ssim as ms_ssim_of_pictures
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.quantize import exact_model, exact_twin
from s2c_deploy.train import TrainSettings, train
from s2c_deploy.train.data import Crops, Pictures
from s2c_deploy.train.klt import klt_start
from s2c_deploy.train.objective import ms_ssim, rate_distortion_cost
from s2c_deploy.train.parallel import Processes
from s2c_deploy.train.release import calibrate
from s2c_deploy.train.run import STATE, Run


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return nine_pictures(tmp_path_factory.mktemp("pictures"))


def weights(out: Path) -> dict[str, Tensor]:
    state: dict[str, Any] = torch.load(out / STATE, weights_only=True)
    return {f"{kind}.{k}": v for kind in ("model", "averages") for k, v in state[kind].items()}


# schedules


def test_the_learning_rate_rises_holds_and_falls() -> None:
    settings = TrainSettings(steps=1000, learning_rate=1e-3, final_rate=1e-5, warmup=100, decay_from=0.5)
    rates = [settings.rate_at(step) for step in (0, 49, 99, 300, 500, 750, 1000)]
    assert rates == pytest.approx([1e-5, 5e-4, 1e-3, 1e-3, 1e-3, (1e-3 + 1e-5) / 2, 1e-5])


def test_larger_crops_cost_the_same() -> None:
    settings = TrainSettings(steps=100, batch=8, crop=128, last_crop=256, last_crop_from=0.9)
    assert settings.crop_at(89) == (128, 8)
    assert settings.crop_at(90) == (256, 2)
    assert settings.exact_step == 85


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"crop": 100}, "crop: expected a multiple of 64, found 100"),
        ({"optimizer": "sgd"}, "optimizer: expected soap or adam, found sgd"),
        ({"steps": 0}, "steps: expected at least 1, found 0"),
        ({"exact_from": 1.5}, "exact_from: expected a fraction"),
        ({"entropy_steps": 10}, "entropy_steps: expected at most 9, where integers begin, found 10"),
        ({"final_rate": 0.0}, "final_rate: expected above 0"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        TrainSettings(**({"steps": 10} | change))


# crops


def test_a_crop_depends_on_seed_step_and_sample_alone(pictures: Pictures) -> None:
    crops = Crops(pictures, levels=8, seed=5)
    x, levels = crops.batch(7, [0, 1, 2, 3], 64)
    odd, odd_levels = Crops(pictures, levels=8, seed=5).batch(7, [1, 3], 64)
    assert np.array_equal(x[1::2], odd)
    assert np.array_equal(levels[1::2], odd_levels)
    assert not np.array_equal(crops.batch(8, [0], 64)[0], x[:1])
    assert not np.array_equal(Crops(pictures, levels=8, seed=6).batch(7, [0], 64)[0], x[:1])


def test_crops_are_pieces_of_training_pictures_turned_or_not(pictures: Pictures) -> None:
    x, _ = Crops(pictures, levels=1, seed=0).batch(0, range(12), 64)
    sources = [pictures.cache.picture(i) for i in pictures.training]
    for crop in np.rint(x * 255).astype(np.uint8).transpose(0, 2, 3, 1):
        turned = [
            flipped
            for flat in (crop, crop.transpose(1, 0, 2))
            for flipped in (flat, flat[:, ::-1], flat[::-1], flat[::-1, ::-1])
        ]
        assert any(_inside(piece, source) for piece in turned for source in sources)


def _inside(piece: np.ndarray, picture: np.ndarray) -> bool:
    side = piece.shape[0]
    corners = picture[: picture.shape[0] - side + 1, : picture.shape[1] - side + 1]
    candidates = np.argwhere((corners == piece[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + side, x : x + side], piece) for y, x in candidates)


def test_held_out_pictures_are_never_trained_on(pictures: Pictures) -> None:
    assert len(pictures.held_out) == 2
    assert not set(pictures.held_out) & set(pictures.training)
    assert len(pictures.held_out) + len(pictures.training) == len(pictures.cache.shapes)


def test_large_pictures_are_drawn_more_often(pictures: Pictures) -> None:
    crops = Crops(pictures, levels=1, seed=1)
    usable, cumulative = crops._usable(64)
    areas = np.array([np.prod(pictures.cache.shapes[i]) for i in usable])
    assert np.allclose(np.diff(cumulative, prepend=0), areas / areas.sum())


def test_crops_larger_than_every_picture(pictures: Pictures) -> None:
    with pytest.raises(InputError, match="no picture is as large as the crop of 256"):
        Crops(pictures, levels=1, seed=0).batch(0, [0], 256)


# the objective


def test_ms_ssim_is_that_of_the_metrics(pictures: Pictures) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (176, 192, 3), dtype=np.uint8)
    b = np.clip(a.astype(int) + rng.integers(-40, 40, a.shape), 0, 255).astype(np.uint8)
    x, y = (torch.from_numpy(v).permute(2, 0, 1)[None].float() / 255 for v in (a, b))
    assert float(ms_ssim(x, y)) == pytest.approx(ms_ssim_of_pictures(a, b), abs=1e-5)


def test_the_cost_is_lambda_distortion_plus_rate() -> None:
    model = S2CModel(CONFIG).eval()
    x = torch.rand(2, 3, 192, 192)
    lmbdas = torch.tensor([0.01, 0.02])
    with torch.no_grad():
        output = model(x, torch.tensor([0, 1]))
    mse = (output.x_hat - x).square().mean((1, 2, 3))
    bpp = output.bits / 192**2
    assert torch.allclose(rate_distortion_cost(output, x, lmbdas).loss, lmbdas * 255**2 * mse + bpp)
    by_ssim = rate_distortion_cost(output, x, lmbdas, "ms-ssim").loss
    assert torch.allclose(by_ssim, lmbdas * (1 - ms_ssim(output.x_hat, x)) + bpp)


# resuming


def test_a_resumed_run_ends_with_the_same_bits(pictures: Pictures, tmp_path: Path) -> None:
    """Stopped in the float phase and again on integers, against a run in one piece.

    SOAP turns its eigenbases after ten steps: the run goes past that.
    """
    settings = replace(SETTINGS, steps=12, entropy_steps=2)
    torch.set_num_threads(1)
    whole = train(CONFIG, settings, pictures, tmp_path / "whole")
    crops = Crops(pictures, levels=CONFIG.levels, seed=settings.seed)
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    for stop in (3, 11):
        run = Run(CONFIG, settings, crops, Processes(), klt_start(CONFIG, pictures, settings.seed))
        if stop > 3:
            run.resume(pieces)
        while run.step < stop:
            if run.step == settings.exact_step:
                run.go_exact(calibrate(run.averaged_model(), pictures))
            run.one_step()
        run.save(pieces)
    rest = train(CONFIG, settings, pictures, pieces)
    assert whole is not None
    assert rest is not None
    assert whole.finished
    assert rest.finished
    first, second = weights(tmp_path / "whole"), weights(pieces)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert whole.validation[-3:] == rest.validation[-3:]


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_the_entropy_model_learns_alone_at_first(pictures: Pictures, tmp_path: Path, optimizer: str) -> None:
    """And a run stopped in that phase, or at its end, goes on as if it had not been."""
    settings = replace(SETTINGS, optimizer=optimizer, steps=6, entropy_steps=3, exact_from=1.0, last_crop=64)
    crops = Crops(pictures, levels=CONFIG.levels, seed=settings.seed)
    run = Run(CONFIG, settings, crops, Processes())
    seen = [{k: v.clone() for k, v in run.model.state_dict().items()}]
    for step in range(5):
        if step in (2, 3):
            run.save(tmp_path)
            run = Run(CONFIG, settings, crops, Processes())
            run.resume(tmp_path)
        run.one_step()
        seen.append({k: v.clone() for k, v in run.model.state_dict().items()})

    def moved(before: int, after: int) -> set[str]:
        return {name.split(".")[0] for name in seen[0] if not torch.equal(seen[before][name], seen[after][name])}

    transforms = {"g_a", "g_s", "log_gain", "log_inverse_gain"}
    assert moved(0, 3) == {"h_a", "h_s", "contexts", "log_hyper_gain", "z_index"}
    assert moved(3, 5) == moved(0, 3) | transforms


def test_another_run_in_the_same_folder_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    short = replace(SETTINGS, steps=2, validate_every=10)
    train(CONFIG, short, pictures, tmp_path)
    with pytest.raises(InputError, match=r"batch 4 there, 8 here; learning_rate 0\.0005 there, 0\.01 here.*--from"):
        train(CONFIG, replace(short, batch=8, learning_rate=0.01), pictures, tmp_path)
    with pytest.raises(InputError, match="variant 'conv' there, 'identity' here"):
        train(replace(CONFIG, variant="identity"), short, pictures, tmp_path)


def test_until_its_end_a_run_may_get_another_schedule(pictures: Pictures, tmp_path: Path) -> None:
    crops = Crops(pictures, levels=CONFIG.levels, seed=0)
    begun = Run(CONFIG, replace(SETTINGS, steps=1000, decay_from=1.0), crops, Processes())
    begun.one_step()
    begun.one_step()
    begun.save(tmp_path)
    with pytest.raises(InputError, match="has made 2 steps: expected at least as many, found 1"):
        train(CONFIG, replace(SETTINGS, steps=1), pictures, tmp_path)
    schedule = replace(SETTINGS, steps=3, decay_from=0.5, exact_from=0.9, last_crop_from=1.0, final_rate=1e-6)
    result = train(CONFIG, schedule, pictures, tmp_path)
    assert result is not None
    assert result.finished
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert float(rows[-1].split(",")[2]) == pytest.approx(schedule.rate_at(2), abs=1e-6)
    with pytest.raises(InputError, match="steps 3 there, 4 here"):  # its weights have cooled
        train(CONFIG, replace(schedule, steps=4), pictures, tmp_path)


def test_a_finished_run_is_a_folder_for_export(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (CONFIG.widths, CONFIG.depths, CONFIG.expansion, CONFIG.latent_channels, 16, 16)
    monkeypatch.setitem(presets._PRESETS, "micro", shape)
    result = train(replace(CONFIG, preset="micro"), SETTINGS, pictures, tmp_path)
    assert result is not None
    assert [(row["step"], row["quality"]) for row in result.validation] == [(s, q) for s in (4, 8) for q in (1, 2, 3)]
    assert {path.name for path in tmp_path.iterdir()} >= {"log.csv", "validation.csv", "run.png"}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.config == replace(CONFIG, preset="micro")
    assert checkpoint.recipe["training"]["steps"] == 8
    # The ranges are those of the phase on integers, and the weights the averages, rounded once.
    state = torch.load(tmp_path / STATE, weights_only=True)
    assert all(torch.equal(checkpoint.ranges[name], state["ranges"][name]) for name in state["ranges"])
    assert all(torch.equal(v, state["averages"][k].half().float()) for k, v in checkpoint.model.state_dict().items())
    # Asked for again, it is only read.
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = train(replace(CONFIG, preset="micro"), SETTINGS, pictures, tmp_path)
    assert again == result
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


# the phase on integers


def test_the_twin_trains_the_models_own_parameters(pictures: Pictures) -> None:
    run = Run(CONFIG, SETTINGS, Crops(pictures, levels=3, seed=0), Processes())
    before = {id(p) for p in run.model.parameters()}
    run.go_exact(calibrate(run.averaged_model(), pictures))
    assert {id(p) for p in run.network.parameters()} == before
    values = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for _ in range(3):
        run.one_step()
    moved = [name for name, p in run.model.named_parameters() if not torch.equal(p, values[name])]
    assert any(name.startswith("h_s.") for name in moved)
    assert any(".nonanchor_parameters." in name for name in moved)


@torch.no_grad()
def test_what_is_trained_is_what_is_shipped(pictures: Pictures) -> None:
    torch.manual_seed(0)
    model = S2CModel(CONFIG).eval()
    ranges = calibrate(model, pictures)
    twin, shipped = exact_twin(model, ranges).eval(), exact_model(model, ranges)
    x = torch.rand(1, 3, 128, 128)
    a, b = twin(x, torch.tensor([2])), shipped(x, torch.tensor([2]))
    assert torch.equal(a.x_hat, b.x_hat)
    assert torch.equal(a.bits, b.bits)


def test_integers_stay_exact_under_autocast(pictures: Pictures) -> None:
    torch.manual_seed(0)
    model = S2CModel(CONFIG).eval()
    exact = exact_model(model, calibrate(model, pictures))
    z = torch.randint(-20, 20, (1, CONFIG.hyper_channels, 3, 3)).float()
    with torch.no_grad():
        expected = exact.h_s(z)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(exact.h_s(z), expected)


def test_bfloat16_ends_where_integers_begin(pictures: Pictures) -> None:
    """What is trained last is the arithmetic that is shipped, of g_s too."""
    settings = replace(SETTINGS, bfloat16=True, steps=4)
    run = Run(CONFIG, settings, Crops(pictures, levels=CONFIG.levels, seed=0), Processes())
    seen: list[torch.dtype] = []
    run.model.g_s.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    run.one_step()
    run.go_exact(calibrate(run.averaged_model(), pictures))
    run.network.g_s.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    run.one_step()
    assert seen[0] == torch.bfloat16
    assert set(seen[1:]) == {torch.float32}


def test_clipping_scales_all_gradients_alike(pictures: Pictures) -> None:
    """Also those of biases that are added up before they are rounded, which PyTorch gives the same memory."""
    torch.set_num_threads(1)
    found = []
    for clip in (1e9, 1e-3):
        run = Run(CONFIG, replace(SETTINGS, clip=clip), Crops(pictures, levels=CONFIG.levels, seed=0), Processes())
        run.go_exact(calibrate(run.averaged_model(), pictures))
        run.one_step()
        found.append({name: p.grad for name, p in run.model.named_parameters() if p.grad is not None})
    whole, clipped = found
    norm = torch.cat([gradient.flatten() for gradient in whole.values()]).norm()
    for name, gradient in whole.items():
        assert torch.allclose(clipped[name], gradient * (1e-3 / norm), rtol=1e-3, atol=0), name


def test_bfloat16_is_soaps_too(pictures: Pictures) -> None:
    """On integers nothing else is in it: steps differ, by little."""
    ends = []
    for bfloat16 in (False, True):
        settings = replace(SETTINGS, bfloat16=bfloat16, steps=4)
        run = Run(CONFIG, settings, Crops(pictures, levels=CONFIG.levels, seed=0), Processes())
        start = run.model.g_s[0][0].weight.detach().clone()
        run.go_exact(calibrate(run.averaged_model(), pictures))
        for _ in range(2):
            run.one_step()
        ends.append(run.model.g_s[0][0].weight.detach() - start)
    assert 0 < float((ends[1] - ends[0]).norm() / ends[0].norm()) < 0.01

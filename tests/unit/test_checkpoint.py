"""The folder of a trained model: read whole, or refused with everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from s2c_deploy.errors import ExportError, InputError
from s2c_deploy.export.checkpoint import RECIPE, WEIGHTS, load_checkpoint, tensors_sha256

SHIPPED = Path(__file__).resolve().parent.parent.parent / "export" / "conv-tiny"
TOML = '[model]\nvariant = "conv"\npreset = "tiny"\n'
Edit = Callable[[dict[str, Tensor]], None]


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(SHIPPED / WEIGHTS)


def folder(path: Path, tensors: dict[str, Tensor], recipe: str = TOML) -> Path:
    save_file(tensors, path / WEIGHTS)
    (path / RECIPE).write_text(recipe, encoding="utf-8")
    return path


def test_a_good_folder(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    recipe = f'{TOML}[training]\nby = "Zoë"\nsteps = 3\n'
    checkpoint = load_checkpoint(folder(tmp_path, tensors, recipe))
    assert checkpoint.config.name == "conv-tiny"
    assert checkpoint.recipe["training"] == {"by": "Zoë", "steps": 3}
    assert not checkpoint.model.training
    state = checkpoint.model.state_dict()
    assert all(torch.equal(state[name], tensors[name].float()) for name in state)
    assert state.keys() | {f"calibration.{name}" for name in checkpoint.ranges} == tensors.keys()
    assert all(value.dtype == torch.float32 for value in (*state.values(), *checkpoint.ranges.values()))
    assert checkpoint.sha256 == load_checkpoint(SHIPPED).sha256


@pytest.mark.parametrize("missing", [WEIGHTS, RECIPE])
def test_missing_files(tmp_path: Path, tensors: dict[str, Tensor], missing: str) -> None:
    (folder(tmp_path, tensors) / missing).unlink()
    with pytest.raises(InputError, match=rf"no {missing} in .*--weights"):
        load_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"no recipe\.toml"):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "recipe",
    [
        b"[model\nvariant = ",
        b"",
        b"model = 3",
        b'[model]\nvariant = "conv"',
        b'[model]\nvariant = "conv"\npreset = "tiny"\ncolour = "red"',
        b'[model]\nvariant = ["conv"]\npreset = "tiny"',
        b'[model]\nvariant = "conv"\npreset = "tiny"\n# \xff\xfe',
    ],
    ids=["syntax", "empty", "no table", "no preset", "unknown key", "a list", "not UTF-8"],
)
def test_bad_recipes(tmp_path: Path, tensors: dict[str, Tensor], recipe: bytes) -> None:
    (folder(tmp_path, tensors) / RECIPE).write_bytes(recipe)
    with pytest.raises(InputError, match=r"recipe\.toml: expected a \[model\] table"):
        load_checkpoint(tmp_path)


def test_recipes_of_unknown_models(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"preset: expected one of tiny, .* found 'huge'"):
        load_checkpoint(folder(tmp_path, tensors, TOML.replace("tiny", "huge")))
    with pytest.raises(InputError, match=r"variant: expected one of identity, .* found 'mamba'"):
        load_checkpoint(folder(tmp_path, tensors, TOML.replace("conv", "mamba")))


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights(tmp_path: Path, tensors: dict[str, Tensor], keep: int) -> None:
    file = folder(tmp_path, tensors) / WEIGHTS
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"weights\.safetensors: expected safetensors"):
        load_checkpoint(tmp_path)


def test_all_tensors_that_do_not_fit_are_named_at_once(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    bad = dict(tensors)
    del bad["g_a.0.bias"], bad["h_s.4.weight"]
    bad["g_a.9.surprise"] = torch.zeros(1)
    bad["log_gain"] = bad["log_gain"][:4].clone()
    bad["g_s.0.0.bias"] = bad["g_s.0.0.bias"].clone()
    bad["g_s.0.0.bias"][7] = float("nan")
    bad["z_index"] = torch.full_like(bad["z_index"], float("inf"))
    bad["calibration.2.mixed"] = torch.full_like(bad["calibration.2.mixed"], float("nan"))
    with pytest.raises(ExportError) as caught:
        load_checkpoint(folder(tmp_path, bad))
    assert str(caught.value).splitlines() == [
        "7 tensors do not fit the model:",
        "  missing g_a.0.bias (32,)",
        "  missing h_s.4.weight (192, 96, 3, 3)",
        "  unexpected g_a.9.surprise",
        "  log_gain: expected (8, 256), found (4, 256)",
        "  calibration.2.mixed: not finite",
        "  g_s.0.0.bias: not finite",
        "  z_index: not finite",
    ]


def test_a_single_tensor_that_does_not_fit(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    bad = {**tensors, "calibration.y_hat": torch.full_like(tensors["calibration.y_hat"], float("inf"))}
    with pytest.raises(ExportError, match=r"1 tensors do not fit the model:\n  calibration\.y_hat: not finite$"):
        load_checkpoint(folder(tmp_path, bad))


def test_weights_of_another_variant(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ExportError, match=r"(?s)tensors do not fit .*missing .*qkv\.weight.*unexpected .*depthwise"):
        load_checkpoint(folder(tmp_path, tensors, TOML.replace("conv", "attention")))


def test_the_sha_is_that_of_names_and_values() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(4, dtype=torch.float16)
    sha = tensors_sha256({"a": a, "b": b})
    assert tensors_sha256({"b": b, "a": a}) == sha
    assert tensors_sha256({"a": a.T.contiguous().T, "b": b}) == sha
    others: list[dict[str, Tensor]] = [
        {"a": a + 1e-6, "b": b},
        {"a": b, "b": a},
        {"a": a.reshape(3, 2), "b": b},
        {"a": a, "b": b.float()},
        {"a": a, "c": b},
        {"a": a},
        {"a": a.bfloat16(), "b": b},
    ]
    assert len({sha, *map(tensors_sha256, others)}) == 1 + len(others)

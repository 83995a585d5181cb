"""The folder of a trained model: read whole, or refused with everything that is wrong with it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from untrained import checkpoint_of

from s2c_deploy.errors import ExportError, InputError, S2CError
from s2c_deploy.models.checkpoint import RECIPE, WEIGHTS, load_checkpoint, tensors_sha256

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
        TOML.encode() + b"spatial_norm = 1",
        TOML.encode() + b"objective = [1]",
        TOML.encode() + b"aggregation = 3",
        TOML.encode() + b"operand_bits = 9",
        TOML.encode() + b"operand_bits = [8]",
        TOML.encode() + b"lmbdas = 'abc'",
        TOML.encode() + b"lmbdas = []",
        TOML.encode() + b"lmbdas = [true]",
        TOML.encode() + b"lmbdas = [0.1, nan]",
        TOML.encode() + b"lmbdas = [-1]",
        TOML.encode() + b"lmbdas = [" + b"1," * 100_000 + b"]",
        TOML.encode() + b"[more]\na = " + b"[" * 100_000,
        TOML.encode() + b"[more]\na = " + b"1" * 5000,
        TOML.encode() + b"[more]\na = 0x" + b"f" * 5000,
        TOML.encode() + b"[" + b"a." * 50_000 + b"a]",
        b"\0" * 1000,
    ],
    ids=[
        *("syntax", "empty", "no table", "no preset", "unknown key", "a list", "not UTF-8"),
        *("a number for a switch", "an objective in a list", "a number for a name", "bits that no kernel has"),
        *("bits in a list", "text for lmbdas", "no lmbdas"),
        *("true for a lmbda", "no number", "below zero", "many lmbdas", "deep lists", "long integer", "long hex"),
        *("deep tables", "zeros"),
    ],
)
def test_bad_recipes(tmp_path: Path, tensors: dict[str, Tensor], recipe: bytes) -> None:
    (folder(tmp_path, tensors) / RECIPE).write_bytes(recipe)
    with pytest.raises(InputError, match=r"recipe\.toml: expected a \[model\] table"):
        load_checkpoint(tmp_path)


def test_a_recipe_fits_into_a_manifest(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Dates and infinities, which JSON has not, become text."""
    more = "[training]\nended = 2024-05-06T07:08:09Z\nloss = [inf, 1.5]\nbest = true\n"
    recipe = load_checkpoint(folder(tmp_path, tensors, TOML + more)).recipe
    assert recipe["training"] == {"ended": "2024-05-06 07:08:09+00:00", "loss": ["inf", 1.5], "best": True}
    assert json.loads(json.dumps(recipe, allow_nan=False)) == recipe


@pytest.mark.parametrize("name", [WEIGHTS, RECIPE])
def test_only_regular_files_of_the_folder_are_read(tmp_path: Path, tensors: dict[str, Tensor], name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    file = folder(inside, tensors) / name
    (tmp_path / "link").symlink_to(inside, target_is_directory=True)
    assert load_checkpoint(tmp_path / "link").config.name == "conv-tiny"  # the path itself is the user's word
    file.rename(tmp_path / name)
    makers: list[Callable[[], object]] = [
        lambda: file.symlink_to(tmp_path / name),
        lambda: os.mkfifo(file),
    ]
    for make in makers:
        make()
        with pytest.raises(InputError, match=rf"cannot read .*{name}: expected a regular file, found a"):
            load_checkpoint(inside)
        file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=rf"cannot read .*{name}: "):
        load_checkpoint(inside)
    with pytest.raises(InputError, match="cannot read"):
        load_checkpoint(tmp_path / ("long" * 100))


@pytest.mark.parametrize(("name", "size"), [(RECIPE, 2**30), (WEIGHTS, 2**40)])
def test_files_of_any_size_are_not_read(tmp_path: Path, tensors: dict[str, Tensor], name: str, size: int) -> None:
    with (folder(tmp_path, tensors) / name).open("r+b") as file:
        file.truncate(size)  # a hole: no disk is needed
    with pytest.raises(InputError, match=rf"cannot read .*{name}: expected at most \d+ bytes, found {size}"):
        load_checkpoint(tmp_path)


def test_any_damage_is_an_error_of_this_package(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """Bits flipped in the recipe, and in the header and the numbers of the weights."""
    small = checkpoint_of("conv")
    tensors = {name: tensor.half() for name, tensor in small.model.state_dict().items()}
    whole = {name: (folder(tmp_path, tensors) / name).read_bytes() for name in (RECIPE, WEIGHTS)}
    rng, refused = random.Random(1), 0
    for number in range(160):
        name = (RECIPE, WEIGHTS)[number % 2]
        data = bytearray(whole[name])
        for _ in range(rng.choice((1, 2))):
            data[rng.randrange(min(1500, len(data)))] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(data)
        try:
            load_checkpoint(tmp_path)
        except S2CError:
            refused += 1
        (tmp_path / name).write_bytes(whole[name])
    assert refused > 100


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

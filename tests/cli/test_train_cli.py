"""``s2c-deploy train`` as a user meets it: run, stop, go on, and two mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from s2c_deploy.cli.main import app
from s2c_deploy.errors import InputError
from s2c_deploy.models.checkpoint import load_checkpoint

SHIPPED = Path(__file__).resolve().parent.parent.parent / "export" / "conv-tiny"
SMALL = ["--batch", "1", "--crop", "64", "--last-crop", "64", "--hold-out", "1", "--validate-every", "1000"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_run_ends_as_a_folder_for_export(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", str(photos), "--steps", "2", *SMALL, "--out", str(out), "--exact-from", "0.5", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert (record["step"], record["finished"]) == (2, True)
    assert [point["quality"] for point in record["validation"]] == list(range(1, 9))
    checkpoint = load_checkpoint(out)
    assert (checkpoint.config.name, checkpoint.config.operand_bits) == ("conv-tiny", 8)
    assert checkpoint.ranges
    before = (out / "weights.safetensors").read_bytes()
    again = CliRunner().invoke(app, command)  # nothing left to do
    assert again.exit_code == 0
    assert (out / "weights.safetensors").read_bytes() == before
    with pytest.raises(InputError, match=r"holds a run with other settings: steps 2 there, 3 here"):
        CliRunner().invoke(app, [*command[:3], "3", *command[4:]], catch_exceptions=False)


def test_stopped_and_continued(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    main = "from s2c_deploy.cli.main import main; main()"
    options = [*SMALL, "--save-every", "1", "--steps", "1000", "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", main, "train", str(photos), *options], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not (out / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    step = torch.load(out / "state.pt", weights_only=True)["step"]
    assert 0 < step < 1000
    assert f"stopped after step {step}; the same command goes on" in told
    assert not (out / "weights.safetensors").exists()


def one_step_from_the_shipped(photos: Path, out: Path, *options: str) -> tuple[str, Tensor, Tensor]:
    """What it says, and g_a's first weights in the new model and in the shipped one."""
    command = ["train", str(photos), *options, "--from", str(SHIPPED), "--steps", "1", *SMALL, "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    new, shipped = (load_checkpoint(folder).model.g_a[0].weight for folder in (out, SHIPPED))
    return result.stderr, new, shipped


def test_starting_from_another_variant(photos: Path, tmp_path: Path) -> None:
    told, kept, source = one_step_from_the_shipped(photos, tmp_path / "run", "--variant", "attention")
    assert "tensors taken over" in told
    # One step at a hundredth of the rate later, what was taken over is still what it was.
    assert torch.allclose(kept, source, atol=1e-3)


def test_starting_from_a_smaller_preset(photos: Path, tmp_path: Path) -> None:
    told, larger, smaller = one_step_from_the_shipped(photos, tmp_path / "run", "--preset", "small")
    assert "194 tensors taken over, 56 new" in told
    assert torch.allclose(larger[:32], smaller, atol=1e-3)


def test_the_preset_is_that_of_the_folder_to_start_from(photos: Path, tmp_path: Path) -> None:
    start, out = SHIPPED.with_name("conv"), tmp_path / "run"
    command = ["train", str(photos), "--from", str(start), "--steps", "1", *SMALL, "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "250 tensors taken over, 0 new" in result.stderr
    assert load_checkpoint(out).config.preset == "small"


@pytest.mark.parametrize("name", ["weights.safetensors", "recipe.toml", "log.csv", "validation.csv", "run.png"])
def test_a_folder_that_holds_somebodys_files(photos: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(InputError, match=f"expected a new folder, or one with the state.pt of a run, found {name}"):
        CliRunner().invoke(app, ["train", str(photos), "--out", str(out)], catch_exceptions=False)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", name]
    assert (out / name).read_text() == "mine"


def test_files_beside_the_pixels(photos: Path, tmp_path: Path) -> None:
    for name, content, said in (
        ("c.u8.json", b"\0mine", "c.u8.json is no json"),
        ("c.u8.lock", b"mine", "c.u8.lock: expected an empty file"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(
                app,
                ["train", str(photos), "--out", str(tmp_path / "run"), "--cache", str(tmp_path / "c.u8")],
                catch_exceptions=False,
            )
        assert (tmp_path / name).read_bytes() == content
        (tmp_path / name).unlink()
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path: Path, photos: Path) -> None:
    for options, message in (
        ([str(tmp_path / "nowhere")], "no pictures in"),
        ([str(photos), "--crop", "100"], "crop: expected a multiple of 64, found 100"),
        ([str(photos), "--variant", "mamba"], "variant: expected one of"),
        ([str(photos), "--objective", "lpips"], "objective: expected one of mse, ms-ssim"),
        ([str(photos), "--from", str(tmp_path / "no.pth")], "no file"),
        ([str(photos), *SMALL, "--last-crop", "128", "--last-crop-from", "0"], "no picture is as large"),
    ):
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(app, ["train", *options, "--out", str(tmp_path / "run")], catch_exceptions=False)

"""The blocks of docs/python.md, in the order of the page, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import require

from s2c_deploy.arrays import Pixels
from s2c_deploy.image import Image, write_image

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python run\n(.*?)^```$", PAGE, re.M | re.S)


def test_every_block_is_marked() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == PAGE.count("▶\n\n```python run") == 5


@pytest.fixture(scope="module")
def folder(bundle_path: Path, small_photograph: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, its stream as the first block writes it, and a bundle where it is looked for."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "engines").mkdir()
    (folder / "engines" / "conv-small").symlink_to(bundle_path)
    write_image(folder / "photo.png", Image(pixels=np.ascontiguousarray(small_photograph[:64, :96])))
    assert run(BLOCKS[0], folder) == "(96, 64) RGB\n"
    return folder


def run(block: str, folder: Path) -> str:
    """As a file, which a spawned process can import again."""
    (folder / "block.py").write_text(block)
    environment = {name: value for name, value in os.environ.items() if name != "S2C_BUNDLE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "block.py"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_workers(folder: Path) -> None:
    (block,) = (text for text in BLOCKS if "DataLoader" in text)
    assert run(block, folder) == "torch.Size([2, 3, 64, 96])\n" * 2


def test_arrays(folder: Path) -> None:
    (block,) = (text for text in BLOCKS if "s2c_deploy.encode" in text)
    assert run(block, folder).startswith("(64, 96, 3) uint8 ")


def test_zarr(folder: Path) -> None:
    require("zarr")
    first, second = (text for text in BLOCKS if "import zarr" in text)
    assert run(first, folder) == "(128, 192, 3)\n"
    assert run(second, folder) == ""

"""The blocks of docs/production.md that are marked "run", in the order of the page, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from s2c_deploy.arrays import Pixels
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import Image, write_image

ROOT = Path(__file__).resolve().parents[2]


def test_the_marked_blocks_run(bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> None:
    blocks = re.findall(r"^```(sh|python) run\n(.*?)^```$", (ROOT / "docs/production.md").read_text(), re.M | re.S)
    assert len(blocks) == 7
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "conv-small").symlink_to(bundle_path)
    write_image(tmp_path / "photo.png", Image(pixels=np.ascontiguousarray(small_photograph[:64, :64])))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    fingerprint = open_bundle(bundle_path).fingerprint.hex()
    for kind, text in blocks:
        if kind == "python":
            command = [sys.executable, "-W", "ignore", "-c", text.replace("FINGERPRINT", repr(fingerprint))]
        else:
            command = ["bash", "-euo", "pipefail", "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"

"""The examples, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.image import Image, read_image, write_image

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def picture(small_photograph: Pixels, tmp_path: Path) -> Path:
    write_image(tmp_path / "in.png", Image(pixels=np.ascontiguousarray(small_photograph[:70, :90])))
    return tmp_path / "in.png"


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_decode_without_torch(picture: Path, bundle_path: Path, backend: str) -> None:
    example = (sys.executable, ROOT / "examples" / "decode_without_torch.py")
    stream, decoded = picture.with_suffix(".s2c"), picture.with_name("out.png")
    options = ("--bundle", bundle_path, "--backend", backend)
    told = f"on {backend}, PyTorch imported: False"
    assert told in run(*example, "encode", picture, stream, *options, "--quality", 5).stdout
    assert told in run(*example, "decode", stream, decoded, *options).stdout
    with Codec.open(bundle_path, backend, threads=1) as codec:
        expected = codec.reconstruct(read_image(picture).pixels, 5)
        np.testing.assert_array_equal(codec.decompress(stream.read_bytes()), expected)
    np.testing.assert_array_equal(read_image(decoded).pixels, expected)


def test_decode_without_torch_of_a_damaged_stream(picture: Path, bundle_path: Path) -> None:
    stream, out = picture.with_name("bad.s2c"), picture.with_name("out.png")
    stream.write_bytes(b"no stream")
    example = (sys.executable, ROOT / "examples" / "decode_without_torch.py")
    done = run(*example, "decode", stream, out, "--bundle", bundle_path, code=4)
    assert done.stderr.startswith("error: bad stream: magic")
    assert not out.exists()
    assert "no such file" in run(*example, "encode", "none.png", stream, "--bundle", bundle_path, code=3).stderr.lower()

"""The C++ decoder on OpenVINO against the Python codec, and its parser against Python's under the sanitizers.

The TensorRT half of the example needs TensorRT's headers and a GPU, and is not compiled here.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import require

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.entropy.native import crc32c
from s2c_deploy.errors import BitstreamError
from s2c_deploy.formats.bitstream import Stream, pack, parse
from s2c_deploy.image import read_image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "cpp"


def compiler(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is installed")
    return found


def run(*command: object, code: int = 0) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built as its README says."""
    require("openvino")
    from openvino.utils import get_cmake_path

    cmake, folder = compiler("cmake"), tmp_path_factory.mktemp("cpp")
    run(cmake, "-S", ROOT / "native", "-B", folder / "native", f"-DCMAKE_INSTALL_PREFIX={folder / 'prefix'}")
    run(cmake, "--build", folder / "native")
    run(cmake, "--install", folder / "native")
    places = f"{folder / 'prefix'};{get_cmake_path()}"
    run(cmake, "-S", EXAMPLE, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={places}", "-DCMAKE_CXX_FLAGS=-Werror")
    run(cmake, "--build", folder / "build")
    return folder / "build" / "s2c_decode_openvino"


@pytest.fixture(scope="module")
def model(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.txt"
    run(sys.executable, EXAMPLE / "describe_model.py", bundle_path, path)
    return path


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    require("openvino")
    with Codec.open(bundle_path, "openvino", threads=1) as codec:
        yield codec


def test_engines_are_described_only_if_this_user_built_them(bundle_path: Path, tmp_path: Path) -> None:
    command = (sys.executable, EXAMPLE / "describe_model.py", bundle_path, tmp_path / "model.txt")
    assert "no good tensorrt-rtx engine of h_s" in run(*command, "--target", "tensorrt-rtx", code=9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("height", "width", "quality", "tile"), [(128, 192, 5, 0), (100, 150, 2.25, 64), (1, 1, 8, 0), (65, 70, 1, 128)]
)
def test_the_same_pixels(
    program: Path,
    model: Path,
    codec: Codec,
    small_photograph: Pixels,
    tmp_path: Path,
    height: int,
    width: int,
    quality: float,
    tile: int,
) -> None:
    stream = codec.compress(small_photograph[:height, :width], quality, tile=tile, icc=b"profile" if tile else None)
    (tmp_path / "a.s2c").write_bytes(stream)
    run(program, model, tmp_path / "a.s2c", tmp_path / "a.ppm")
    found, expected = read_image(tmp_path / "a.ppm").pixels, codec.decompress(stream)
    assert found.shape == expected.shape
    # Same symbols, same library; but norms and powers are computed in another order.
    assert np.abs(found.astype(int) - expected).max() <= 1
    if quality == int(quality):
        assert (found != expected).mean() < 0.001


def test_tiles_that_are_pictures_of_their_own(
    program: Path, model: Path, codec: Codec, small_photograph: Pixels, tmp_path: Path
) -> None:
    """As earlier versions wrote them."""
    halves = [parse(codec.compress(small_photograph[:64, start : start + 64].copy(), 5)).tiles[0] for start in (0, 64)]
    described = codec.describe((64, 128), 5, tile=64)
    stream = pack(replace(described, tiles=tuple(halves), seamless=False))
    (tmp_path / "a.s2c").write_bytes(stream)
    run(program, model, tmp_path / "a.s2c", tmp_path / "a.ppm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm").pixels, codec.decompress(stream))


def test_streams_that_must_not_decode(
    program: Path, model: Path, codec: Codec, small_photograph: Pixels, tmp_path: Path
) -> None:
    stream = parse(codec.compress(small_photograph[:64, :64], 4))
    payload = bytearray(stream.tiles[0])
    payload[-1] ^= 64
    cases = {
        "fingerprint": (replace(stream, fingerprint=b"stranger"), "it is of bundle 737472616e676572"),
        "payload": (replace(stream, tiles=(bytes(payload),)), "bad stream"),
        "short": (replace(stream, tiles=(stream.tiles[0][:-2],)), "bad stream"),
    }
    for name, (changed, message) in cases.items():
        (tmp_path / f"{name}.s2c").write_bytes(pack(changed))
        assert message in run(program, model, tmp_path / f"{name}.s2c", tmp_path / "out.ppm", code=1)
        assert not (tmp_path / "out.ppm").exists()


def test_graphs_that_must_not_be_opened(program: Path, model: Path, bundle_path: Path, tmp_path: Path) -> None:
    """A graph of another hash is not handed to the engine; one that gives a wrong answer decodes nothing."""
    (tmp_path / "a.s2c").write_bytes(pack(_any_stream()))
    graph = tmp_path / "h_s.onnx"
    data = bytearray((bundle_path / "h_s.onnx").read_bytes())
    data[-20] ^= 1
    graph.write_bytes(data)
    other = tmp_path / "other.txt"
    other.write_text(model.read_text().replace(str(bundle_path / "h_s.onnx"), str(graph)))
    shutil.copy(f"{model}.answers", f"{other}.answers")
    message = f"{graph}: expected SHA-256 {hashlib.sha256((bundle_path / 'h_s.onnx').read_bytes()).hexdigest()}"
    assert message in run(program, other, tmp_path / "a.s2c", tmp_path / "out.ppm", code=1)

    values = np.fromfile(f"{model}.answers", "<f4")
    values[-1] += 1  # the last known answer's last integer
    values.tofile(f"{other}.answers")
    other.write_text(model.read_text())
    found = run(program, other, tmp_path / "a.s2c", tmp_path / "out.ppm", code=1)
    assert "context_4_nonanchor: means differs from its known answer" in found


def _any_stream() -> Stream:
    return Stream(
        width=64,
        height=64,
        variant="conv",
        preset="tiny",
        quality=4.0,
        tile=0,
        fingerprint=b"12345678",
        tiles=(b"payload",),
    )


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stream_check.cpp with the address and undefined-behaviour sanitizers."""
    folder = tmp_path_factory.mktemp("check")
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{ROOT}/native/include"]
    objects = []
    for source in sorted((ROOT / "native" / "src").glob("*.c")):
        objects.append(folder / f"{source.stem}.o")
        run(compiler("cc", "gcc", "clang"), "-std=c11", *flags, "-c", source, "-o", objects[-1])
    source = Path(__file__).with_name("stream_check.cpp")
    cxx = compiler("c++", "g++", "clang++")
    run(cxx, "-std=c++17", *flags, f"-I{EXAMPLE}", source, *objects, "-pthread", "-o", folder / "check")
    return folder / "check"


def damaged_streams(seed: int) -> Iterator[bytes]:
    """Good streams, random damage, and damage whose header checksum was made right again."""
    random = np.random.default_rng(seed)
    base = _any_stream()
    whole = [
        base,
        replace(base, icc=b"icc", exif=b"II*\0"),
        replace(base, width=130, height=70, tile=64, tiles=(b"a", b"", b"bc", b"d", b"e", b"f" * 300)),
        replace(base, width=130, height=10, tile=64, tiles=(b"a", b"", b"bc"), seamless=True),
    ]
    for stream in whole:
        data = pack(stream)
        sections = (len(stream.tiles) + bool(stream.icc) + bool(stream.exif)) * 8
        yield data
        yield data + b"x"
        for _ in range(150):
            changed = bytearray(data[: int(random.integers(len(data) + 1))] if random.random() < 0.2 else data)
            for _ in range(int(random.integers(1, 4))):
                if changed:
                    end = min(len(changed), 22 + sections) if random.random() < 0.8 else len(changed)
                    place = int(random.integers(end))
                    changed[place] = int(random.choice([0, 1, 255, random.integers(256)]))
            if len(changed) >= 26 + sections and random.random() < 0.8:
                struct.pack_into("<I", changed, 22 + sections, crc32c(bytes(changed[: 22 + sections])))
            yield bytes(changed)


def test_the_parser_agrees_with_python(check: Path, tmp_path: Path) -> None:
    streams = list(damaged_streams(7))
    paths = [tmp_path / f"{number}.s2c" for number in range(len(streams))]
    for path, data in zip(paths, streams, strict=True):
        path.write_bytes(data)
    good = 0
    for data, line in zip(streams, run(check, *paths).splitlines(), strict=True):
        digest, _, found = line.partition(" ")
        assert digest == hashlib.sha256(data).hexdigest()
        try:
            stream = parse(data, max_pixels=1 << 20)
        except BitstreamError:
            assert found.startswith("bad stream"), data.hex()
            continue
        good += 1
        total = sum(crc32c(tile) % 1000 for tile in stream.tiles)
        assert found.split() == list(
            map(str, (stream.width, stream.height, f"{stream.quality:.6g}", len(stream.tiles), total))
        )
    assert 10 < good < len(streams) / 2


def test_sha_256_at_every_length(check: Path, tmp_path: Path) -> None:
    data = np.random.default_rng(3).bytes(200)
    paths = []
    for length in range(200):
        paths.append(tmp_path / str(length))
        paths[-1].write_bytes(data[:length])
    found = [line.split()[0] for line in run(check, *paths).splitlines()]
    assert found == [hashlib.sha256(data[:length]).hexdigest() for length in range(200)]

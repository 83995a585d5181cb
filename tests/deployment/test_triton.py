"""The model repository on a real tritonserver: the same bytes and pixels as the codec, and errors for bad requests."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms
from tritonserver import folder, serving

from examples.triton_client import ServerError, infer
from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import pack, parse
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.triton.repository import MODELS, TritonOptions, write_repository

CLIENT = Path(__file__).resolve().parents[2] / "examples" / "triton_client.py"
OPTIONS = TritonOptions(backend="onnxruntime", threads=1, quality=3, max_pixels=40_000)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path) -> Path:
    path = tmp_path_factory.mktemp("triton") / "models"
    write_repository(open_bundle(bundle_path), path, OPTIONS)
    for name, damage in (("s2c_tampered", _tamper), ("s2c_stranger", _rename_fingerprint)):
        model = path.parent / name
        shutil.copytree(path / "s2c_compress", model)
        config = model / "config.pbtxt"
        config.write_text(config.read_text().replace("s2c_compress", name))
        damage(model)
    return path


def _tamper(model: Path) -> None:
    graph = model / "1" / "bundle" / "g_s.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)


def _rename_fingerprint(model: Path) -> None:
    config = model / "config.pbtxt"
    found = json.loads((model / "1" / "bundle" / "manifest.json").read_text())["fingerprint"]
    config.write_text(config.read_text().replace(found, "0" * 64))


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder()
    with serving(repository, tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        yield codec


@pytest.fixture(scope="module")
def picture(small_photograph: Pixels) -> Pixels:
    return np.ascontiguousarray(small_photograph[:70, :90])


def quality(value: float) -> Any:
    return np.array([value], np.float32)


def test_compress_gives_the_bytes_of_the_codec(server: str, codec: Codec, picture: Pixels) -> None:
    for level in (1.0, 4.5, 8.0):
        answer = infer(server, "s2c_compress", {"image": picture, "quality": quality(level)})
        assert answer == {"stream": codec.compress(picture, level)}
    assert infer(server, "s2c_compress", {"image": picture})["stream"] == codec.compress(picture, OPTIONS.quality)


def test_decompress_gives_the_pixels_of_the_codec(server: str, codec: Codec, picture: Pixels) -> None:
    answer = infer(server, "s2c_decompress", {"stream": codec.compress(picture, 5)})
    np.testing.assert_array_equal(answer["image"], codec.reconstruct(picture, 5))
    assert (answer["icc"], answer["exif"]) == (b"", b"")


def test_a_file_keeps_its_profile(server: str, picture: Pixels) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    png = io.BytesIO()
    Pil.fromarray(picture).save(png, "PNG", icc_profile=icc)
    stream = infer(server, "s2c_compress", {"file": png.getvalue(), "quality": quality(2)})["stream"]
    parsed = parse(stream)
    assert (parsed.width, parsed.height, parsed.quality, parsed.icc) == (90, 70, 2.0, icc)
    assert infer(server, "s2c_decompress", {"stream": stream})["icc"] == icc


def test_the_client_example(server: str, codec: Codec, picture: Pixels, tmp_path: Path) -> None:
    Pil.fromarray(picture).save(tmp_path / "a.png")
    stream, decoded = tmp_path / "a.s2c", tmp_path / "a.ppm"
    client = (sys.executable, CLIENT, "--url", server, "--quality", "6")
    subprocess.run([*client, tmp_path / "a.png", stream], check=True, timeout=60)
    subprocess.run([*client, stream, decoded], check=True, timeout=60)
    assert stream.read_bytes() == codec.compress(picture, 6)
    np.testing.assert_array_equal(np.asarray(Pil.open(decoded)), codec.reconstruct(picture, 6))
    stream.write_bytes(b"junk")
    failed = subprocess.run([*client, stream, decoded], check=False, timeout=60, capture_output=True, text=True)
    assert (failed.returncode, failed.stderr[:24]) == (1, "error: bad stream: magic")


def bad_requests(picture: Pixels, stream: bytes) -> list[tuple[str, dict[str, Any], str]]:
    changed = bytearray(stream)
    changed[-1] ^= 1
    stranger = pack(replace(parse(stream), fingerprint=b"stranger"))
    return [
        ("s2c_decompress", {"stream": b"no stream"}, "bad stream: magic"),
        ("s2c_decompress", {"stream": b""}, "bad stream: magic"),
        ("s2c_decompress", {"stream": stream[:-3]}, "cut short"),
        ("s2c_decompress", {"stream": bytes(changed)}, "checksum of tile 0"),
        ("s2c_decompress", {"stream": stranger}, "bad stream: fingerprint"),
        ("s2c_compress", {"file": b"no picture"}, "not a picture of a known format"),
        ("s2c_compress", {"image": picture, "file": b"both"}, "expected one of the inputs image and file"),
        ("s2c_compress", {"quality": quality(4)}, "expected one of the inputs image and file"),
        ("s2c_compress", {"image": picture, "quality": quality(9)}, "quality 9.0 is not one of 1 to 8"),
        ("s2c_compress", {"image": picture, "quality": quality(np.nan)}, "quality nan is not one of 1 to 8"),
        ("s2c_compress", {"image": picture[:0]}, "expected UINT8 [height, width, 3], found [0, 90, 3]"),
        ("s2c_compress", {"image": np.zeros((256, 256, 3), np.uint8)}, "at most 40000 pixels, found 256x256"),
        ("s2c_compress", {"image": np.zeros((8, 8, 4), np.uint8)}, "unexpected shape"),
        ("s2c_compress", {"image": np.zeros((8, 8, 3), np.float32)}, "data-type"),
    ]


def status(server: str, model: str, inputs: dict[str, Any]) -> tuple[int, str]:
    """HTTP status and message of a request that must fail."""
    try:
        infer(server, model, inputs)
    except ServerError as error:
        cause = error.__context__
        assert isinstance(cause, urllib.error.HTTPError)
        return cause.code, str(error)
    raise AssertionError(f"{model} answered {list(inputs)}")


def test_bad_requests_are_errors_of_their_own(server: str, codec: Codec, picture: Pixels) -> None:
    stream = codec.compress(picture, 5)
    for model, inputs, message in bad_requests(picture, stream):
        code, found = status(server, model, inputs)
        assert code == 400, found
        assert message in found


def test_good_requests_among_bad_ones(server: str, codec: Codec, picture: Pixels) -> None:
    stream = codec.compress(picture, 5)
    bad = bad_requests(picture, stream)

    def one(number: int) -> None:
        if number % 2:
            model, inputs, message = bad[number % len(bad)]
            assert message in status(server, model, inputs)[1]
        else:
            level = 1 + number % 8
            assert (
                infer(server, "s2c_compress", {"image": picture, "quality": quality(level)})["stream"]
                == expected[level]
            )

    expected = {level: codec.compress(picture, level) for level in range(1, 9)}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(48)))


@pytest.mark.parametrize(("name", "message"), [("s2c_tampered", "SHA-256"), ("s2c_stranger", "fingerprint 000")])
def test_a_model_with_another_bundle_does_not_load(
    server: str, repository: Path, codec: Codec, picture: Pixels, name: str, message: str
) -> None:
    (repository.parent / name).rename(repository / name)
    request = urllib.request.Request(f"{server}/v2/repository/models/{name}/load", data=b"{}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert message in caught.value.read().decode()
    assert infer(server, "s2c_compress", {"image": picture})["stream"] == codec.compress(picture, 3)


# --- without a server


def test_a_repository_holds_its_bundle(repository: Path, bundle_path: Path) -> None:
    for name in MODELS:
        copied = open_bundle(repository / name / "1" / "bundle")
        assert copied.fingerprint == open_bundle(bundle_path).fingerprint
        assert f'name: "{name}"' in (repository / name / "config.pbtxt").read_text()


def test_options_reach_the_configuration(tmp_path: Path, bundle_path: Path) -> None:
    options = TritonOptions(backend="openvino", instances=3, threads=2, copy=False)
    bundle = open_bundle(bundle_path)
    write_repository(bundle, tmp_path / "models", options)
    config = (tmp_path / "models" / "s2c_compress" / "config.pbtxt").read_text()
    assert "count: 3 kind: KIND_CPU" in config
    for key, value in (("backend", "openvino"), ("threads", "2"), ("bundle", str(bundle_path.resolve()))):
        assert f'key: "{key}" value: {{ string_value: "{value}" }}' in config
    assert not (tmp_path / "models" / "s2c_compress" / "1" / "bundle").exists()


def test_models_that_are_there_stay(tmp_path: Path, bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    (tmp_path / "s2c_decompress").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="s2c_decompress exist"):
        write_repository(bundle, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "s2c_decompress"]


def test_into_the_folder_at_hand(tmp_path: Path, bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    write_repository(open_bundle(bundle_path), Path("."), TritonOptions(copy=False))
    assert sorted(path.name for path in Path(".").iterdir()) == sorted(MODELS)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_nothing_stays_where_nothing_can_be_written(tmp_path: Path, bundle_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        write_repository(open_bundle(bundle_path), tmp_path / "models")
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize(
    "wrong", [{"backend": "gpu"}, {"instances": 0}, {"threads": -1}, {"max_pixels": 0}, {"quality": 9}]
)
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        TritonOptions(**wrong)

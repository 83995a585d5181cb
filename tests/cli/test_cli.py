"""The command line: what it prints, what it writes, how it fails.  In this process unless imports are looked at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Result, Run
from PIL import Image as Pil

from s2c_deploy import __version__
from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.formats.bitstream import pack, parse
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import read_image
from s2c_deploy.runtime import BACKENDS

ROOT = Path(__file__).resolve().parents[2]
CODING = ("compress", "decompress", "inspect", "verify", "eval")
COMMANDS = ("export", "build", "triton", *CODING, "train", "info", "doctor")
ENGINE = ("--backend", "onnxruntime", "--threads", "1")


@pytest.fixture
def coder(run: Run, bundle_path: Path) -> Run:
    """As ``run``, for compress and decompress, with the bundle and an engine that starts quickly."""
    return lambda command, *arguments: run(command, *arguments, "--bundle", bundle_path, *ENGINE)


@pytest.fixture(scope="module")
def picture(small_photograph: Pixels) -> Pixels:
    return np.ascontiguousarray(small_photograph[:70, :90])


@pytest.fixture(scope="module")
def stream(bundle_path: Path, picture: Pixels) -> bytes:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        return codec.compress(picture)


def save(path: Path, pixels: np.ndarray[Any, Any], **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    Pil.fromarray(pixels).save(path, **options)
    return path


def one_error(result: Result, code: int) -> str:
    """The only line on stderr."""
    assert result.code == code, result
    assert result.out == ""
    (line,) = result.err.splitlines()
    assert line.startswith("error: ")
    assert "Traceback" not in line
    return line


# --- help


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert command in result.out
    assert "s2c-deploy export --variant conv" in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"s2c-deploy {command}" in result.out.split("Usage:")[1].split("\n", 1)[1]
    assert "--json" in result.out


def test_version(run: Run) -> None:
    assert run("--version") == Result(0, f"s2c-deploy {__version__}\n", "")


def test_an_unknown_command_and_option(run: Run) -> None:
    assert run("explode").code == 2
    assert run("doctor", "--loudly").code == 2


# --- what is imported


def modules_of(tmp_path: Path, *arguments: object) -> set[str]:
    """The modules that a command has loaded when it ends well, in a process of its own."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        "from s2c_deploy.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    last = done.stderr.splitlines()[-1].split()
    assert last[0] == "loaded"
    return set(last)


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = {"numpy", "PIL", "torch", "onnx", "onnxruntime", "openvino", "s2c_deploy.codec.codec"}
    assert not modules_of(tmp_path, "--help") & heavy
    assert not modules_of(tmp_path, "compress", "--help") & heavy


def test_inspect_loads_no_engine(tmp_path: Path, bundle_path: Path, stream: bytes) -> None:
    (tmp_path / "a.s2c").write_bytes(stream)
    for path in (tmp_path / "a.s2c", bundle_path):
        loaded = modules_of(tmp_path, "inspect", path)
        assert "numpy" in loaded
        assert not loaded & {"torch", "onnx", "onnxruntime", "openvino"}


def test_doctor_loads_no_engine(tmp_path: Path) -> None:
    assert not modules_of(tmp_path, "doctor") & {"torch", "onnx", "onnxruntime", "openvino"}


# --- compress and decompress


def test_a_file_there_and_back(coder: Run, tmp_path: Path, picture: Pixels, bundle_path: Path) -> None:
    source = save(tmp_path / "photo.png", picture)
    assert coder("compress", source, "-q", "6.5").code == 0
    result = coder("decompress", tmp_path / "photo.s2c", tmp_path / "back.png")
    assert result.code == 0
    assert result.err == ""
    assert "90x70" in result.out
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        np.testing.assert_array_equal(read_image(tmp_path / "back.png").pixels, codec.reconstruct(picture, 6.5))


def test_default_targets(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    source = save(tmp_path / "photo.jpg", picture)
    (tmp_path / "out").mkdir()
    coder("compress", source)
    coder("compress", source, "out")
    coder("decompress", "photo.s2c")
    coder("decompress", "photo.s2c", "out")
    coder("decompress", "photo.s2c", "--suffix", "webp")
    assert sorted(os.listdir(tmp_path)) == ["out", "photo.jpg", "photo.png", "photo.s2c", "photo.webp"]
    assert sorted(os.listdir(tmp_path / "out")) == ["photo.png", "photo.s2c"]


def test_json_of_a_file(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    source = save(tmp_path / "photo.png", picture)
    for command, path, target in (("compress", source, "a.s2c"), ("decompress", "a.s2c", "a.png")):
        result = coder(command, path, target, "--json")
        record = json.loads(result.out)
        size = (tmp_path / "a.s2c").stat().st_size
        assert (record["width"], record["height"], record["bytes"]) == (90, 70, size)
        assert record["bpp"] == pytest.approx(size * 8 / 6300, abs=1e-5)
        assert (record["source"], record["target"], record["backend"]) == (str(path), target, "onnxruntime")
        assert result.err == ""


def test_a_folder_there_and_back(coder: Run, tmp_path: Path, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "photos" / "a.png", picture)
    save(tmp_path / "photos" / "b.bmp", picture[:5, :7])
    (tmp_path / "photos" / "notes.txt").write_text("not a picture")
    result = coder("compress", "photos", "streams", "--json")
    assert result.code == 0
    *coded, left_out = json.loads(result.out)
    assert [Path(record["target"]).name for record in coded] == ["a.s2c", "b.s2c"]
    assert left_out == {"source": "photos/notes.txt", "target": None, "left_out": "no picture's suffix"}
    assert result.err == "left out: 1 file (no picture's suffix: notes.txt)\n"  # no bar where nobody looks
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    result = coder("decompress", "streams", "pictures", "--suffix", ".ppm")
    assert result.code == 0
    assert "decompressing" in result.err
    assert "decompressing" not in result.out
    assert sorted(os.listdir("pictures")) == ["a.ppm", "b.ppm"]
    assert read_image("pictures/b.ppm").pixels.shape == (5, 7, 3)


def test_one_bad_picture_does_not_stop_a_folder(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    for name in ("a.png", "c.png"):
        save(tmp_path / "photos" / name, picture[:8, :8])
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    result = coder("compress", "photos", "streams")
    assert result.code == 3
    assert sorted(os.listdir("streams")) == ["a.s2c", "c.s2c"]
    line, last = result.err.splitlines()
    assert line.startswith("error: photos/b.png: ")
    assert last == "2 of 3 done, 1 failed: photos/b.png"
    result = coder("compress", "photos", "streams", "--force", "--json")
    assert result.code == 3
    assert [record.get("exit_code") for record in json.loads(result.out)] == [None, 3, None]


def test_two_pictures_of_one_name(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    save(tmp_path / "photos" / "a.png", picture)
    save(tmp_path / "photos" / "a.bmp", picture)
    line = one_error(coder("compress", "photos"), 3)
    assert "photos/a.bmp and photos/a.png would both become photos/a.s2c" in line


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_an_existing_target_is_kept(coder: Run, tmp_path: Path, picture: Pixels, stream: bytes, command: str) -> None:
    save(tmp_path / "a.png", picture)
    (tmp_path / "a.s2c").write_bytes(stream)
    source, target = ("a.png", "a.s2c") if command == "compress" else ("a.s2c", "a.png")
    (tmp_path / target).write_bytes(b"mine")
    assert "--force" in one_error(coder(command, source), 3)
    assert (tmp_path / target).read_bytes() == b"mine"
    (tmp_path / "a.png").write_bytes(save(tmp_path / "again" / "a.png", picture).read_bytes())
    (tmp_path / "a.s2c").write_bytes(stream)
    assert coder(command, source, "--force").code == 0


@pytest.mark.parametrize("command", ["compress", "decompress", "inspect"])
def test_a_missing_file(run: Run, command: str) -> None:
    assert "no file or folder missing" in one_error(run(command, "missing"), 3)


@pytest.mark.parametrize(("command", "found"), [("compress", "no pictures"), ("decompress", "no .s2c streams")])
def test_an_empty_folder(run: Run, tmp_path: Path, command: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    assert found in one_error(run(command, "empty"), 3)


def test_a_target_whose_folder_is_missing(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    source = save(tmp_path / "a.png", picture)
    assert "no folder" in one_error(coder("compress", source, "nowhere/a.s2c"), 3)


def test_a_target_of_no_known_format(coder: Run, tmp_path: Path, stream: bytes) -> None:
    (tmp_path / "a.s2c").write_bytes(stream)
    assert "suffix '.xyz'" in one_error(coder("decompress", "a.s2c", "a.xyz"), 3)
    assert os.listdir(tmp_path) == ["a.s2c"]


def damaged(stream: bytes, kind: str) -> bytes:
    if kind == "cut":
        return stream[:-1]
    if kind == "flipped bit":
        return stream[:-3] + bytes([stream[-3] ^ 4]) + stream[-2:]
    if kind == "another bundle":
        return pack(replace(parse(stream), fingerprint=bytes(8)))
    return b"no stream"


@pytest.mark.parametrize("kind", ["cut", "flipped bit", "another bundle", "no stream"])
@pytest.mark.parametrize("bundle", ["given", "found"])
def test_a_damaged_stream(
    run: Run, coder: Run, tmp_path: Path, bundle_path: Path, stream: bytes, kind: str, bundle: str
) -> None:
    (tmp_path / "a.s2c").write_bytes(damaged(stream, kind))
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "conv-tiny").symlink_to(bundle_path)
    if bundle == "given":
        line = one_error(coder("decompress", "a.s2c", "a.png"), 4)
    else:
        line = one_error(run("decompress", "a.s2c", "a.png", *ENGINE), 4)
    assert "expected" in line
    assert "found" in line
    if kind == "another bundle":
        assert bytes(8).hex() in line
        assert open_bundle(bundle_path).fingerprint.hex()[:16] in line
    assert sorted(os.listdir(tmp_path)) == ["a.s2c", "engines"]


def test_pixels_over_the_limit(coder: Run, run: Run, tmp_path: Path, picture: Pixels, stream: bytes) -> None:
    save(tmp_path / "a.png", picture)
    (tmp_path / "b.s2c").write_bytes(stream)
    one_error(coder("compress", "a.png", "--max-pixels", 6299), 3)
    one_error(coder("decompress", "b.s2c", "--max-pixels", 6299), 4)
    one_error(run("inspect", "b.s2c", "--max-pixels", 6299), 4)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.s2c"]


@pytest.mark.parametrize("option", [("-q", "9"), ("-q", "0"), ("--tile", "100"), ("--background", "nocolour")])
def test_unusable_options(coder: Run, tmp_path: Path, picture: Pixels, option: tuple[str, str]) -> None:
    save(tmp_path / "a.png", picture)
    one_error(coder("compress", "a.png", *option), 3)
    assert os.listdir(tmp_path) == ["a.png"]


def test_unusable_engines(run: Run, tmp_path: Path, picture: Pixels, bundle_path: Path) -> None:
    save(tmp_path / "a.png", picture)
    assert "found 'magic'" in one_error(run("compress", "a.png", "--bundle", bundle_path, "--backend", "magic"), 3)
    if util.find_spec("tensorrt") is None:
        one_error(run("compress", "a.png", "--bundle", bundle_path, "--backend", "tensorrt"), 10)


# --- kinds of pictures


def test_transparency(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    alpha = np.full((*picture.shape[:2], 1), 255, np.uint8)
    save(tmp_path / "opaque.png", np.concatenate([picture, alpha], 2))
    alpha[:, :40] = 0
    save(tmp_path / "clear.png", np.concatenate([picture, alpha], 2))
    assert coder("compress", "opaque.png").code == 0
    assert "--background" in one_error(coder("compress", "clear.png"), 3)
    assert not (tmp_path / "clear.s2c").exists()
    assert coder("compress", "clear.png", "--background", "white", "-q", 8).code == 0
    coder("decompress", "clear.s2c", "back.png")
    assert read_image("back.png").pixels[:, :24].mean() > picture[:, :24].mean() + 20


def test_grey_and_orientation_and_profile(coder: Run, tmp_path: Path, picture: Pixels) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pil.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    save(tmp_path / "turned.png", picture, exif=exif, icc_profile=profile)
    save(tmp_path / "grey.png", picture[:, :, 0])
    for name in ("turned", "grey"):
        coder("compress", f"{name}.png")
        assert coder("decompress", f"{name}.s2c", f"{name}-back.png").code == 0
    turned = read_image("turned-back.png")
    assert turned.pixels.shape == (90, 70, 3)
    assert turned.icc == profile
    with Pil.open("turned-back.png") as back:
        assert (back.getexif()[0x0112], back.getexif()[0x010F]) == (1, "Maker")
    assert read_image("grey-back.png").pixels.shape == (70, 90, 3)


# --- which bundle


@pytest.fixture
def engines(tmp_path: Path, bundle_path: Path) -> Path:
    """./engines with the bundle, one of another fingerprint that comes before it, a damaged one, and a leftover."""
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "conv-tiny").symlink_to(bundle_path)
    text = (bundle_path / "manifest.json").read_text()
    fingerprint = open_bundle(bundle_path).fingerprint.hex()
    for name, content in (("b-other", text.replace(fingerprint, "0" * 64)), ("a-damaged", "{"), (".x.part.old", text)):
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(content)
    return folder


def test_no_bundle(run: Run, tmp_path: Path, picture: Pixels, stream: bytes) -> None:
    save(tmp_path / "a.png", picture)
    (tmp_path / "b.s2c").write_bytes(stream)
    assert "s2c-deploy export" in one_error(run("compress", "a.png"), 3)
    assert "a bundle under engines/" in one_error(run("decompress", "b.s2c"), 4)
    assert "no bundle at nowhere" in one_error(run("compress", "a.png", "--bundle", "nowhere"), 3)


def test_several_bundles(run: Run, tmp_path: Path, engines: Path, picture: Pixels, stream: bytes) -> None:
    save(tmp_path / "a.png", picture)
    (tmp_path / "b.s2c").write_bytes(stream)
    line = one_error(run("compress", "a.png", *ENGINE), 3)
    assert "several bundles: engines/a-damaged, engines/b-other, engines/conv-tiny" in line
    assert "--bundle" in line
    assert run("decompress", "b.s2c", *ENGINE).code == 0  # the fingerprint names it
    shutil.rmtree(engines / "a-damaged")
    shutil.rmtree(engines / "b-other")
    assert run("compress", "a.png", *ENGINE).code == 0  # the only one


def test_the_bundle_of_the_environment(
    run: Run, tmp_path: Path, picture: Pixels, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", picture)
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))
    assert run("compress", "a.png", *ENGINE).code == 0
    assert run("decompress", "a.s2c", "b.png", *ENGINE).code == 0


def test_a_damaged_bundle(run: Run, tmp_path: Path, picture: Pixels, engines: Path) -> None:
    save(tmp_path / "a.png", picture)
    assert "expected JSON" in one_error(run("compress", "a.png", "--bundle", engines / "a-damaged"), 5)
    assert "expected JSON" in one_error(run("inspect", engines / "a-damaged"), 5)
    one_error(run("inspect", engines / "b-other"), 5)


# --- inspect, info, doctor


def test_inspect_a_stream(run: Run, tmp_path: Path, stream: bytes, bundle_path: Path) -> None:
    (tmp_path / "a.s2c").write_bytes(stream)
    record = json.loads(run("inspect", "a.s2c", "--json").out)
    assert (record["kind"], record["model"], record["quality"]) == ("stream", "conv-tiny", 4)
    assert (record["width"], record["height"], record["tiles"], record["bytes"]) == (90, 70, 1, len(stream))
    assert record["header_bytes"] == 34
    assert record["payload_bytes"] + 34 == len(stream)
    assert open_bundle(bundle_path).fingerprint.hex().startswith(record["fingerprint"])
    text = run("inspect", "a.s2c").out
    assert "conv-tiny" in text
    assert f"{record['bpp']}" in text


def test_inspect_checks(run: Run, tmp_path: Path, stream: bytes) -> None:
    (tmp_path / "a.s2c").write_bytes(damaged(stream, "flipped bit"))
    assert "checksum" in one_error(run("inspect", "a.s2c"), 4)


def test_inspect_a_bundle(run: Run, bundle_path: Path) -> None:
    record = json.loads(run("inspect", bundle_path, "--json").out)
    assert (record["kind"], record["model"], record["quality_levels"]) == ("bundle", "conv-tiny", 8)
    assert record["fingerprint"] == open_bundle(bundle_path).fingerprint.hex()
    assert 0 < record["largest_integer_sum"] < record["exact_limit"] == 2**24
    assert record["graphs"]["h_s"] == "exact integers"
    assert record["graphs"]["g_s"] == "float32"
    assert record["float16"]["worst_loss_db"] <= 0.01
    assert record["fingerprint"] in run("inspect", bundle_path).out


def test_verify(run: Run, tmp_path: Path, bundle_path: Path, picture: Pixels) -> None:
    save(tmp_path / "picture.png", picture)
    options = ("--backends", "onnxruntime", "--images", tmp_path, "-q", "2..3")
    result = run("verify", bundle_path, *options, "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    assert record["qualities"] == [2.0, 3.0]
    assert record["agrees"]
    assert {a["streams"] for a in record["agreements"]} == {2}
    assert record["proof"]["largest_sum"] <= record["proof"]["limit"] == 2**24
    report = run("verify", bundle_path, *options).out
    assert "1 pictures at qualities 2, 3:" in report


def test_verify_with_an_unusable_quality(run: Run, bundle_path: Path) -> None:
    message = one_error(run("verify", bundle_path, "--quality", "good"), 3)
    assert "--quality: expected 1..8 or numbers with commas between, found 'good'" in message


def test_info(run: Run) -> None:
    record = json.loads(run("info", "--variant", "hybrid", "--preset", "small", "--json").out)
    assert record["model"] == "hybrid-small"
    for key, total in record["total"].items():
        assert total == pytest.approx(sum(part[key] for part in record["transforms"].values()))
    text = run("info", "--variant", "hybrid", "--preset", "small").out
    assert f"{record['total']['parameters']:,}" in text
    assert f"{record['total']['kmac_per_pixel']:.2f}" in text
    assert "g_s" in text


@pytest.mark.parametrize("option", [("--variant", "wave"), ("--preset", "huge"), ("--aggregation", "sum")])
def test_info_of_an_unknown_model(run: Run, option: tuple[str, str]) -> None:
    line = one_error(run("info", *option), 3)
    assert "expected" in line
    assert repr(option[1]) in line


def test_doctor(run: Run, engines: Path) -> None:
    record = json.loads(run("doctor", "--json").out)
    assert record["s2c-deploy"] == __version__
    assert record["native coder"] == "ok"
    assert set(record["backends"]) == set(BACKENDS)
    assert record["backends"]["onnxruntime"]["usable"]
    assert not record["backends"]["tensorrt"]["usable"]
    assert record["backends"]["tensorrt"]["advice"]
    assert record["backend auto"] in BACKENDS
    assert set(record["engine builders"]) == {"tensorrt", "tensorrt-rtx"}
    assert record["bundles"] == ["engines/a-damaged", "engines/b-other", "engines/conv-tiny"]
    text = run("doctor").out
    for word in (__version__, "native coder", *BACKENDS, "engines/conv-tiny"):
        assert word in text


def test_doctor_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from s2c_deploy.runtime import backends

    monkeypatch.setattr(backends.util, "find_spec", lambda name: None)
    result = run("doctor")
    assert result.code == 0
    for extra in ("cpu", "openvino", "export"):
        assert f"pip install 's2c-deploy[{extra}]'" in result.out


# --- export


def test_export(run: Run, tmp_path: Path, bundle_path: Path) -> None:
    """Over an existing bundle only with --force; then the same bundle, to the byte that streams depend on."""
    out = tmp_path / "mine"
    shutil.copytree(bundle_path, out)
    arguments = ("export", "--weights", ROOT / "export" / "conv-tiny", "--out", out)
    images = ("--images", bundle_path.parent / "photographs")
    assert "--force" in one_error(run(*arguments, *images), 3)
    assert (out / "g_a.onnx").read_bytes() == (bundle_path / "g_a.onnx").read_bytes()
    result = run(*arguments, *images, "--force", "--json", "--triton", "models")
    assert result.code == 0
    record = json.loads(result.out)
    assert record["fingerprint"] == open_bundle(bundle_path).fingerprint.hex()
    assert record["fingerprint"] == open_bundle(out).fingerprint.hex()
    assert record["graphs"] == 14
    assert sorted(os.listdir(tmp_path)) == ["mine", "models"]
    assert record["triton"] == ["models/s2c_compress", "models/s2c_decompress"]
    assert open_bundle(tmp_path / "models/s2c_decompress/1/bundle").fingerprint == open_bundle(out).fingerprint
    again = run(*arguments, *images, "--force", "--triton", "models")  # said before anything is exported
    assert "models/s2c_compress and models/s2c_decompress exist" in one_error(again, 3)


def test_triton(run: Run, tmp_path: Path, bundle_path: Path) -> None:
    result = run("triton", "models", "--bundle", bundle_path, "--instances", 2, "--threads", 1, "--no-copy", "--json")
    assert result.code == 0
    assert json.loads(result.out)["models"] == ["models/s2c_compress", "models/s2c_decompress"]
    config = (tmp_path / "models" / "s2c_compress" / "config.pbtxt").read_text()
    assert "count: 2 kind: KIND_CPU" in config
    assert str(bundle_path) in config
    assert "exist" in one_error(run("triton", "models", "--bundle", bundle_path), 3)


def test_export_does_not_replace_what_is_no_bundle(run: Run, tmp_path: Path, bundle_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dear.txt").write_text("dear")
    images = bundle_path.parent / "photographs"
    result = run("export", "--weights", ROOT / "export" / "conv-tiny", "--out", "mine", "--force", "--images", images)
    assert "is not a bundle" in one_error(result, 3)
    assert os.listdir(tmp_path / "mine") == ["dear.txt"]


def test_export_of_an_unknown_variant(run: Run, tmp_path: Path) -> None:
    assert "no recipe.toml in export/wave" in one_error(run("export", "--variant", "wave"), 3)
    assert os.listdir(tmp_path) == []


def test_export_takes_a_preset_at_its_word(run: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "export" / "conv-tiny", tmp_path / "export" / "conv")
    shutil.copytree(ROOT / "export" / "conv-tiny", tmp_path / "export" / "conv-small")
    wrong = one_error(run("export", "--variant", "conv", "--preset", "base"), 3)
    assert "export/conv: expected weights of preset base, found tiny" in wrong
    wrong = one_error(run("export", "--variant", "conv", "--preset", "small"), 3)
    assert "export/conv-small: expected weights of preset small, found tiny" in wrong
    assert os.listdir(tmp_path) == ["export"]


# --- failing in a process of its own


@pytest.mark.parametrize("debug", ["0", "1"])
def test_tracebacks_only_when_asked_for(tmp_path: Path, debug: str) -> None:
    command = [sys.executable, "-m", "s2c_deploy.cli.main", "inspect", "missing"]
    environment = {**os.environ, "S2C_DEBUG": debug}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "no file or folder missing" in done.stderr
    assert ("Traceback" in done.stderr) == (debug == "1")
    if debug == "0":
        assert done.returncode == 3
        assert len(done.stderr.splitlines()) == 1


def test_the_installed_command() -> None:
    command = Path(sys.executable).with_name("s2c-deploy")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"s2c-deploy {__version__}\n"

"""Pictures and streams through pipes, and what of them is kept."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import Run
from PIL import Image as Pil
from PIL import ImageCms
from processes import COMMAND, environment, memory_limit, process

from s2c_deploy.formats.bitstream import parse
from s2c_deploy.image import read_image

ENGINE = ("--backend", "onnxruntime", "--threads", "1")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A PNG with a place, a name and a profile."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    exif = Pil.Exif()
    exif[0x013B] = "Somebody"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = io.BytesIO()
    Pil.fromarray(pixels).save(file, format="PNG", exif=exif, icc_profile=profile)
    return file.getvalue()


def test_there_and_back_through_pipes(tmp_path: Path, photo: bytes, bundle_path: Path) -> None:
    options = ("--bundle", bundle_path, *ENGINE)
    (tmp_path / "photo.png").write_bytes(photo)
    there = process(tmp_path, "compress", "-", "-", *options, input=photo)
    assert there.returncode == 0, there.stderr
    stream = parse(there.stdout)
    assert (stream.width, stream.height) == (24, 16)
    assert there.stderr.decode().startswith("- -> -: 24x16, ")
    named = process(tmp_path, "compress", "photo.png", "-", "--json", *options)
    assert named.stdout == there.stdout
    assert json.loads(named.stderr)["source"] == "photo.png"
    back = process(tmp_path, "decompress", "-", "-", "--suffix", "ppm", *options, input=there.stdout)
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith(b"P6\n24 16\n")
    assert process(tmp_path, "inspect", "-", input=there.stdout).stdout.startswith(b"kind                 stream\n")
    assert os.listdir(tmp_path) == ["photo.png"]
    filed = process(tmp_path, "compress", "-", "out.s2c", *options, input=photo)
    assert filed.stdout.decode().startswith("- -> out.s2c: 24x16, ")
    assert (tmp_path / "out.s2c").read_bytes() == there.stdout
    bad = process(tmp_path, "decompress", "-", "new.png", *options, input=b"no stream")
    assert bad.returncode == 4
    assert sorted(os.listdir(tmp_path)) == ["out.s2c", "photo.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_stream_that_cannot_be_written(tmp_path: Path, photo: bytes, bundle_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = process(
            tmp_path, "compress", "-", "-", "--bundle", bundle_path, *ENGINE,
            input=photo, capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.decode() == (
        "error: cannot write standard output: No space left on device (name a file instead of -)\n"
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_told_cannot_be_written(
    tmp_path: Path, photo: bytes, bundle_path: Path, options: tuple[str, ...]
) -> None:
    """The stream is whole: that nobody can be told of it is no failure."""
    with open("/dev/full", "wb") as full:
        done = process(
            tmp_path, "compress", "-", "-", *options, "--bundle", bundle_path, *ENGINE,
            input=photo, capture_output=False, stdout=subprocess.PIPE, stderr=full,
        )  # fmt: skip
    assert done.returncode == 0
    assert parse(done.stdout).width == 24


@pytest.mark.parametrize(("redirection", "message"), [(">&-", "output is closed"), ("<&-", "input is closed")])
def test_closed_streams(tmp_path: Path, photo: bytes, bundle_path: Path, redirection: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(photo)
    arguments = ("compress", *(("a.png", "-") if ">" in redirection else ("-", "a.s2c")), "--bundle", str(bundle_path))
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *COMMAND, *arguments],
        cwd=tmp_path, env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert f"standard {message}" in done.stderr.decode()


@pytest.mark.parametrize(("command", "code"), [("compress", 3), ("decompress", 4), ("inspect", 4)])
def test_input_without_an_end(tmp_path: Path, bundle_path: Path, command: str, code: int) -> None:
    """Its first bytes say that it is nothing: the others are not read."""
    targets = () if command == "inspect" else ("x.s2c" if command == "compress" else "x.png", "--bundle", bundle_path)
    with open("/dev/zero", "rb") as zeros:
        done = process(tmp_path, command, "-", *targets, stdin=zeros, preexec_fn=memory_limit(2**32))
    assert done.returncode == code
    assert ("known" if command == "compress" else "this is not a .s2c file") in done.stderr.decode()
    assert os.listdir(tmp_path) == []


def test_files_that_are_larger_than_memory(tmp_path: Path, photo: bytes, bundle_path: Path) -> None:
    data = process(tmp_path, "compress", "-", "-", "--bundle", bundle_path, *ENGINE, input=photo).stdout
    (tmp_path / "zeros.s2c").write_bytes(b"")
    (tmp_path / "long.s2c").write_bytes(data)
    for command, name, code, said in (
        ("inspect", "zeros.s2c", 4, "this is not a .s2c file"),
        ("decompress", "zeros.s2c", 4, "magic"),
        ("inspect", "long.s2c", 3, "long.s2c has more than 1073741824 bytes"),
        ("decompress", "long.s2c", 4, "something was appended to the file"),
    ):
        os.truncate(tmp_path / name, 2**40)
        done = process(tmp_path, command, name)
        assert done.returncode == code
        assert said in done.stderr.decode()


def test_a_picture_without_a_signature(tmp_path: Path, bundle_path: Path) -> None:
    file = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(file, format="TGA")
    done = process(tmp_path, "compress", "-", "a.s2c", "--bundle", bundle_path, *ENGINE, input=file.getvalue())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("a.png", "-"), "standard output is a terminal"), (("-", "a.s2c"), "standard input is a terminal")],
)
def test_no_binary_data_on_a_terminal(
    tmp_path: Path, bundle_path: Path, arguments: tuple[str, str], message: str
) -> None:
    Pil.new("RGB", (8, 8)).save(tmp_path / "a.png")
    terminal, other = pty.openpty()
    command = [*COMMAND, "compress", *arguments, "--bundle", str(bundle_path), *ENGINE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), stdin=other, stdout=other, stderr=subprocess.PIPE, check=False
    )
    os.close(other)
    os.close(terminal)
    assert done.returncode == 3
    assert message in done.stderr.decode()
    assert os.listdir(tmp_path) == ["a.png"]


def test_metadata_is_kept_or_left_out(run: Run, tmp_path: Path, photo: bytes, bundle_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo)
    options = ("--bundle", bundle_path, *ENGINE)
    for name, more in (("all", ()), ("stripped", ("--strip-metadata",)), ("bare", ("--strip-metadata", "--drop-icc"))):
        assert run("compress", "photo.png", f"{name}.s2c", *more, *options).code == 0
    streams = {name: parse((tmp_path / f"{name}.s2c").read_bytes()) for name in ("all", "stripped", "bare")}
    assert b"Somebody" in (streams["all"].exif or b"")
    assert streams["stripped"].exif is None
    assert streams["stripped"].icc == streams["all"].icc is not None
    assert (streams["bare"].exif, streams["bare"].icc) == (None, None)
    assert run("decompress", "all.s2c", "kept.png", *options).code == 0
    assert run("decompress", "all.s2c", "stripped.png", "--strip-metadata", *options).code == 0
    assert read_image(tmp_path / "kept.png").exif is not None
    stripped = read_image(tmp_path / "stripped.png")
    assert stripped.exif is None
    assert stripped.icc is not None
    told = run("decompress", "all.s2c", "small.ppm", *options)
    assert told.code == 0
    assert "small.ppm: .ppm has no place for ICC profile, EXIF" in told.err

"""The wheel of ``make wheel``, in an environment and a folder that have nothing else."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.image import Image, read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="wheels are made on Linux")

Command = Callable[..., str]


def call(folder: Path, *command: object, **variables: str) -> str:
    """What a command prints.  Of what surrounds the tests it sees nothing: no make, no Python, no bundle."""
    ours = re.compile("MAKE|MFLAGS|PYTEST|PYTHON|S2C_|XDG_|VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not ours.match(name)}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment | variables, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by ``make wheel`` with the tests' bundle."""
    folder = tmp_path_factory.mktemp("wheel")
    names = {"VENV": "venv", "DIST": "dist", "WHEEL_BUILD": "build"}
    options = [f"{name}={folder / place}" for name, place in names.items()]
    call(ROOT, "make", "wheel", f"PYTHON={sys.executable}", f"WHEEL_BUNDLE={bundle_path}", *options)
    (made,) = (folder / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def s2c(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command of a new environment into which nothing but the wheel was installed."""
    home = tmp_path_factory.mktemp("home")
    call(home, sys.executable, "-m", "venv", home / "venv")
    python = home / "venv" / "bin" / "python"
    call(home, python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu]")
    code = "from importlib.util import find_spec\nprint([m for m in ('torch', 'openvino') if find_spec(m)])"
    assert call(home, python, "-c", code) == "[]\n"

    def command(folder: Path, *arguments: object) -> str:
        return call(folder, python.with_name("s2c-deploy"), *arguments, HOME=str(home), OMP_NUM_THREADS="1")

    return command


ZARR = """
import sys
from importlib.metadata import entry_points
import numcodecs, zarr
from PIL import Image
import numpy as np
for group in ("numcodecs.codecs", "zarr.codecs"):
    print([point.value for point in entry_points(group=group) if point.name == "s2c"])
picture = np.asarray(Image.open("photo.png"))
coding = {
    2: {"compressors": {"id": "s2c", "quality": 6}},
    3: {"compressors": None, "serializer": {"name": "s2c", "configuration": {"quality": 6}}},
}
for form, options in coding.items():
    options |= {"shape": picture.shape, "chunks": (64, 64, 3), "dtype": "uint8", "zarr_format": form}
    made = zarr.create_array(f"{form}.zarr", **options)
    made[:] = picture
    found = zarr.open_array(f"{form}.zarr", mode="r")[:]
    print(form, np.abs(found.astype(int) - picture).mean() < 10, np.array_equal(found, made[:]))
print("torch" in sys.modules)
"""

PILLOW = """
from PIL import Image
from s2c_deploy import register_s2c_opener
register_s2c_opener()
Image.open("photo.png").save("photo.s2c", quality=6)
with Image.open("photo.s2c") as picture:
    print(picture.format, picture.size)
    picture.save("again.png")
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="zarr 3.1 needs Python 3.11")
def test_a_fresh_zarr_finds_the_codec(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, small_photograph: Pixels
) -> None:
    """By its entry points: nothing there imports s2c_deploy by name.  And Pillow beside it has the plugin."""
    home = tmp_path_factory.mktemp("zarr")
    call(home, sys.executable, "-m", "venv", home / "venv")
    python = home / "venv" / "bin" / "python"
    call(home, python, "-m", "pip", "install", "--quiet", f"{wheel}[cpu,zarr]")
    write_image(tmp_path / "photo.png", Image(pixels=small_photograph))
    lines = call(tmp_path, python, "-c", ZARR, HOME=str(home), OMP_NUM_THREADS="1").splitlines()
    assert lines == [
        "['s2c_deploy.chunks.numcodecs:S2C']",
        "['s2c_deploy.chunks.zarr:S2CCodec']",
        "2 True True",
        "3 True True",
        "False",
    ]
    assert call(tmp_path, python, "-c", PILLOW, HOME=str(home), OMP_NUM_THREADS="1") == "S2C (192, 128)\n"
    assert read_image(tmp_path / "again.png").pixels.shape == small_photograph.shape


def test_one_wheel_for_every_python(wheel: Path) -> None:
    tag = re.fullmatch(rf"s2c_deploy-[^-]+-py3-none-manylinux_2_(\d+)_{platform.machine()}\.whl", wheel.name)
    assert tag is not None, wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        needed = re.findall(rb"GLIBC_2\.(\d+)", archive.read(library))
    assert library == "s2c_deploy/entropy/libs2c_native.so"
    assert needed
    assert max(map(int, needed)) <= int(tag[1])


def test_it_holds_the_bundle_and_a_photograph(wheel: Path, bundle_path: Path) -> None:
    inside = f"s2c_deploy/bundles/{bundle_path.name}/"
    with zipfile.ZipFile(wheel) as archive:
        found = {name.removeprefix(inside) for name in archive.namelist() if name.startswith(inside)} - {""}
        assert found == set(os.listdir(bundle_path))
        for name in found:
            assert archive.read(inside + name) == (bundle_path / name).read_bytes()
        photograph = archive.read("s2c_deploy/bundles/photographs/kodim23.png")
    assert photograph == (ROOT / "export/photographs/kodim23.png").read_bytes()


def test_there_and_back(s2c: Command, tmp_path: Path, small_photograph: Pixels, bundle_path: Path) -> None:
    write_image(tmp_path / "photo.png", Image(pixels=small_photograph))
    s2c(tmp_path, "compress", "photo.png")
    s2c(tmp_path, "decompress", "photo.s2c", "back.png")
    assert sorted(os.listdir(tmp_path)) == ["back.png", "photo.png", "photo.s2c"]
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        here = codec.decompress((tmp_path / "photo.s2c").read_bytes())
    # Symbols are exact; the last bit of g_s is the engine's own.
    assert np.abs(read_image(tmp_path / "back.png").pixels.astype(int) - here).max() <= 1
    record = json.loads(s2c(tmp_path, "inspect", "photo.s2c", "--json"))
    assert open_bundle(bundle_path).fingerprint.hex().startswith(record["fingerprint"])


def test_it_knows_its_bundle(s2c: Command, tmp_path: Path, bundle_path: Path) -> None:
    doctor = json.loads(s2c(tmp_path, "doctor", "--json"))
    assert (doctor["native coder"], doctor["backend auto"]) == ("ok", "onnxruntime")
    assert doctor["bundle"]["found in"] == "the wheel"
    record = json.loads(s2c(tmp_path, "inspect", "--json"))
    assert record["found_in"] == "the wheel"
    assert record["path"] == doctor["bundle"]["path"]
    assert record["path"].endswith(f"site-packages/s2c_deploy/bundles/{bundle_path.name}")
    assert record["fingerprint"] == open_bundle(bundle_path).fingerprint.hex()
    assert os.listdir(tmp_path) == []


def test_verify_proves_it(s2c: Command, tmp_path: Path) -> None:
    record = json.loads(s2c(tmp_path, "verify", "-q", "4", "--json"))
    assert record["agrees"]
    assert record["pictures"] == 1
    assert {agreement["streams"] for agreement in record["agreements"]} == {1}


def test_bench_measures(s2c: Command, tmp_path: Path) -> None:
    s2c(tmp_path, "bench", "--min-seconds", 0, "--min-count", 1, "--rounds", 1, "--json", "run.json")
    run = json.loads((tmp_path / "run.json").read_text())
    assert [row["name"] for row in run["rows"] if row["series"]] == ["onnxruntime"]
    assert [case["pictures"] for case in run["cases"]] == [["kodim23.png"]]

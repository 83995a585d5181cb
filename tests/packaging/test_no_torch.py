"""A decoder installs with numpy, Pillow and one engine: nothing on its path may import torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import s2c_deploy
from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.entropy import native

#: What a decoder installs: the dependencies of the package, and the extra cpu.
DECODER = ("numpy", "pillow", "typer", "rich", "onnxruntime", "onnx")
#: What needs torch, by design.
BENCH_PARTS = ("bench.torch_rows", "bench.reference_pipeline", "bench.compressai_import")
TORCH_PARTS = ("models", "quantize", "train", "export", "effort.", "runtime.torch_", *BENCH_PARTS)
#: What needs another package that a decoder may lack.
OTHER_PARTS = ("runtime.openvino_", "triton.model", "chunks.numcodecs", "chunks.zarr")


def closure(names: tuple[str, ...]) -> set[str]:
    """These distributions and all they require here, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has what a decoder installs, and nothing else: links to the packages, a copy of this one."""
    site = tmp_path_factory.mktemp("site")
    for name in closure(DECODER):
        distribution = metadata.distribution(name)
        for entry in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / entry).exists():
                (site / entry).symlink_to(Path(str(distribution.locate_file(entry))))
    source = Path(s2c_deploy.__file__).parent
    shutil.copytree(source, site / "s2c_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    # an editable install keeps the built library apart from the sources
    library = next(d / native.LIBRARY_NAME for d in native._directories() if (d / native.LIBRARY_NAME).is_file())
    shutil.copy(library, site / "s2c_deploy" / "entropy" / native.LIBRARY_NAME)
    return site


def run(site: Path, code: str, *arguments: object) -> str:
    """Runs code where only this folder and the standard library can be imported; what it printed."""
    start = "import sys; sys.path.append(sys.argv.pop(1))\n"
    command = [sys.executable, "-I", "-S", "-c", start + code, str(site), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=site)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_an_environment_without_torch(site: Path) -> None:
    code = """
from importlib.util import find_spec
print([m for m in ("torch", "openvino", "compressai", "safetensors") if find_spec(m)])
print([m for m in ("numpy", "PIL", "onnxruntime", "onnx", "typer", "rich") if find_spec(m)])
import s2c_deploy
print(s2c_deploy.__file__)
"""
    missing, there, file = run(site, code).splitlines()
    assert missing == "[]"
    assert there == "['numpy', 'PIL', 'onnxruntime', 'onnx', 'typer', 'rich']"
    assert Path(file).is_relative_to(site)


@pytest.mark.parametrize(
    "module",
    [
        "formats.bitstream",
        "codec.codec",
        "entropy",
        "runtime",
        "image",
        "metrics",
        "pillow",
        "tensorrt",
        "batch.run",
        "cli.main",
    ],
)
def test_a_module_of_the_decoder_imports(site: Path, module: str) -> None:
    run(site, f"import s2c_deploy.{module}")


def test_every_module_but_the_trainers_imports(site: Path) -> None:
    """New modules, too: whoever adds one that needs torch says so in TORCH_PARTS."""
    source = Path(s2c_deploy.__file__).parent
    names = [".".join(path.relative_to(source).with_suffix("").parts) for path in sorted(source.rglob("*.py"))]
    found = [f"s2c_deploy.{name}" for name in names if not name.startswith(TORCH_PARTS + OTHER_PARTS)]
    assert len(found) > 20
    run(site, "from importlib import import_module\nfor name in sys.argv[1:]: import_module(name)", *found)


def test_the_trainers_do_need_torch(site: Path) -> None:
    code = """
from importlib import import_module
for name in sys.argv[1:]:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""
    parts = ["models.model", "quantize.integer_conv", "train.loop", "models.checkpoint", "runtime.torch_runner"]
    needed = run(site, code, *(f"s2c_deploy.{part}" for part in parts)).split()
    assert len(needed) == len(parts)
    assert set(needed) <= {"torch", "onnx"}


def test_a_picture_there_and_back(site: Path, bundle_path: Path, small_photograph: Pixels, tmp_path: Path) -> None:
    picture = small_photograph[:70, :90]
    np.save(tmp_path / "in.npy", picture)
    code = """
import numpy as np
from s2c_deploy import Codec
bundle, folder = sys.argv[1:]
with Codec.open(bundle, threads=1) as codec:
    data = codec.compress(np.load(folder + "/in.npy"))
    open(folder + "/out.s2c", "wb").write(data)
    np.save(folder + "/out.npy", codec.decompress(data))
print(codec.backend, "torch" in sys.modules)
"""
    assert run(site, code, bundle_path, tmp_path) == "onnxruntime False\n"
    with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), codec.reconstruct(picture))
        np.testing.assert_array_equal(
            codec.decompress((tmp_path / "out.s2c").read_bytes()), np.load(tmp_path / "out.npy")
        )


def test_refinement_names_its_extra(site: Path, bundle_path: Path) -> None:
    """Effort 1 needs no PyTorch; the next one says what to install."""
    code = """
import numpy as np
from s2c_deploy import Codec
from s2c_deploy.errors import DependencyError
picture = np.full((64, 64, 3), 99, np.uint8)
with Codec.open(sys.argv[1], threads=1) as codec:
    codec.decompress(codec.compress(picture, effort=1))
    try:
        codec.compress(picture, effort=2)
    except DependencyError as error:
        print(error)
"""
    assert run(site, code, bundle_path) == "torch is not installed (pip install 's2c-deploy[effort]')\n"


def test_a_missing_engine_names_its_extra(site: Path, bundle_path: Path) -> None:
    code = """
from s2c_deploy import Codec
from s2c_deploy.errors import DependencyError
for backend in ("torch", "openvino"):
    try:
        Codec.open(sys.argv[1], backend)
    except DependencyError as error:
        print(error.extra, error.exit_code, error)
"""
    torch, openvino = run(site, code, bundle_path).splitlines()
    assert torch == "export 10 torch is not installed (pip install 's2c-deploy[export]')"
    assert openvino == "openvino 10 openvino is not installed (pip install 's2c-deploy[openvino]')"


def test_commands_that_need_torch_say_so(site: Path, tmp_path: Path) -> None:
    code = """
from s2c_deploy.cli import main
for command in ("info", "export"):
    sys.argv = ["s2c-deploy", command]
    try:
        main.main()
    except SystemExit as left:
        print(left.code)
sys.stderr.flush()
"""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.path.append(sys.argv.pop(1))\n" + code, str(site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout.split() == ["10", "10"]
    assert done.stderr.splitlines() == ["error: torch is not installed (pip install 's2c-deploy[export]')"] * 2

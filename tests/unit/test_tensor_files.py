"""Checkpoint files that are damaged, odd or hostile: an error of this package, in little time and memory."""

from __future__ import annotations

import io
import os
import random
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor
from untrained import small_config

from s2c_deploy.errors import ExportError, InputError, OutOfMemoryError, S2CError
from s2c_deploy.models import S2CModel
from s2c_deploy.models.adapters import compatible_part, read_tensors
from s2c_deploy.models.checkpoint import load_file_checkpoint
from s2c_deploy.models.tensor_files import parse_safetensors

CONFIG = small_config("conv")
#: Of a tensor that fits, and of one that does not.
NAMES = ("g_a.0.bias", "extra")
ONE = torch.ones(1)


@pytest.fixture(scope="module")
def good() -> dict[str, Tensor]:
    return S2CModel(CONFIG).state_dict()


def saved(content: object, *, archive: bool = True) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=archive)
    return out.getvalue()


def circle() -> dict[str, Any]:
    """Dicts under the usual keys that lead back to the first."""
    first: dict[str, Any] = {}
    first["model"] = {"state_dict": first}
    return first


ODD: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.zeros(3).to_sparse(),
    "compressed": lambda: torch.eye(3).to_sparse_csr(),
    "without values": lambda: torch.zeros(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    "quantised": lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    "complex": lambda: torch.zeros(3, dtype=torch.complex64),
    "160 GB of one value": lambda: torch.zeros(1).expand(200_000, 200_000),
    "windows that overlap": lambda: torch.zeros(2000).as_strided((1000, 1000, 1000), (1, 1, 0)),
}


# PyTorch says that some kinds of tensor are prototypes.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ODD)
def test_odd_tensors_are_named(tmp_path: Path, good: dict[str, Tensor], kind: str, name: str) -> None:
    torch.save({**good, name: ODD[kind]()}, tmp_path / "w.pt")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"w\.pt: {name}: expected dense real numbers, found"):
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_parameters_and_integers_are_tensors_too(tmp_path: Path, good: dict[str, Tensor]) -> None:
    content = {name: torch.nn.Parameter(tensor) for name, tensor in good.items()}
    torch.save(content | {"h_a.0.bias": torch.ones(16, dtype=torch.int32)}, tmp_path / "w.pt")
    state = load_file_checkpoint(tmp_path / "w.pt", CONFIG).model.state_dict()
    assert torch.equal(state["h_a.0.bias"], torch.ones(16))
    assert torch.equal(state["g_a.0.weight"], good["g_a.0.weight"])


@pytest.mark.parametrize(
    "content",
    [circle(), {"model": {}}, {(("a",),): 1}, {"module.a": ONE, "a": ONE}, {"a\ud800\x1b": ONE}],
    ids=["circle", "empty", "no names", "twice", "unprintable"],
)
def test_dicts_without_a_state(tmp_path: Path, content: dict[Any, Any]) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"w\.pt: expected") as caught:
        read_tensors(tmp_path / "w.pt")
    assert str(caught.value).isprintable()


def test_values_beyond_float32(tmp_path: Path, good: dict[str, Tensor]) -> None:
    bias = good["g_a.0.bias"].double()
    bias[0] = 1e300
    torch.save({**good, "g_a.0.bias": bias}, tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"g_a\.0\.bias: not finite"):
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)
    with pytest.raises(ExportError, match=r"1 tensors are not finite: g_a\.0\.bias"):
        compatible_part(good, {"g_a.0.bias": bias})


def test_many_unexpected_tensors_are_counted(tmp_path: Path, good: dict[str, Tensor]) -> None:
    torch.save({**good, **{f"more.{i:05}": torch.zeros(1) for i in range(300)}}, tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"unexpected more\.00199\n  unexpected, too: 100 more$"):
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)


@pytest.mark.parametrize(
    "shapes",
    [
        {"_matrix0": (16, 100_000, 1), "_bias0": (16, 100_000, 1)},
        {"_matrix0": (16, 1, 1)},
        {"_matrix0": (16, 1, 1), "_bias0": (1, 1, 1)},
        {"_matrix0": (16, 1, 1), "_bias0": (16, 1, 1), "_factor0": (16, 7, 7)},
        {"_matrix0": (16,), "_bias0": (16, 1, 1)},
    ],
    ids=["too wide", "no bias", "bias of one channel", "factor", "a vector"],
)
def test_priors_of_other_shapes(tmp_path: Path, good: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    prior = {f"entropy_bottleneck.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    torch.save({**good, **prior}, tmp_path / "w.pt")
    with pytest.raises(ExportError, match=r"entropy_bottleneck, layer 0: expected a (matrix|bias|factor) of 16 x"):
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)


@pytest.mark.parametrize("shift", [float("nan"), 1e30])
def test_priors_without_probability(tmp_path: Path, good: dict[str, Tensor], shift: float) -> None:
    prior = {"_matrix0": torch.zeros(16, 1, 1), "_bias0": torch.full((16, 1, 1), shift)}
    torch.save({**good, **{f"entropy_bottleneck.{k}": v for k, v in prior.items()}}, tmp_path / "w.pt")
    with pytest.raises(ExportError, match="expected most of each channel's probability"):
        load_file_checkpoint(tmp_path / "w.pt", CONFIG)


# files


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_regular_file(tmp_path: Path, suffix: str) -> None:
    folder, pipe, shut = (tmp_path / f"{name}{suffix}" for name in ("folder", "pipe", "shut"))
    folder.mkdir()
    os.mkfifo(pipe)
    for file, found in ((folder, "a folder"), (pipe, "a pipe")):
        with pytest.raises(InputError, match=f"expected a regular file, found {found}"):
            read_tensors(file)
    for file in (tmp_path / f"{'long' * 100}{suffix}", tmp_path / f"nul\0{suffix}"):
        with pytest.raises(InputError, match="cannot read"):
            read_tensors(file)
    with pytest.raises(InputError, match="no file"):
        read_tensors(shut / f"below{suffix}")
    if os.geteuid():  # root may read everything
        shut.write_bytes(b"")
        shut.chmod(0)
        with pytest.raises(InputError, match="cannot read"):
            read_tensors(shut)


def test_a_file_is_named_by_a_link(tmp_path: Path, good: dict[str, Tensor]) -> None:
    torch.save(good, tmp_path / "w.pt")
    (tmp_path / "link.pt").symlink_to("w.pt")
    assert read_tensors(tmp_path / "link.pt").keys() == good.keys()


def test_an_archive_does_not_unpack_to_any_size(tmp_path: Path) -> None:
    plain = io.BytesIO(saved({"a": torch.zeros(2_000_000)}))
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    with pytest.raises(InputError, match=r"found \d+ bytes that would unpack to 8\d{6}"):
        read_tensors(tmp_path / "w.pt")


def test_memory_that_does_not_suffice(tmp_path: Path) -> None:
    """A file in PyTorch's old format asks for its numbers' memory before it shows them."""
    content = saved({"a": torch.zeros(1000)}, archive=False)
    # 1000 as two bytes, of the tensor's storage and of its shape, becomes 2^60 in ten: a longer number.
    huge = content.replace(b"M\xe8\x03", b"\x8a\x08" + (2**60).to_bytes(8, "little"))
    assert huge != content
    (tmp_path / "w.pt").write_bytes(huge)
    with pytest.raises((InputError, OutOfMemoryError), match=r"w\.pt"):
        read_tensors(tmp_path / "w.pt")


def test_strange_dtypes_in_safetensors() -> None:
    data = save({"a": torch.zeros(4, dtype=torch.float8_e4m3fn)})
    with pytest.raises(InputError, match=r"a: expected dense real numbers, found torch\.float8"):
        parse_safetensors("w.safetensors", data)


def small_part(good: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor[..., :1].clone() for name, tensor in sorted(good.items())[:6]}


# PyTorch says so where a flipped bit makes another version of the format.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["archive", "pickle", "safetensors"])
@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_an_error_of_this_package(tmp_path: Path, good: dict[str, Tensor], form: str, seed: int) -> None:
    """Bits flipped, parts cut out or overwritten; what can still be read must be tensors of the file's size."""
    part = small_part(good)
    whole = save(part) if form == "safetensors" else saved({"state_dict": part}, archive=form == "archive")
    file = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    rng, refused = random.Random(seed), 0
    for _ in range(100):
        file.write_bytes(damaged(whole, rng))
        try:
            tensors = read_tensors(file)
        except S2CError:
            refused += 1
        else:
            assert all(tensor.numel() * tensor.element_size() <= len(whole) for tensor in tensors.values())
    assert refused > 20


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """One or two bits flipped, mostly where the structure is; now and then a cut, or a stretch of noise."""
    data = bytearray(whole)
    kind = rng.random()
    if kind < 0.1:
        return bytes(data[: rng.randrange(len(data))])
    start = rng.choice((0, max(0, len(data) - 1500)))
    if kind < 0.2:
        place = start + rng.randrange(min(1500, len(data) - start))
        data[place : place + 8] = rng.randbytes(8)
        return bytes(data)
    for _ in range(rng.choice((1, 2))):
        data[start + rng.randrange(min(1500, len(data) - start))] ^= 1 << rng.randrange(8)
    return bytes(data)

"""Files of tensors that anybody may have written: safetensors, and what PyTorch saves.

Nothing in them is executed, and nothing is allocated that is not in them: a tensor may say that it repeats its values a
billion times, and a compressed record that it unpacks to any size.
"""

from __future__ import annotations

import os
import pickle
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import torch as safetensors
from torch import Tensor

from s2c_deploy.errors import InputError, OutOfMemoryError, S2CError
from s2c_deploy.files import cannot_read
from s2c_deploy.inside import kind_of

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
#: PyTorch does not compress; where another program did, weights hardly shrink.
_MOST_UNPACKED = 16
_LONGEST_NAME = 300
_EXPECTED = "expected safetensors or a PyTorch file of plain tensors"
#: How PyTorch begins its words for memory that it was not given.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def read_file(file: Path) -> tuple[Any, int]:
    """What a file of tensors holds, on the CPU, by its suffix: whatever PyTorch saved, or a dict; and its bytes.

    file: the user's word, so a link is followed.  InputError if it is no regular file, cannot be read, or is damaged;
    OutOfMemoryError where memory does not hold it.
    """
    with _opened(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if file.suffix == ".safetensors":
            return _parsed(str(file), lambda: safetensors.load_file(file)), size
        _check_unpacked(file, stream, size)
        return _parsed(str(file), lambda: torch.load(stream, weights_only=True, map_location="cpu")), size


def parse_safetensors(name: str, data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file's bytes; name: what messages call it.  Errors as ``read_file``."""
    found: dict[str, Tensor] = _parsed(name, lambda: safetensors.load(data))
    return plain_tensors(name, found, limit=len(data))


def plain_tensors(file: str, found: Mapping[str, Tensor], *, limit: int) -> dict[str, Tensor]:
    """The same tensors without gradients, if all are dense real numbers of at most ``limit`` bytes each.

    InputError names the first that is not: sparse, nested, quantised or complex ones, those without values (on the meta
    device), those that repeat their values beyond the limit, and names that cannot be shown.
    """
    for name, tensor in found.items():
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise InputError(f"{file}: expected tensors with plain names, found {name!a:.80}")
        if (kind := strange(tensor, limit)) is not None:
            raise InputError(
                f"{file}: {name}: expected dense real numbers, found {kind}",
                hint="in the program that made it, save the state_dict alone",
            )
    return {name: tensor.detach() for name, tensor in found.items()}


def strange(tensor: Tensor, limit: int) -> str | None:
    """What keeps a tensor from being dense real numbers of at most ``limit`` bytes on the CPU, if anything."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided:
        return f"a nested, quantised or sparse one ({tensor.dtype}, {tensor.layout})"
    if tensor.device.type != "cpu":
        return f"no values (device {tensor.device})"
    if tensor.dtype not in (*_FLOATS, *_INTEGERS) or tensor.is_neg() or tensor.is_conj():
        return str(tensor.dtype)
    if (count := tensor.numel() * tensor.element_size()) > limit:
        return f"{count} bytes that repeat those of a file of {limit}"
    return None


def out_of_memory(error: Exception) -> bool:
    """Whether PyTorch or Python says by it that memory does not suffice; PyTorch mostly does in a RuntimeError."""
    named = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return named or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """A regular file to read; without waiting, as the opening of a named pipe would."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no file {file}", hint="name a checkpoint, or a folder with recipe.toml") from None
    except (OSError, ValueError) as error:
        raise cannot_read(file, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise InputError(
            f"{file}: expected a regular file, found {kind_of(mode)}",
            hint="name a checkpoint, or a folder with recipe.toml",
        )
    with open(descriptor, "rb") as stream:
        yield stream


def _check_unpacked(file: Path, stream: BinaryIO, size: int) -> None:
    """Refuses an archive whose records would fill memory: PyTorch unpacks them whole."""
    if stream.read(4) == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(stream) as archive:
                unpacked = sum(record.file_size for record in archive.infolist())
        except Exception as error:  # whatever zipfile makes of damaged bytes
            raise InputError(f"{file}: {_EXPECTED}, found a damaged archive: {error}") from error
        if unpacked > _MOST_UNPACKED * size:
            raise InputError(f"{file}: {_EXPECTED}, found {size} bytes that would unpack to {unpacked}")
    stream.seek(0)


def _parsed(file: str, parse: Callable[[], Any]) -> Any:
    """What a parser of foreign bytes returns; whatever it raises becomes an error of this package."""
    try:
        return parse()
    except S2CError:
        raise
    except MemoryError as error:
        raise _too_large(file) from error
    except pickle.UnpicklingError as error:
        raise _no_tensors(file) from error
    except Exception as error:  # of damaged bytes, PyTorch and its unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if out_of_memory(error):
            raise _too_large(file) from error
        # PyTorch's own words advise to run the file.
        if "weights_only" in reason:
            raise _no_tensors(file) from error
        raise InputError(f"{file}: {_EXPECTED}, found it damaged: {reason:.200}", hint="fetch it again") from error


def _no_tensors(file: str) -> InputError:
    return InputError(
        f"{file}: {_EXPECTED}, found neither: another kind of file, or objects that only executing it would load",
        hint="in the program that made it, save the state_dict alone",
    )


def _too_large(file: str) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"the tensors of {file}", hint="free some, or fetch the file again: a damaged one may ask for any size"
    )

"""What the steps of benchmarks.gpu_day share: what they are told, their records, and what they exchange."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2c_deploy.codec import Pixels
from s2c_deploy.errors import InputError
from s2c_deploy.runtime import ENGINE_BACKENDS, choose_backend
from s2c_deploy.verify import Coded


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all steps are told; backend: that of the step's part."""

    backend: str
    part: str
    dry_run: bool
    target: str
    work: Path
    bundle: Path
    weights: Path
    images: Path
    pictures: int
    side: int
    qualities: tuple[float, ...]
    profile: str
    seconds: float

    @property
    def own_bundle(self) -> Path:
        return self.work / "bundle"

    def codings(self) -> Iterator[tuple[str, float]]:
        """(picture, quality) of everything that ``prepare`` coded."""
        for path in sorted((self.work / "pictures").glob("*.npy")):
            for quality in self.qualities:
                yield path.stem, quality

    def picture(self, name: str) -> Pixels:
        pixels: Pixels = np.load(self.work / "pictures" / f"{name}.npy")
        return pixels

    def file(self, encoder: str, name: str, quality: float, end: str) -> Path:
        return self.work / encoder / f"{name}-q{quality:g}.{end}"


class Record:
    """A step's results, on disk after every change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._data: dict[str, Any] = {"failures": []}

    def set(self, **values: Any) -> None:
        self._data |= values
        self._write()

    def add(self, name: str, value: Any) -> None:
        self._data.setdefault(name, []).append(value)
        self._write()

    def fail(self, reason: str) -> None:
        self._data["failures"].append(reason)
        self._write()

    @property
    def failed(self) -> bool:
        return bool(self._data["failures"])

    def _write(self) -> None:
        temporary = self._file.with_suffix(".part")
        temporary.write_text(json.dumps(self._data, indent=1))
        os.replace(temporary, self._file)


def save_coded(file: Path, coded: Coded) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"payload": np.frombuffer(coded.payload, np.uint8), "quality": np.float64(coded.quality)}
    arrays["z_symbols"] = coded.z_symbols
    for i, (symbols, indexes, means) in enumerate(zip(coded.symbols, coded.indexes, coded.means, strict=True)):
        arrays |= {f"symbols{i}": symbols, f"indexes{i}": indexes, f"means{i}": means}
    np.savez_compressed(file, **arrays)


def own_arrays(file: Path) -> dict[str, Any]:
    """Arrays that an earlier step has written, compressed."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def load_coded(file: Path) -> Coded:
    arrays = own_arrays(file)
    passes = range(sum(name.startswith("symbols") for name in arrays))
    return Coded(
        payload=arrays["payload"].tobytes(),
        quality=float(arrays["quality"]),
        z_symbols=arrays["z_symbols"],
        symbols=[arrays[f"symbols{i}"] for i in passes],
        indexes=[arrays[f"indexes{i}"] for i in passes],
        means=[arrays[f"means{i}"] for i in passes],
    )


def checked_backend(context: Context) -> str:
    """The step's backend, checked; on a GPU host ``cpu`` must not become one of the GPU's."""
    if context.backend == "cpu":
        return choose_backend("auto")
    if context.dry_run and context.backend in ENGINE_BACKENDS:
        raise InputError(f"a dry run has no {context.backend}")
    return choose_backend(context.backend)

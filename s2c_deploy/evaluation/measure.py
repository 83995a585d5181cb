"""One picture, one method, one setting: through a file on disk and back."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from s2c_deploy.arrays import Indexes, Pixels, Symbols
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.search import GRADIENT
from s2c_deploy.entropy.tables import FrequencyTables, gaussian_mass
from s2c_deploy.evaluation.perceptual import SSIMULACRA2_MIN_SIDE, ssimulacra2
from s2c_deploy.files import no_room_for
from s2c_deploy.metrics import MS_SSIM_MIN_SIDE, ms_ssim, psnr


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a decoded picture is held against."""

    #: The decoded picture is the encoder's own reconstruction.
    equal: bool
    #: The ideal code length.
    ideal_bits: float


class Method(Protocol):
    """What is measured: a bundle or a conventional codec at a list of settings."""

    @property
    def name(self) -> str: ...

    @property
    def suffix(self) -> str:
        """Of its files, with the dot."""

    @property
    def settings(self) -> Sequence[float]: ...

    @property
    def description(self) -> str:
        """Everything that decides its result: options, library, version."""

    def encode(self, pixels: Pixels, setting: float) -> bytes: ...

    def decode(self, data: bytes) -> Pixels: ...

    def warm(self, pixels: Pixels) -> None:
        """Codes a picture in as little time as may be: engines compile for sizes, libraries load when first called."""

    def check(self, pixels: Pixels, setting: float, decoded: Pixels) -> Check | None:
        """What only the encoder can know, outside the clock; None where there is nothing to check."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One picture at one setting of one method."""

    image: str
    method: str
    setting: float
    #: In pixels.
    width: int
    #: In pixels.
    height: int
    #: Of the file, in bytes.
    size: int
    #: Of RGB, in dB; infinite for equal pictures.
    psnr: float
    #: None below 161 pixels a side.
    ms_ssim: float | None
    #: From pixels to the written file.
    encode_seconds: float
    #: From the file to pixels: wall time of a single call.
    decode_seconds: float
    #: See ``Check``; None for conventional codecs.
    ideal_bpp: float | None
    #: See ``Check``; None for conventional codecs.
    equal: bool | None
    #: 100 for equal pictures; None where it was not asked for, and below 8 pixels a side.
    ssimulacra2: float | None = None

    @property
    def bpp(self) -> float:
        """Bits of the whole file, header included, per pixel of the picture."""
        return self.size * 8 / (self.width * self.height)


def measure(
    method: Method, pixels: Pixels, setting: float, *, image: str, folder: Path, perceptual: bool = False
) -> Measurement:
    """Encodes to a file in ``folder``, reads it back and decodes; pixels are uint8 H x W x 3 (RGB).

    perceptual: SSIMULACRA2, too.  InputError where the file cannot be written; others as the method raises them.
    """
    file = folder / f"picture{method.suffix}"
    started = time.perf_counter()
    data = method.encode(pixels, setting)
    try:
        file.write_bytes(data)
    except OSError as error:
        raise no_room_for(file, error) from error
    written = time.perf_counter()
    decoded = method.decode(file.read_bytes())
    finished = time.perf_counter()
    height, width = pixels.shape[:2]
    check = method.check(pixels, setting, decoded)
    scored = perceptual and min(height, width) >= SSIMULACRA2_MIN_SIDE
    return Measurement(
        image=image,
        method=method.name,
        setting=setting,
        width=width,
        height=height,
        size=file.stat().st_size,
        psnr=psnr(pixels, decoded),
        ms_ssim=ms_ssim(pixels, decoded) if min(height, width) >= MS_SSIM_MIN_SIDE else None,
        encode_seconds=written - started,
        decode_seconds=finished - written,
        ideal_bpp=None if check is None else check.ideal_bits / (height * width),
        equal=None if check is None else check.equal,
        ssimulacra2=ssimulacra2(pixels, decoded) if scored else None,
    )


@dataclass(frozen=True, kw_only=True)
class BundleMethod:
    """A bundle, opened on one engine, at a list of qualities."""

    name: str
    codec: Codec
    settings: tuple[float, ...]
    #: As ``Codec.compress`` has it.
    effort: int = 0
    suffix: str = ".s2c"

    @property
    def description(self) -> str:
        bundle = self.codec.bundle
        graph = self.codec.synthesis
        precision = bundle.manifest["graphs"][graph]["precision"]
        return (
            f"S2C {bundle.config.name}, fingerprint {bundle.fingerprint.hex()[:16]}, {graph} {precision}, "
            f"{self.codec.backend}; quality {', '.join(f'{q:g}' for q in self.settings)}"
            + (f"; effort {self.effort}" if self.effort else "")
        )

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        return self.codec.compress(pixels, setting, effort=self.effort)

    def decode(self, data: bytes) -> Pixels:
        return self.codec.decompress(data)

    def warm(self, pixels: Pixels) -> None:
        self.decode(self.codec.compress(pixels, self.settings[0], effort=min(self.effort, GRADIENT)))

    def check(self, pixels: Pixels, setting: float, decoded: Pixels) -> Check | None:
        if self.effort:  # what was searched for is in the stream only
            return None
        symbols, indexes = self.codec.symbols(pixels, setting)
        return Check(
            equal=bool(np.array_equal(decoded, self.codec.reconstruct(pixels, setting))),
            ideal_bits=ideal_bits(symbols, indexes, self.codec.bundle.tables),
        )


def ideal_bits(symbols: Symbols, indexes: Indexes, tables: FrequencyTables) -> float:
    """The sum of -log2 of each symbol's probability under its table's real-valued Gaussian, discretised.

    symbols: int16, flat; indexes: uint8, one for each.  Symbols that the coder skips count too.
    """
    pairs = indexes.astype(np.int64) << 16 | (symbols.astype(np.int64) + 32768)
    bits = 0.0
    for pair, times in zip(*np.unique(pairs, return_counts=True), strict=True):
        magnitude, scale = abs((int(pair) & 65535) - 32768), float(tables.scales[int(pair) >> 16])
        bits -= int(times) * math.log2(max(gaussian_mass(magnitude - 0.5, magnitude + 0.5, scale), 1e-300))
    return bits

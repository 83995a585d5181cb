"""SSIMULACRA2, by way of the package of that name."""

from __future__ import annotations

import io
from importlib.util import find_spec

from PIL import Image

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import DependencyError, InputError

#: In pixels; the package scores whatever is smaller as perfect.
SSIMULACRA2_MIN_SIDE = 8


def require_ssimulacra2() -> None:
    """DependencyError if the package is not installed."""
    if find_spec("ssimulacra2") is None:
        raise DependencyError("ssimulacra2", extra="eval")


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """Quality as people see it, of uint8 H x W x 3 (RGB) against its original: 100 if equal, 90 hardly to be told from
    it, 70 good, 30 poor; below 0 without end.

    SSIM and edges at six scales in the colour space XYB, weighted to agree with what people said of some 22,000
    pictures (J. Sneyers, github.com/cloudinary/ssimulacra2).  InputError for different sizes, and a side below
    8 pixels; DependencyError without the package.
    """
    if original.shape != decoded.shape or min(original.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        raise InputError(
            f"SSIMULACRA2 of pictures of {original.shape} and {decoded.shape}",
            hint=f"pass two of one size, at least {SSIMULACRA2_MIN_SIDE} pixels a side",
        )
    require_ssimulacra2()
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(*map(_file, (original, decoded))))


def _file(pixels: Pixels) -> io.BytesIO:
    """The package reads files: one in memory."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file

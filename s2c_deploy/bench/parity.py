"""The gate before any time is shown: a row must decode the encoder's symbols and its picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2c_deploy.arrays import Pixels, Symbols
from s2c_deploy.metrics import psnr

#: Stands for equal pictures, whose PSNR is infinite, in figures and JSON.
EQUAL_DB = 200.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far decoded pixels may be from what they should be."""

    #: Largest change of the PSNR to the original, dB: what a viewer loses.
    delta_psnr: float
    #: Smallest PSNR to the encoder's own reconstruction, dB: sees errors that cancel in the other, too.
    agreement: float


#: float32 sums in another order change single pixels by one level (above 70 dB); bfloat16 keeps 8 bits of each
#: activation, float16 eleven, and its graphs passed a gate of 0.01 dB when they were made.  Other entropy networks mean
#: other symbols, and so a picture of the same quality, not the same one.
FLOAT32 = Limits(delta_psnr=0.01, agreement=55.0)
FLOAT16 = Limits(delta_psnr=0.02, agreement=48.0)
BFLOAT16 = Limits(delta_psnr=0.1, agreement=38.0)
OTHER_SYMBOLS = Limits(delta_psnr=0.25, agreement=30.0)
#: By precision of g_s, where the symbols are the encoder's.
LIMITS = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What a row decoded of one picture."""

    picture: str
    symbols: int
    #: How many of the symbols differ from the encoder's.
    wrong_symbols: int
    #: PSNR to the original, minus that of the encoder's own reconstruction, dB.
    delta_psnr: float
    #: PSNR between this picture and that reconstruction, dB.
    agreement: float
    #: Why the row loses its times, or None.
    failure: str | None


def judge(
    picture: str,
    limits: Limits,
    *,
    expected: Symbols,
    symbols: Symbols,
    original: Pixels,
    reconstruction: Pixels,
    pixels: Pixels,
) -> Parity:
    """Holds a decoded picture against what its encoder coded."""
    same = expected.shape == symbols.shape
    wrong = int((expected != symbols).sum()) if same else max(expected.size, symbols.size)
    failure = None
    if wrong:
        failure = f"{picture}: {wrong} of {expected.size} symbols differ from the encoder's"
    if pixels.shape != reconstruction.shape:
        failure = f"{picture}: expected pixels {reconstruction.shape}, found {pixels.shape}"
        delta, agreement = -EQUAL_DB, 0.0
    else:
        delta = min(psnr(original, pixels), EQUAL_DB) - min(psnr(original, reconstruction), EQUAL_DB)
        agreement = min(psnr(reconstruction, pixels), EQUAL_DB)
    if failure is None and abs(delta) > limits.delta_psnr:
        failure = f"{picture}: PSNR changes by {delta:+.3f} dB, allowed are {limits.delta_psnr}"
    if failure is None and agreement < limits.agreement:
        failure = (
            f"{picture}: {agreement:.1f} dB from the encoder's reconstruction, expected at least {limits.agreement}"
        )
    return Parity(
        picture=picture,
        symbols=expected.size,
        wrong_symbols=wrong,
        delta_psnr=delta,
        agreement=agreement,
        failure=failure,
    )


def worst(parities: list[Parity]) -> Parity | None:
    """The one whose PSNR changes most; None of none."""
    return max(parities, key=lambda p: abs(p.delta_psnr), default=None)


def same_symbols(pushed: Symbols, read: Symbols) -> str | None:
    """Why a row's own stream does not decode to what it pushed, or None."""
    if pushed.shape == read.shape and np.array_equal(pushed, read):
        return None
    return "its own stream does not decode to the symbols that it coded"

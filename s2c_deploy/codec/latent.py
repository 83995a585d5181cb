"""The latent between networks and coder: the walk through groups and passes that encoder and decoder share.

Only integers cross into the coder.  ``y_hat`` is held in 1/16 steps throughout: a symbol q and a mean m (in 1/16 steps)
make y_hat = 16 q + m.

Latents come in batches: B x M x h x w are those of B tiles of one size, each with a coder of its own, that go through
every network together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from s2c_deploy.arrays import FloatArray, Indexes, Symbols
from s2c_deploy.codec.choice import Choice
from s2c_deploy.contract import HYPER_STRIDE, LATENT_STRIDE, MEAN_LIMIT, MEAN_STEPS, SCALE_LEVELS, SYMBOL_LIMIT, Z_LIMIT
from s2c_deploy.entropy.coder import Decoder, Encoder
from s2c_deploy.errors import BitstreamError, EngineError
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.runtime.runner import Runner

_MEANS = MEAN_STEPS * MEAN_LIMIT
#: Codes one pass: (first channel, last channel + 1, parity, indexes, means) to symbols.
CodePass = Callable[[int, int, int, Indexes, FloatArray], Symbols]


class Graphs(Protocol):
    """Runners by the name of their graph."""

    def __getitem__(self, graph: str, /) -> Runner: ...


class LatentCoder:
    """Latents to symbols and back, with the exact graphs of a bundle."""

    def __init__(self, bundle: Bundle, networks: Graphs) -> None:
        self._bundle = bundle
        self._networks = networks
        self._skip_below = bundle.tables.skip_below

    def encode(
        self, y: FloatArray, z: FloatArray, quality: float, encoders: Sequence[Encoder], choice: Choice | None = None
    ) -> FloatArray:
        """Pushes every symbol of gained latents, B x M x h x w and B x N x h/4 x w/4; returns y_hat.

        choice: of symbols of y; by default the nearest are taken.
        """
        return self.walk(self.push_hyper(z, quality, encoders), self.encoding(y, encoders, choice))

    def decode(self, decoders: Sequence[Decoder], rows: int, columns: int, quality: float) -> FloatArray:
        """Reads every symbol of latents whose hyper-latents have these rows and columns; returns y_hat.

        BitstreamError unless every payload ends exactly there.
        """
        z_symbols = self.read_hyper(decoders, rows, columns, quality)
        y_hat = self.walk(z_symbols, self.decoding(decoders))
        # Until the coder has ended where its encoder began, no symbol is to be trusted.
        for decoder in decoders:
            decoder.finish()
        return y_hat

    def push_hyper(self, z: FloatArray, quality: float, encoders: Sequence[Encoder]) -> Symbols:
        """Rounds and pushes the hyper-latents; returns their symbols."""
        z_symbols: Symbols = _rounded(z, Z_LIMIT)
        indexes = self._z_indexes(quality, *z.shape[2:], batch=len(encoders))
        z_symbols[indexes < self._skip_below] = 0
        _push(encoders, z_symbols, indexes)
        return z_symbols

    def read_hyper(self, decoders: Sequence[Decoder], rows: int, columns: int, quality: float) -> Symbols:
        """The hyper-latents' symbols; BitstreamError for one outside the range that h_s is proven for."""
        z_symbols = _read(decoders, self._z_indexes(quality, rows, columns, batch=len(decoders)))
        if (largest := int(np.abs(z_symbols.astype(np.int32)).max())) > Z_LIMIT:
            raise BitstreamError("hyper-latent", expected=f"symbols within {Z_LIMIT}", found=largest)
        return z_symbols

    def encoding(self, y: FloatArray, encoders: Sequence[Encoder], choice: Choice | None = None) -> CodePass:
        """Codes a pass of y by rounding it around the means and pushing the symbols."""

        def code(start: int, stop: int, parity: int, indexes: Indexes, means: FloatArray) -> Symbols:
            values = packed(y[:, start:stop], parity) - means / np.float32(MEAN_STEPS)
            symbols = _rounded(values, SYMBOL_LIMIT)
            if choice is not None:
                symbols = choice(values, symbols, indexes)
            symbols[indexes < self._skip_below] = 0
            _push(encoders, symbols, indexes)
            return symbols

        return code

    @staticmethod
    def decoding(decoders: Sequence[Decoder]) -> CodePass:
        """Codes a pass by reading its symbols."""
        return lambda start, stop, parity, indexes, means: _read(decoders, indexes)

    def walk(self, z_symbols: Symbols, code: CodePass) -> FloatArray:
        """Group by group, pass by pass: contexts -> indexes and means -> code -> y_hat, B x M x h x w."""
        config, batch = self._bundle.config, len(z_symbols)
        hyper = self._networks["h_s"]({"z_hat": z_symbols.astype(np.float32)})["hyper"]
        scale = HYPER_STRIDE // LATENT_STRIDE
        rows, columns = z_symbols.shape[2] * scale, z_symbols.shape[3] * scale
        y_hat = np.zeros((batch, config.latent_channels, rows, columns), np.float32)
        start = 0
        for k, channels in enumerate(config.groups):
            stop = start + channels
            inputs = {"hyper": hyper}
            if start:
                inputs["y_prev"] = np.ascontiguousarray(y_hat[:, :start])
            out = self._networks[f"context_{k}_anchor"](inputs)
            features = out["features"]
            for parity in (0, 1):
                if parity:
                    # The group's non-anchors are still zero here: the graph may see its anchors only.
                    inputs = {"features": features, "y_cur": np.ascontiguousarray(y_hat[:, start:stop])}
                    out = self._networks[f"context_{k}_nonanchor"](inputs)
                wanted = (batch, channels, rows, columns // 2)
                indexes = _in_range(out["indexes"], wanted, 0, SCALE_LEVELS - 1, f"indexes of context {k}")
                means = _in_range(out["means"], wanted, -_MEANS, _MEANS, f"means of context {k}")
                symbols = code(start, stop, parity, indexes.astype(np.uint8), means)
                unpack(y_hat[:, start:stop], parity, symbols * np.float32(MEAN_STEPS) + means)
            start = stop
        return y_hat

    def _z_indexes(self, quality: float, rows: int, columns: int, *, batch: int = 1) -> Indexes:
        z_indexes = self._bundle.gains.at(quality)[3].reshape(1, -1, 1, 1)
        return np.tile(z_indexes, (batch, 1, rows, columns))


def _push(encoders: Sequence[Encoder], symbols: Symbols, indexes: Indexes) -> None:
    """To each encoder what is its own of a batch."""
    for encoder, own_symbols, own_indexes in zip(encoders, symbols, indexes, strict=True):
        encoder.push(own_symbols, own_indexes)


def _read(decoders: Sequence[Decoder], indexes: Indexes) -> Symbols:
    """The symbols of a batch, from each decoder its own."""
    symbols = np.empty(indexes.shape, np.int16)
    for decoder, own_symbols, own_indexes in zip(decoders, symbols, indexes, strict=True):
        decoder.read(own_indexes, own_symbols)
    return symbols


def _rounded(values: FloatArray, limit: int) -> Symbols:
    """The nearest symbols; EngineError for what is no number."""
    rounded = np.clip(np.rint(values), -limit, limit)
    if np.isnan(rounded.max()):
        raise EngineError("g_a or h_a gave values that are no numbers", hint="is the bundle sound? s2c-deploy verify")
    symbols: Symbols = rounded.astype(np.int16)
    return symbols


def _in_range(values: FloatArray, shape: tuple[int, ...], low: int, high: int, what: str) -> FloatArray:
    """What an exact graph promised, known before it is cast; EngineError for another shape or value."""
    if values.shape != shape or not (low <= values.min() and values.max() <= high):
        raise EngineError(
            f"{what}: expected {shape} within {low} and {high}, found {values.shape} within {values.min()} and "
            f"{values.max()}",
            hint="is the bundle sound? s2c-deploy verify",
        )
    return values


def packed(y: FloatArray, parity: int) -> FloatArray:
    """Positions whose row + column has this parity, B x C x h x w to B x C x h x w/2: even rows' above odd rows'."""
    return np.concatenate((y[:, :, 0::2, parity::2], y[:, :, 1::2, 1 - parity :: 2]), axis=2)


def unpack(y: FloatArray, parity: int, packed: FloatArray) -> None:
    """Writes packed values back to the positions of one parity; the inverse of ``packed``."""
    half = packed.shape[2] // 2
    y[:, :, 0::2, parity::2] = packed[:, :, :half]
    y[:, :, 1::2, 1 - parity :: 2] = packed[:, :, half:]

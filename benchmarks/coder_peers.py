"""The coders that ``benchmarks.coder`` compares, each called as its users call it."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from s2c_deploy.entropy import Decoder, Encoder, FrequencyTables, Tables


@dataclass(frozen=True, kw_only=True)
class Image:
    """The latent of one image, flat: ``symbols`` int16 [n], ``indexes`` uint8 [n]."""

    symbols: npt.NDArray[np.int16]
    indexes: npt.NDArray[np.uint8]


class Coder(Protocol):
    """What is measured: ``encode`` and ``decode`` of one image, as the coder's users call them."""

    name: str

    def encode(self, number: int) -> Any: ...

    def decode(self, number: int, payload: Any) -> npt.NDArray[Any]: ...

    def size(self, payload: Any) -> int: ...


class Native:
    """This package, in as many batches per image as the codec has (channel groups x checkerboard passes).

    ``simd``: the instructions, as in the environment variable S2C_SIMD; empty for the best.
    """

    def __init__(
        self, images: list[Image], tables: FrequencyTables, batches: int, *, simd: str = "", threads: int = 1
    ) -> None:
        before = os.environ.get("S2C_SIMD")
        os.environ["S2C_SIMD"] = simd
        self._tables = Tables(tables)
        del os.environ["S2C_SIMD"]
        if before is not None:
            os.environ["S2C_SIMD"] = before
        self._threads = threads
        self.name = f"s2c {self._tables.simd}" + (f" x{threads}" if threads > 1 else "")
        self._parts = [
            list(zip(np.array_split(i.symbols, batches), np.array_split(i.indexes, batches), strict=True))
            for i in images
        ]

    def encode(self, number: int) -> bytes:
        encoder = Encoder(self._tables)
        for symbols, indexes in self._parts[number]:
            encoder.push(symbols, indexes)
        return encoder.finish(threads=self._threads)

    def decode(self, number: int, payload: bytes) -> npt.NDArray[np.int16]:
        parts = self._parts[number]
        out = np.empty(sum(s.size for s, _ in parts), np.int16)
        decoder = Decoder(self._tables, payload, threads=self._threads)
        done = 0
        for _, indexes in parts:
            decoder.read(indexes, out[done : done + indexes.size])
            done += indexes.size
        decoder.finish()
        return out

    def size(self, payload: bytes) -> int:
        return len(payload)


class CompressAI:
    """CompressAI's coder, called and fed as its ``EntropyModel.compress`` and ``decompress`` do it."""

    name = "compressai"

    def __init__(self, images: list[Image], tables: FrequencyTables) -> None:
        # PyTorch comes only with this peer
        import torch

        from s2c_deploy.bench.compressai_import import import_compressai

        torch.set_num_threads(1)
        self._torch: Any = torch
        self._ans, conditional = import_compressai()
        model = conditional(tables.scales.tolist())
        model.update()
        self._cdf, self._cdf_length, self._offset = model.quantized_cdf, model.cdf_length, model.offset
        tensor = self._torch.from_numpy
        self._symbols = [tensor(i.symbols.astype(np.int32)) for i in images]
        self._indexes = [tensor(i.indexes.astype(np.int32)) for i in images]

    def _tables(self) -> tuple[Any, Any, Any]:
        return (
            self._cdf.tolist(),
            self._cdf_length.reshape(-1).int().tolist(),
            self._offset.reshape(-1).int().tolist(),
        )

    def encode(self, number: int) -> bytes:
        encoder = self._ans.BufferedRansEncoder()
        encoder.encode_with_indexes(
            self._symbols[number].reshape(-1).int().tolist(),
            self._indexes[number].reshape(-1).int().tolist(),
            *self._tables(),
        )
        payload: bytes = encoder.flush()
        return payload

    def decode(self, number: int, payload: bytes) -> npt.NDArray[Any]:
        indexes = self._indexes[number]
        outputs = self._cdf.new_empty(indexes.size())
        values = self._ans.RansDecoder().decode_with_indexes(
            payload, indexes.reshape(-1).int().tolist(), *self._tables()
        )
        outputs[:] = self._torch.tensor(values, dtype=outputs.dtype).reshape(outputs.size())
        result: npt.NDArray[Any] = outputs.numpy()
        return result

    def size(self, payload: bytes) -> int:
        return len(payload)


class Constriction:
    """constriction's ANS coder with its quantised Gaussians, array calls."""

    name = "constriction"

    def __init__(self, images: list[Image], tables: FrequencyTables) -> None:
        import constriction

        self._stack = constriction.stream.stack
        self._symbols = [i.symbols.astype(np.int32) for i in images]
        self._scales = [tables.scales[i.indexes] for i in images]
        bound = max(int(np.abs(s).max(initial=1)) for s in self._symbols)
        self._model = constriction.stream.model.QuantizedGaussian(-bound, bound)
        self._means = [np.zeros(len(s)) for s in self._scales]

    def encode(self, number: int) -> Any:
        coder = self._stack.AnsCoder()
        coder.encode_reverse(self._symbols[number], self._model, self._means[number], self._scales[number])
        return coder.get_compressed()

    def decode(self, number: int, payload: Any) -> npt.NDArray[Any]:
        coder = self._stack.AnsCoder(payload)
        result: npt.NDArray[Any] = coder.decode(self._model, self._means[number], self._scales[number])
        return result

    def size(self, payload: Any) -> int:
        return 4 * len(payload)


def available(images: list[Image], tables: FrequencyTables, batches: int, *, threads: int = 1) -> list[Coder]:
    """Our coder, with the best instructions and with none, and those of the others that are installed.

    With more ``threads`` than one also our coder on so many: only large payloads have parts for them.
    """
    best, plain = Native(images, tables, batches), Native(images, tables, batches, simd="scalar")
    coders: list[Coder] = [best] if best.name == plain.name else [best, plain]
    if threads > 1:
        coders.append(Native(images, tables, batches, threads=threads))
    if importlib.util.find_spec("compressai"):
        coders.append(CompressAI(images, tables))
    if importlib.util.find_spec("constriction"):
        coders.append(Constriction(images, tables))
    return coders

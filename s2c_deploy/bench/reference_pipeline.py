"""The reference pipeline: how published learned codecs run.  Needs torch and CompressAI.

The same weights in eager PyTorch, float entropy networks, and CompressAI's coder fed with Python lists: the loop that
CompressAI's ``JointAutoregressiveHierarchicalPriors`` and the codecs built on it (ELIC, TCM, MLIC++ ...) have in
``decompress``, one ``decode_stream`` a pass, tables as lists made once a picture.  Its streams cannot be the other
rows': float networks predict other tables, and only this machine and setting can read them back.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench.compressai_import import import_compressai
from s2c_deploy.bench.stages import StageClock
from s2c_deploy.bench.torch_rows import same_weights
from s2c_deploy.contract import ALIGNMENT, HYPER_STRIDE, MEAN_LIMIT, MEAN_STEPS, SCALE_LEVELS, Z_LIMIT
from s2c_deploy.export.exporter import deployed_gains
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.models.entropy_model import pack_anchors, pack_nonanchors, unpack
from s2c_deploy.models.model import INDEX_GAIN, SCALE_MIN, SCALE_STEP, S2CModel

_HEADER = struct.Struct("<HHfI")  # width, height, quality, bytes of z


class ReferencePipeline:
    """A picture to bytes and back, as a learned codec's test script does it; float32, one picture at a time."""

    provider = f"torch {torch.__version__} CPU, compressai.ans"
    precision = "float32"

    def __init__(self, model: S2CModel, threads: int) -> None:
        self._ans, conditional = import_compressai()
        if threads:
            torch.set_num_threads(threads)
        self._model = model.eval()
        self._gains = deployed_gains(model)
        scales = [SCALE_MIN * float(np.exp(i * SCALE_STEP)) for i in range(SCALE_LEVELS)]
        self._conditional = conditional(scales)
        self._conditional.update()
        self.clock = StageClock()

    def close(self) -> None:
        """Nothing to free."""

    @torch.no_grad()
    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """A picture to bytes; what no inner stage takes is the latents'."""
        with self.clock.stage("latents"):
            return self._encode_picture(pixels, quality)

    @torch.no_grad()
    def decode(self, data: bytes) -> Pixels:
        """Bytes of ``encode`` to the picture; what no inner stage takes is the latents'."""
        with self.clock.stage("latents"):
            return self._decode_picture(data)

    def _encode_picture(self, pixels: Pixels, quality: float) -> bytes:
        gain, hyper_gain, _, z_indexes = self._gains.at(quality)
        clock = self.clock
        with clock.stage("colour"):
            height, width = pixels.shape[:2]
            x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
            pad = (0, -width % ALIGNMENT, 0, -height % ALIGNMENT)
            x = torch.nn.functional.pad(x, pad, mode="replicate")
        with clock.stage("g_a"):
            y = self._model.g_a(x) * torch.from_numpy(gain)
            z = self._model.h_a(y) * torch.from_numpy(hyper_gain)
        z_symbols = torch.round(z).clamp(-Z_LIMIT, Z_LIMIT)
        with clock.stage("entropy"):
            z_stream = self._encode([(z_symbols, self._z_indexes(z_indexes, *z.shape[2:]))])
        batches: list[tuple[Tensor, Tensor]] = []

        def code(target: Tensor, indexes: Tensor, means: Tensor) -> Tensor:
            symbols = torch.round(target - means)
            batches.append((symbols, indexes))
            return symbols

        self._walk(z_symbols, y, code)
        with clock.stage("entropy"):
            return _HEADER.pack(width, height, quality, len(z_stream)) + z_stream + self._encode(batches)

    def _decode_picture(self, data: bytes) -> Pixels:
        clock = self.clock
        with clock.stage("parse"):
            width, height, quality, size = _HEADER.unpack_from(data)
            z_stream, y_stream = data[_HEADER.size :][:size], data[_HEADER.size + size :]
        _, _, inverse_gain, z_indexes = self._gains.at(quality)
        rows, columns = (-(-side // HYPER_STRIDE) for side in (height, width))
        with clock.stage("entropy"):
            lists = self._lists()
            indexes = self._z_indexes(z_indexes, rows, columns)
            decoder = self._ans.RansDecoder()
            decoder.set_stream(z_stream)
        z_symbols = self._decode(decoder, lists, indexes)
        with clock.stage("entropy"):
            decoder = self._ans.RansDecoder()
            decoder.set_stream(y_stream)

        def code(target: Tensor, indexes: Tensor, means: Tensor) -> Tensor:
            return self._decode(decoder, lists, indexes)

        # the walk needs the shape of y only
        shape = (1, self._model.config.latent_channels, 4 * rows, 4 * columns)
        y_hat = self._walk(z_symbols, torch.empty(shape), code)
        with clock.stage("g_s"):
            # inverse gains hold the 1/16 of the shipped integers' steps
            x_hat = self._model.g_s(y_hat * torch.from_numpy(inverse_gain * np.float32(MEAN_STEPS)))
        with clock.stage("colour"):
            levels = (x_hat[0, :, :height, :width].clamp(0, 1) * 255).round()
            pixels: Pixels = levels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
            return pixels

    def _walk(self, z_symbols: Tensor, y: Tensor, code: Any) -> Tensor:
        """h_s, then group by group and pass by pass; ``code`` gets a pass of y, its indexes and its means."""
        clock = self.clock
        with clock.stage("contexts"):
            hyper = self._model.h_s(z_symbols)
        decoded: list[Tensor] = []
        for context, target in zip(
            self._model.group_contexts, torch.split(y, list(self._model.config.groups), dim=1), strict=True
        ):
            with clock.stage("contexts"):
                earlier = torch.cat(decoded, dim=1) if decoded else target[:, :0]
                features = context.features(hyper, earlier)
                indexes, means = _coded(context.anchor(features))
            symbols = code(pack_anchors(target), indexes, means)
            with clock.stage("contexts"):
                anchors = symbols + means
                current = unpack(anchors, torch.zeros_like(anchors))
                indexes, means = _coded(context.nonanchor(features, current))
            symbols = code(pack_nonanchors(target), indexes, means)
            decoded.append(unpack(anchors, symbols + means))
        return torch.cat(decoded, dim=1)

    def _z_indexes(self, z_indexes: Any, rows: int, columns: int) -> Tensor:
        return torch.from_numpy(z_indexes.astype(np.int32)).reshape(1, -1, 1, 1).repeat(1, 1, rows, columns)

    def _lists(self) -> tuple[Any, Any, Any]:
        c = self._conditional
        return c.quantized_cdf.tolist(), c.cdf_length.reshape(-1).int().tolist(), c.offset.reshape(-1).int().tolist()

    def _encode(self, batches: list[tuple[Tensor, Tensor]]) -> bytes:
        encoder = self._ans.BufferedRansEncoder()
        symbols: list[int] = []
        indexes: list[int] = []
        for values, tables in batches:
            symbols.extend(values.reshape(-1).int().tolist())
            indexes.extend(tables.reshape(-1).int().tolist())
            self.clock.record(values.numpy().astype(np.int16))
        encoder.encode_with_indexes(symbols, indexes, *self._lists())
        stream: bytes = encoder.flush()
        return stream

    def _decode(self, decoder: Any, lists: tuple[Any, Any, Any], indexes: Tensor) -> Tensor:
        with self.clock.stage("entropy"):
            values = decoder.decode_stream(indexes.reshape(-1).tolist(), *lists)
            symbols = torch.tensor(values).reshape(indexes.shape).float()
        self.clock.record(symbols.numpy().astype(np.int16))
        return symbols


def _coded(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Indexes int32 and means of a pass from a float network's output."""
    indexes, means = parameters.chunk(2, dim=1)
    means = (torch.round(means * MEAN_STEPS) / MEAN_STEPS).clamp(-MEAN_LIMIT, MEAN_LIMIT)
    return torch.round(indexes * INDEX_GAIN).clamp(0, SCALE_LEVELS - 1).int(), means


def open_reference(bundle: Path, weights: Path | None, threads: int) -> ReferencePipeline:
    """The pipeline of the weights that a bundle was exported from."""
    return ReferencePipeline(same_weights(open_bundle(bundle), weights).model, threads)

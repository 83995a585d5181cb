"""Tiles: latents to symbols, and symbols to latents.  No tile knows of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.codec.choice import Choice
from s2c_deploy.codec.latent import LatentCoder
from s2c_deploy.codec.networks import Networks
from s2c_deploy.contract import HYPER_STRIDE
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.formats.grid import Tile


class TileCoder:
    """The entropy path of a tile, or of B tiles of one size together, whatever stream they are in.

    latents: what walks the latent; by default the codec's own.
    """

    def __init__(self, bundle: Bundle, networks: Networks, *, latents: LatentCoder | None = None) -> None:
        self._gains = bundle.gains
        self._networks = networks
        self.latents = LatentCoder(bundle, networks) if latents is None else latents
        self.tables = Tables(bundle.tables)

    def encoder(self) -> Encoder:
        """An encoder for one tile's symbols."""
        return Encoder(self.tables)

    def hyper(self, y: FloatArray, quality: float) -> FloatArray:
        """The gained hyper-latents of gained latents, B x N x h/4 x w/4."""
        hyper_gain = self._gains.at(quality)[1]
        with self._networks.walking:
            return np.array(self._networks["h_a"]({"y": y, "hyper_gain": hyper_gain})["z"])

    def encode(
        self,
        y: FloatArray,
        quality: float,
        encoders: Sequence[Encoder],
        *,
        z: FloatArray | None = None,
        choice: Choice | None = None,
    ) -> FloatArray:
        """Pushes every symbol of gained latents, and returns y_hat; both are B x M x h x w, y_hat in 1/16 steps.

        z: by default h_a's; choice: of symbols, by default the nearest.
        """
        z = self.hyper(y, quality) if z is None else z
        with self._networks.walking:
            return self.latents.encode(y, z, quality, encoders, choice)

    def finish(self, encoder: Encoder) -> bytes:
        """The payload of what was pushed."""
        return encoder.finish(threads=self._networks.threads)

    def decode(self, payloads: Sequence[bytes], part: Tile, quality: float) -> FloatArray:
        """Reads every symbol of tiles as large as ``part`` and returns y_hat, B x M x h x w in 1/16 steps."""
        rows, columns = (-(-side // HYPER_STRIDE) for side in (part.height, part.width))
        with self._networks.walking:
            decoders = [Decoder(self.tables, payload, threads=self._networks.threads) for payload in payloads]
            return self.latents.decode(decoders, rows, columns, quality)

    def close(self) -> None:
        """Frees the tables; the networks are others'."""
        self.tables.close()

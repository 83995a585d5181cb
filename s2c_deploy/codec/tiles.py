"""A tile: its latent to symbols, and its symbols to the latent.  No tile knows of another."""

from __future__ import annotations

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
    """The entropy path of one tile, whatever stream it is in.

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
        """The gained hyper-latent of a tile's gained latent, 1 x N x h/4 x w/4."""
        hyper_gain = self._gains.at(quality)[1]
        with self._networks.walking:
            return np.array(self._networks["h_a"]({"y": y, "hyper_gain": hyper_gain})["z"])

    def encode(
        self,
        y: FloatArray,
        quality: float,
        encoder: Encoder,
        *,
        z: FloatArray | None = None,
        choice: Choice | None = None,
    ) -> FloatArray:
        """Pushes every symbol of a tile's gained latent, and returns y_hat; both are 1 x M x h x w, y_hat in 1/16
        steps.

        z: by default h_a's; choice: of symbols, by default the nearest.
        """
        z = self.hyper(y, quality) if z is None else z
        with self._networks.walking:
            return self.latents.encode(y, z, quality, encoder, choice)

    def finish(self, encoder: Encoder) -> bytes:
        """The payload of what was pushed."""
        return encoder.finish(threads=self._networks.threads)

    def decode(self, payload: bytes, part: Tile, quality: float) -> FloatArray:
        """Reads every symbol of a tile and returns its y_hat, 1 x M x h x w in 1/16 steps."""
        rows, columns = (-(-side // HYPER_STRIDE) for side in (part.height, part.width))
        with self._networks.walking:
            decoder = Decoder(self.tables, payload, threads=self._networks.threads)
            return self.latents.decode(decoder, rows, columns, quality)

    def close(self) -> None:
        """Frees the tables; the networks are others'."""
        self.tables.close()

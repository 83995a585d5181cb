"""A tile: its pixels to symbols, and its symbols to pixels."""

from __future__ import annotations

from typing import cast

import numpy as np

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.latent import LatentCoder
from s2c_deploy.codec.networks import Networks
from s2c_deploy.contract import ALIGNMENT, HYPER_STRIDE, LATENT_STRIDE
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.formats.bitstream import Tile
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.runtime.runner import PIXELS


class TileCoder:
    """The transforms and the entropy path around one tile, whatever stream it is in.

    latents: what walks the latent; by default the codec's own.
    """

    def __init__(self, bundle: Bundle, networks: Networks, *, latents: LatentCoder | None = None) -> None:
        self._gains, self._channels = bundle.gains, bundle.config.latent_channels
        self._networks = networks
        self.latents = LatentCoder(bundle, networks) if latents is None else latents
        self.tables = Tables(bundle.tables)

    def encoder(self) -> Encoder:
        """An encoder for one tile's symbols."""
        return Encoder(self.tables)

    def encode(self, image: Pixels, quality: float, encoder: Encoder) -> FloatArray:
        """Pushes every symbol of a tile and returns its y_hat, 1 x M x h x w in 1/16 steps."""
        gain, hyper_gain, _, _ = self._gains.at(quality)
        with self._networks.walking:
            y = self._networks["g_a"]({"x": to_network(image), "gain": gain})["y"]
            z = self._networks["h_a"]({"y": y, "hyper_gain": hyper_gain})["z"]
            return self.latents.encode(y, z, quality, encoder)

    def finish(self, encoder: Encoder) -> bytes:
        """The payload of what was pushed."""
        return encoder.finish(threads=self._networks.threads)

    def decode(self, payload: bytes, part: Tile, quality: float) -> FloatArray:
        """Reads every symbol of a tile and returns its y_hat, 1 x M x h x w in 1/16 steps."""
        rows, columns = (-(-side // HYPER_STRIDE) for side in (part.height, part.width))
        with self._networks.walking:
            decoder = Decoder(self.tables, payload, threads=self._networks.threads)
            return self.latents.decode(decoder, rows, columns, quality)

    def synthesize(self, y_hat: object, part: Tile, quality: float) -> Pixels:
        """The tile's pixels, rounded by the engine where its graph does that; InputError for latents of other shape."""
        inverse_gain = self._gains.at(quality)[2]
        with self._networks.drawing:
            out = self._networks[self._networks.synthesis](
                {"y_hat": self._checked(y_hat, part), "inverse_gain": inverse_gain}
            )
            if PIXELS in out:
                return cast("Pixels", out[PIXELS])[0, : part.height, : part.width]
            return to_pixels(out["x_hat"], part.height, part.width)

    def _checked(self, y_hat: object, part: Tile) -> FloatArray:
        rows, columns = (-(-side // ALIGNMENT) * (ALIGNMENT // LATENT_STRIDE) for side in (part.height, part.width))
        wanted = (1, self._channels, rows, columns)
        if not isinstance(y_hat, np.ndarray) or y_hat.shape != wanted or y_hat.dtype != np.float32:
            found = f"{y_hat.dtype} {y_hat.shape}" if isinstance(y_hat, np.ndarray) else type(y_hat).__name__
            raise InputError(f"latents: expected float32 {wanted}, found {found}", hint="pass what read_latents gives")
        return y_hat

    def close(self) -> None:
        """Frees the tables; the networks are others'."""
        self.tables.close()


def cut(image: Pixels, part: Tile) -> Pixels:
    """The pixels of a tile: a view."""
    return image[part.top : part.top + part.height, part.left : part.left + part.width]


def to_network(image: Pixels) -> FloatArray:
    """uint8 H x W x 3 to float32 1 x 3 x H' x W' in [0, 1], the last row and column repeated to multiples of 64."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((0, -height % ALIGNMENT), (0, -width % ALIGNMENT), (0, 0)), mode="edge")
    x: FloatArray = padded.transpose(2, 0, 1)[None].astype(np.float32, order="C")
    x /= np.float32(255)
    return x


def to_pixels(x_hat: FloatArray, height: int, width: int) -> Pixels:
    """float32 1 x 3 x H' x W' to uint8 H x W x 3: crops, rounds and clips."""
    levels = x_hat[0, :, :height, :width] * np.float32(255)
    np.clip(np.rint(levels, out=levels), 0, 255, out=levels)
    if np.isnan(levels.max()):
        raise EngineError("g_s gave values that are no numbers", hint="is the bundle sound? s2c-deploy verify")
    pixels: Pixels = levels.transpose(1, 2, 0).astype(np.uint8)
    return pixels

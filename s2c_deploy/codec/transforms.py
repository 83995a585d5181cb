"""g_a and g_s over pictures of any size: pixels to latents, and latents to pixels, block by block."""

from __future__ import annotations

from typing import cast

import numpy as np

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.blocks import Area, blocks
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.sliding import SlidingRows
from s2c_deploy.contract import LATENT_STRIDE, padded
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.runtime.runner import PIXELS


class Transforms:
    """A bundle's float networks that the picture's size decides the memory of."""

    def __init__(self, bundle: Bundle, networks: Networks) -> None:
        self._gains, self._channels = bundle.gains, bundle.config.latent_channels
        self._networks = networks

    def analyze(
        self, picture: SlidingRows[np.uint8], area: Area, size: tuple[int, int], quality: float, side: int
    ) -> FloatArray:
        """The gained latent of an area, float32 1 x M x h x w, of a picture of ``size`` (height, width)."""
        gain = self._gains.at(quality)[0]
        whole = Area.whole(*size)
        y = np.empty((1, self._channels, area.height // LATENT_STRIDE, area.width // LATENT_STRIDE), np.float32)
        for block in blocks(area, side):
            seen = block if block == whole else block.around(self._networks.field("g_a"), whole.bottom, whole.right)
            pixels = picture.crop(seen.top, min(seen.bottom, size[0]), seen.left, min(seen.right, size[1]))
            rows, columns = block.scaled(LATENT_STRIDE).within(area.scaled(LATENT_STRIDE))
            inner_rows, inner_columns = block.scaled(LATENT_STRIDE).within(seen.scaled(LATENT_STRIDE))
            x = to_network(pixels, (seen.height, seen.width))
            with self._networks.walking:
                out = np.asarray(self._networks["g_a"]({"x": x, "gain": gain})["y"])
                y[:, :, rows, columns] = out[:, :, inner_rows, inner_columns]
        return y

    def synthesize(
        self, latent: SlidingRows[np.float32], area: Area, size: tuple[int, int], quality: float, side: int
    ) -> Pixels:
        """The pixels of an area, as far as the picture goes; the latent's rows and columns begin with the picture's."""
        graph = self._networks.synthesis
        inverse_gain = self._gains.at(quality)[2]
        whole = Area.whole(*size).scaled(LATENT_STRIDE)
        image = np.empty((min(area.bottom, size[0]) - area.top, min(area.right, size[1]) - area.left, 3), np.uint8)
        for block in blocks(area, side):
            seen = wanted = block.scaled(LATENT_STRIDE)
            if wanted != whole:
                seen = wanted.around(self._networks.field(graph), whole.bottom, whole.right)
            y_hat = latent.crop(seen.top, seen.bottom, seen.left, seen.right)
            rows, columns = block.within(area)
            target = image[rows, columns]
            corner = (LATENT_STRIDE * (wanted.top - seen.top), LATENT_STRIDE * (wanted.left - seen.left))
            inputs = {"y_hat": np.ascontiguousarray(y_hat), "inverse_gain": inverse_gain}
            with self._networks.drawing:
                target[:] = _pixels(self._networks[graph](inputs), corner, target.shape)
        return image


def _pixels(outputs: dict[str, FloatArray], corner: tuple[int, int], shape: tuple[int, ...]) -> Pixels:
    """A part of what g_s gave, rounded by the engine where its graph does that."""
    rows, columns = (slice(first, first + length) for first, length in zip(corner, shape, strict=False))
    if PIXELS in outputs:
        return cast("Pixels", outputs[PIXELS])[0, rows, columns]
    return to_pixels(outputs["x_hat"][:, :, rows, columns], *shape[:2])


def to_network(image: Pixels, size: tuple[int, int] | None = None) -> FloatArray:
    """uint8 h x w x 3 to float32 1 x 3 x height x width in [0, 1], the last row and column repeated.

    size: (height, width); by default multiples of 64.
    """
    height, width = (padded(side) for side in image.shape[:2]) if size is None else size
    missing = ((0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0))
    x: FloatArray = np.pad(image, missing, mode="edge").transpose(2, 0, 1)[None].astype(np.float32, order="C")
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

"""What FP16 in a float graph costs on a picture, in dB of PSNR.

g_s is simple: the same latents, decoded in float32 and in FP16, and the difference of the two pictures' PSNR.

g_a is not.  FP16 moves a latent that lies between two symbols to the other one now and then.  That neither gains nor
loses, but the contexts then predict otherwise and the rest of the picture is rounded anew: size and PSNR move by some
0.3 % and 0.02 dB either way on one picture (kodim23), as under any other perturbation, and no limit of 0.01 dB
can be held against such noise.  So its error is weighed against the one that rounding to symbols makes anyway:

    loss = 10 log10(1 + mean (y16 - y32)^2 / mean (y32 - y_hat)^2)

An error before a rounding adds its variance to the rounding's (exactly so where densities are smooth), and gained
latents weigh the same in the picture, which is what gains are trained for.  h_a is weighed so too: it cannot change the
picture, only what it costs.  benchmarks/cost.py measures whole files, over enough pictures for the noise to cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec.latent import LatentCoder
from s2c_deploy.codec.networks import Networks
from s2c_deploy.codec.transforms import to_network, to_pixels
from s2c_deploy.contract import MEAN_STEPS, Z_LIMIT
from s2c_deploy.entropy.coder import Encoder, Tables
from s2c_deploy.formats.bundle import Bundle
from s2c_deploy.metrics import psnr
from s2c_deploy.runtime.runner import Runner


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One picture, coded at one quality in float32."""

    #: uint8 H x W x 3.
    pixels: Pixels
    quality: float
    #: What went into g_a, h_a and every g_s.
    calls: Mapping[str, Mapping[str, FloatArray]]
    #: What came out of them.
    outputs: Mapping[str, FloatArray]
    #: Of the picture that each g_s decodes, in dB, by graph.
    psnr: Mapping[str, float]


def coded_in_float32(bundle: Bundle, networks: Networks, pixels: Pixels, quality: float) -> Reference:
    """Codes a picture as the encoder does, and decodes it."""
    gain, hyper_gain, inverse_gain, _ = bundle.gains.at(quality)
    calls = {"g_a": {"x": to_network(pixels), "gain": gain}}
    y = networks["g_a"](calls["g_a"])["y"]
    calls["h_a"] = {"y": y, "hyper_gain": hyper_gain}
    z = networks["h_a"](calls["h_a"])["z"]
    tables = Tables(bundle.tables)
    try:
        y_hat = LatentCoder(bundle, networks).encode(y, z, quality, [Encoder(tables)])
    finally:
        tables.close()
    outputs = {"g_a": y, "h_a": z}
    for graph in bundle.half_syntheses:
        calls[graph] = {"y_hat": y_hat, "inverse_gain": inverse_gain}
        outputs[graph] = networks[graph](calls[graph])["x_hat"]
    return Reference(
        pixels=pixels,
        quality=quality,
        calls=calls,
        outputs=outputs,
        psnr={graph: psnr(pixels, to_pixels(outputs[graph], *pixels.shape[:2])) for graph in bundle.half_syntheses},
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a graph in FP16 costs one picture."""

    #: In dB; infinite if a value is not finite.
    loss: float
    #: The largest, over the output's largest magnitude.
    difference: float


def cost(reference: Reference, graph: str, half: Runner) -> Cost:
    """What one of the float graphs costs on a picture when ``half`` runs it."""
    (found,) = half(reference.calls[graph]).values()
    expected = reference.outputs[graph]
    if not np.isfinite(found).all():
        return Cost(loss=np.inf, difference=np.inf)
    difference = float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-12))
    if graph in reference.psnr:
        found_psnr = psnr(reference.pixels, to_pixels(found, *reference.pixels.shape[:2]))
        return Cost(loss=reference.psnr[graph] - found_psnr, difference=difference)
    if graph == "g_a":
        rounded = reference.calls["g_s"]["y_hat"] / np.float32(MEAN_STEPS)
    else:
        rounded = np.clip(np.rint(expected), -Z_LIMIT, Z_LIMIT)
    added, anyway = (float(np.mean(np.square(d, dtype=np.float64))) for d in (found - expected, expected - rounded))
    return Cost(loss=float(10 * np.log10(1 + added / max(anyway, 1e-12))), difference=difference)

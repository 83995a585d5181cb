"""Known answers that take no room: inputs that a rule gives, and hashes of what must come out (docs/browser.md).

The inputs of a bundle's known answers are random and do not compress: they would double what a browser fetches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.contract import EXACT_INPUTS
from s2c_deploy.runtime.runner import Runner

#: The parts of their range that the pictures of a batch span.
RANGE_PARTS = (1, 8, 64, 512)
#: Side of the latents of a probe; z_hat has a fourth of it.
_SIDE, _HYPER_SIDE = 8, 2


def probe_input(number: int, shape: Sequence[int], low: int, high: int) -> FloatArray:
    """float32 integers, a picture for each of the parts of [low, high]; number: of the input, from 0.

    Value t of the input is low' + (mix(t + 0x9e3779b9 (number + 1)) mod (high' - low' + 1)), with mix the last steps of
    MurmurHash3 on 32 bits and low' = low / part, high' = max(1, high / part), cut towards zero.
    """
    place = np.arange(math.prod(shape), dtype=np.uint32)
    x = place + np.uint32(0x9E3779B9 * (number + 1) & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    x ^= x >> np.uint32(16)
    pictures = []
    for mixed, part in zip(x.reshape(shape), RANGE_PARTS, strict=True):
        first, last = math.trunc(low / part), max(1, math.trunc(high / part))
        pictures.append(first + (mixed % np.uint32(last - first + 1)).astype(np.int64))
    return np.stack(pictures).astype(np.float32)


def probe_shapes(described: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of an exact graph's inputs, of a batch of 8 x 8 latents, in the order of its manifest entry."""
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in described["inputs"]:
        side = _HYPER_SIDE if tensor["name"] == "z_hat" else _SIDE
        shapes[tensor["name"]] = (len(RANGE_PARTS), tensor["shape"][1], side, side)
    return shapes


def probe_inputs(described: Mapping[str, Any]) -> dict[str, FloatArray]:
    """All inputs of an exact graph's probe."""
    shapes = probe_shapes(described)
    return {name: probe_input(k, shape, *EXACT_INPUTS[name]) for k, (name, shape) in enumerate(shapes.items())}


def describe_probe(described: Mapping[str, Any], runner: Runner) -> dict[str, Any]:
    """What a web bundle's manifest says of a graph's probe; outputs are hashed as int32."""
    inputs = [
        {"name": name, "shape": list(shape), "low": EXACT_INPUTS[name][0], "high": EXACT_INPUTS[name][1]}
        for name, shape in probe_shapes(described).items()
    ]
    outputs = {
        name: hashlib.sha256(np.asarray(array).astype("<i4").tobytes()).hexdigest()
        for name, array in runner(probe_inputs(described)).items()
    }
    return {"inputs": inputs, "outputs": outputs}

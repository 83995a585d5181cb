"""Known questions and answers of a graph, and holding an engine against them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError
from s2c_deploy.formats.manifest import KNOWN_ANSWERS, is_int8
from s2c_deploy.runtime.runner import PIXELS, Runner

#: Largest difference of a float graph's output, relative to the output's largest magnitude: float32 sums in another
#: order differ by some 1e-6 here, in bfloat16 by 1e-2, in float16 by 1e-3; a wrong weight by far more than float32's.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
#: Of a g_s of bytes: sums in another order move what lies between two steps to the other one, some 0.01 in the end.
INT8_TOLERANCE = 0.05
#: Largest distance of a pixel from its level: half, and what FP16 rounds off a value that an engine need not have
#: rounded twice (half a unit at 1.0 is 0.12 levels).  Cutting off instead of rounding makes up to 1.
ROUNDING = 0.75
#: Ends the name of a graph in known_answers.npz whose inputs span their whole proven range.
FULL_RANGE = "@range"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One call of one graph: float32 arrays by tensor name."""

    inputs: Mapping[str, FloatArray]
    outputs: Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a graph computed, against what it should have."""

    #: The worst relative difference.
    largest: float
    #: Values that differ at all.
    differing: int
    #: A sentence, or None.
    failure: str | None


def compare(name: str, runner: Runner, probe: Probe, *, exact: bool) -> Comparison:
    """Runs one graph on a probe.  An exact graph must return every value; a float one stay within the TOLERANCE of the
    runner's precision."""
    outputs = runner(probe.inputs)
    # Pixels are x_hat's, rounded: what is known is x_hat, and pixels are held against that.
    if set(probe.outputs) != set(outputs) - {PIXELS}:
        names = f"{name}: expected outputs {sorted(probe.outputs)}, found {sorted(outputs)}"
        return Comparison(largest=np.inf, differing=0, failure=f"{names}, of {runner.provider}")
    largest, differing = 0.0, 0
    for output, expected in probe.outputs.items():
        found = np.asarray(outputs[output])
        failure = None
        if found.shape != expected.shape:
            failure = f"{name}: {output}: expected shape {expected.shape}, found {found.shape}"
            return Comparison(largest=np.inf, differing=expected.size, failure=f"{failure}, of {runner.provider}")
        scale = max(float(np.abs(expected).max()), 1e-12)
        relative = np.abs(found - expected) / scale
        # Not-a-number compares false with everything, so the wrong values are those not found right.
        wrong = ~(found == expected) if exact else ~(relative <= _tolerance(name, runner))
        differing += int((found != expected).sum())
        largest = max(largest, float(relative.max()) if np.isfinite(relative).all() else np.inf)
        if wrong.any():
            failure = f"{name}: {_first(output, wrong, expected, found)}; {int(wrong.sum())} values are wrong"
            return Comparison(largest=largest, differing=differing, failure=f"{failure}, of {runner.provider}")
        if PIXELS in outputs and (failure := _wrong_pixels(outputs[PIXELS], found)):
            return Comparison(largest=np.inf, differing=differing, failure=f"{name}: {failure}, of {runner.provider}")
    return Comparison(largest=largest, differing=differing, failure=None)


def _tolerance(name: str, runner: Runner) -> float:
    """Of a float graph."""
    return max(TOLERANCE[runner.precision], INT8_TOLERANCE if is_int8(name) else 0)


def _wrong_pixels(pixels: npt.NDArray[Any], x_hat: FloatArray) -> str | None:
    """Pixels must be the same call's x_hat, rounded."""
    levels = np.clip(x_hat * np.float32(255), 0, 255).transpose(0, 2, 3, 1)
    if pixels.shape != levels.shape:
        return f"{PIXELS}: expected shape {levels.shape}, found {pixels.shape}"
    wrong = ~(np.abs(pixels - levels) <= ROUNDING)
    return f"{_first(PIXELS, wrong, levels, pixels)}; {int(wrong.sum())} values are wrong" if wrong.any() else None


def first_failure(name: str, runner: Runner, answers: Mapping[str, FloatArray], *, exact: bool) -> str | None:
    """What a runner gets wrong first of the answers of one graph in known_answers.npz, or None.  EngineError where
    there are none."""
    probes = known_probes(name, answers, exact=exact)
    if not all(probe.outputs for probe in probes):
        raise EngineError(f"{name}: expected known answers in {KNOWN_ANSWERS}, found none")
    if exact and not all((array == np.rint(array)).all() for probe in probes for array in probe.outputs.values()):
        raise EngineError(f"{name}: expected whole numbers in {KNOWN_ANSWERS}, found others")
    failures = (compare(name, runner, probe, exact=exact).failure for probe in probes)
    return next((failure for failure in failures if failure is not None), None)


def _first(output: str, wrong: npt.NDArray[np.bool_], expected: FloatArray, found: FloatArray) -> str:
    position = tuple(int(i[0]) for i in np.nonzero(wrong))
    return f"{output} at {position}: expected {expected[position]:g}, found {found[position]:g}"


def probe_arrays(probes: Mapping[str, Probe]) -> dict[str, FloatArray]:
    """Probes as the arrays of known_answers.npz: ``graph/in/name`` and ``graph/out/name``."""
    arrays: dict[str, FloatArray] = {}
    for graph, probe in probes.items():
        arrays.update({f"{graph}/in/{name}": array for name, array in probe.inputs.items()})
        arrays.update({f"{graph}/out/{name}": array for name, array in probe.outputs.items()})
    return arrays


def known_probes(graph: str, arrays: Mapping[str, FloatArray], *, exact: bool) -> list[Probe]:
    """The probes of a graph in known_answers.npz: of a picture, and over the full range of an exact graph's inputs.

    A picture's integers may be so small that reduced precision holds them; those of the full range are not.
    Where there are no known answers, a probe has no outputs.
    """
    names = [graph, graph + FULL_RANGE] if exact else [graph]
    return [probe_from_arrays(name, arrays) for name in names]


def probe_from_arrays(graph: str, arrays: Mapping[str, FloatArray]) -> Probe:
    """The inverse of ``probe_arrays`` for one graph."""

    def side(kind: str) -> dict[str, FloatArray]:
        prefix = f"{graph}/{kind}/"
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    return Probe(inputs=side("in"), outputs=side("out"))

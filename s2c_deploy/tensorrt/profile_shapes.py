"""Which shapes an engine's optimization profiles serve, and how larger batches are divided among calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from s2c_deploy.arrays import FloatArray
from s2c_deploy.errors import EngineError
from s2c_deploy.runtime.runner import TensorSpec

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ProfileShapes:
    """Of one profile: smallest, typical and largest shape of every input that has free dimensions."""

    bounds: Mapping[str, tuple[Shape, Shape, Shape]]

    def admits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether every input's shape lies within the bounds."""
        return all(
            len(shapes[name]) == len(low)
            and all(a <= size <= b for a, size, b in zip(low, shapes[name], high, strict=True))
            for name, (low, _, high) in self.bounds.items()
        )

    def is_typical(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether the profile was tuned for just these shapes."""
        return all(shapes[name] == typical for name, (_, typical, _) in self.bounds.items())

    @property
    def batch(self) -> int:
        """The largest batch."""
        return min((high[0] for _, _, high in self.bounds.values()), default=1)

    def __str__(self) -> str:
        texts = [f"{name} {low} to {high}" for name, (low, _, high) in self.bounds.items()]
        return ", ".join(texts) or "fixed shapes"


def choose_profile(profiles: Sequence[ProfileShapes], shapes: Mapping[str, Shape]) -> int:
    """The number of the profile to use: one tuned for these shapes, else the first that admits them.

    EngineError that names what the engine serves if none does.
    """
    fitting = [i for i, profile in enumerate(profiles) if profile.admits(shapes)]
    if not fitting:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise EngineError(
            f"the engine serves {' or '.join(map(str, profiles))}; found {found}",
            hint="build it for such pictures too: s2c-deploy build --profile, repeated",
        )
    return next((i for i in fitting if profiles[i].is_typical(shapes)), fitting[0])


def largest_batch(profiles: Sequence[ProfileShapes], shapes: Mapping[str, Shape]) -> int:
    """Of these shapes, whose own is not looked at, among the profiles; 1 where none admits them."""
    batches = (
        profile.batch
        for profile in profiles
        if profile.admits({name: (profile.batch, *shape[1:]) for name, shape in shapes.items()})
    )
    return max(batches, default=1)


def split_batch(
    inputs: Mapping[str, FloatArray], specs: Sequence[TensorSpec], limit: int
) -> Iterator[dict[str, FloatArray]]:
    """The inputs of one call in calls of at most ``limit`` pictures each; an input of fixed batch goes to all.

    EngineError where inputs have different batches.
    """
    free = [spec.name for spec in specs if spec.shape[0] is None]
    sizes = {inputs[name].shape[0] for name in free}
    if len(sizes) > 1:
        raise EngineError(f"inputs: expected one batch, found {sorted(sizes)}")
    total = sizes.pop() if sizes else 1
    for start in range(0, total, limit):
        yield {name: array[start : start + limit] if name in free else array for name, array in inputs.items()}

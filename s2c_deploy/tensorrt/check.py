"""Holding a built engine against known answers: the bundle's, and larger ones at the sizes that it will serve.

Kernels change with size: an engine that is right on a small picture may be wrong on a large one.  The bundle's answers
are of small pictures.  For the exact graphs any other engine can give larger ones, as theirs are equal everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from s2c_deploy.arrays import FloatArray
from s2c_deploy.contract import EXACT_INPUTS, LATENT_STRIDE
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.bundle import Bundle, exact_graphs
from s2c_deploy.host import Host
from s2c_deploy.runtime import Runner, choose_backend, open_runner
from s2c_deploy.runtime.probe import Probe, compare, first_failure, probe_arrays, probe_from_arrays
from s2c_deploy.runtime.profiles import Profile, Size, shapes_at
from s2c_deploy.tensorrt.identity import Identity
from s2c_deploy.tensorrt.trust import Trust

Answers = Mapping[str, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Check:
    """What an engine said when it was asked its known answers."""

    #: Pictures whose answers were asked for.
    sizes: tuple[str, ...]
    #: The first wrong value, or None.
    failure: str | None


def answered_sizes(answers: Answers) -> list[Size]:
    """Pictures, width x height, that the bundle's own answers are of."""
    latents = [array.shape for name, array in answers.items() if name.startswith("h_s") and "/out/" in name]
    return sorted({(w * LATENT_STRIDE, h * LATENT_STRIDE) for _, _, h, w in latents})


def with_answered(profiles: Sequence[Profile], answers: Answers) -> list[Profile]:
    """The profiles, and one more for the bundle's own answers where none of them serves their sizes: without it, an
    engine could not be tested when it is loaded."""
    sizes = answered_sizes(answers)
    if not sizes or all(any(profile.admits(size) for profile in profiles) for size in sizes):
        return list(profiles)
    low, high = ((pick(w for w, _ in sizes), pick(h for _, h in sizes)) for pick in (min, max))
    return [*profiles, Profile(min=low, opt=high, max=high)]


class Asked(NamedTuple):
    """So many pictures of a size in one call."""

    width: int
    height: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" + (f"@{self.batch}" if self.batch > 1 else "")


def asked_of(profiles: Sequence[Profile]) -> list[Asked]:
    """Every profile's smallest, typical and largest size, the typical one also in its largest batch."""
    sizes = [Asked(*size) for profile in profiles for size in (profile.min, profile.opt, profile.max)]
    batches = [Asked(*profile.opt, profile.batch) for profile in profiles]
    return list(dict.fromkeys([*sizes, *batches]))


def larger_probes(
    bundle: Bundle, graph: str, sizes: Sequence[Asked], *, answers: Answers, reference: Runner | None
) -> Iterator[tuple[str, Probe]]:
    """Questions over the whole ranges of an exact graph's inputs at picture sizes, with their answers.

    Out of ``answers`` where they hold one of the size (``answer_sizes``), else of the reference; a size that neither
    answers is left out.
    """
    for size in sizes:
        name = f"{graph}@{size}"
        known = probe_from_arrays(name, answers)
        if known.outputs:
            yield name, known
        elif reference is not None:
            inputs = _questions(bundle, graph, size)
            yield name, Probe(inputs=inputs, outputs=reference(inputs))


def _questions(bundle: Bundle, graph: str, size: Asked) -> dict[str, FloatArray]:
    """Random integers over the proven ranges, the same at every call."""
    rng = np.random.default_rng(size.width * 65536 + size.height)
    inputs = {}
    given = bundle.manifest["graphs"][graph]["inputs"]
    for name, shape in shapes_at(given, (size.width, size.height), size.batch).items():
        low, high = EXACT_INPUTS[name]
        inputs[name] = rng.integers(low, high, shape, endpoint=True).astype(np.float32)
    return inputs


def answer_sizes(bundle: Bundle, sizes: Sequence[Size]) -> dict[str, FloatArray]:
    """Larger answers of every exact graph from the fastest engine on the CPU, for machines that have none.

    Arrays as in known_answers.npz, named by picture size.  DependencyError where there is no such engine.
    """
    found: dict[str, Probe] = {}
    backend = choose_backend("auto")
    for graph in exact_graphs(bundle.config):
        with open_runner(bundle.read_graph(graph), backend=backend) as reference:
            wanted = [Asked(*size) for size in sizes]
            found.update(larger_probes(bundle, graph, wanted, answers={}, reference=reference))
    return probe_arrays(found)


def check_runner(bundle: Bundle, graph: str, runner: Runner, *, profiles: Sequence[Profile], answers: Answers) -> Check:
    """Asks an engine all answers there are: the bundle's own, and of an exact graph those at each profile's smallest,
    typical and largest size, out of ``answers`` or of an engine on the CPU where one is installed."""
    own = bundle.known_answers()
    exact = graph in exact_graphs(bundle.config)
    asked = [f"{w}x{h}" for w, h in answered_sizes(own)]
    failure = first_failure(graph, runner, own, exact=exact)
    if failure is not None or not exact:
        return Check(sizes=tuple(asked), failure=failure)
    reference = _reference(bundle, graph)
    try:
        for name, probe in larger_probes(bundle, graph, asked_of(profiles), answers=answers, reference=reference):
            asked.append(name.partition("@")[2])
            if failure := compare(name, runner, probe, exact=True).failure:
                return Check(sizes=tuple(asked), failure=failure)
    finally:
        if reference is not None:
            reference.close()
    return Check(sizes=tuple(dict.fromkeys(asked)), failure=None)


def _reference(bundle: Bundle, graph: str) -> Runner | None:
    try:
        return open_runner(bundle.read_graph(graph), backend=choose_backend("auto"))
    except DependencyError:
        return None


def can_check(identity: Identity, host: Host) -> str | None:
    """Why an engine that was just built cannot be asked anything on this machine, or None."""
    if host.compute_capability is None:
        return "no GPU here"
    if identity.compute_capability != host.compute_capability:
        return f"built for compute capability {identity.compute_capability}, this GPU has {host.compute_capability}"
    from s2c_deploy.tensorrt.cuda_memory import load_cuda

    try:
        load_cuda()
    except (DependencyError, EngineError) as error:
        return str(error)
    return None


def check_engine(
    bundle: Bundle, identity: Identity, *, profiles: Sequence[Profile], answers: Answers, trust: Trust
) -> Check:
    """Loads an engine as the codec would, and asks it all answers there are."""
    from s2c_deploy.tensorrt.runner import open_engine

    name, target, precision = identity.graph, identity.target, identity.precision
    with open_engine(bundle, name, target=target, precision=precision, trust=trust, sha256=identity.sha256) as runner:
        return check_runner(bundle, name, runner, profiles=profiles, answers=answers)

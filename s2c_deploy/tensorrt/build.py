"""All engines of a bundle: every graph, for every compute capability asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2c_deploy.errors import EngineError, InputError
from s2c_deploy.formats.bundle import Bundle, chosen_graphs, exact_graphs
from s2c_deploy.host import Host, this_host
from s2c_deploy.runtime.profiles import DEFAULT_PROFILE, Profile
from s2c_deploy.tensorrt.check import Answers, can_check, check_engine, with_answered
from s2c_deploy.tensorrt.compile import (
    TACTICS,
    BuildError,
    BuildOptions,
    Built,
    Graph,
    OnPhase,
    build_engine,
    check_options,
)
from s2c_deploy.tensorrt.identity import Identity
from s2c_deploy.tensorrt.library import Library
from s2c_deploy.tensorrt.store import EngineStore
from s2c_deploy.tensorrt.trust import Trust

#: Built for on a machine without a GPU: Ampere (RTX 30), Ada (RTX 40), Blackwell (RTX 50).
COMPUTE_CAPABILITIES = ("8.6", "8.9", "12.0")


@dataclass(frozen=True, kw_only=True)
class Step:
    """Where a run of builds is."""

    #: Of this engine, from 1.
    number: int
    #: How many engines there are to build.
    total: int
    graph: str
    compute_capability: str
    #: The library's; empty where it reports none.
    phase: str = ""
    #: Since this engine's start.
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Made:
    """One engine."""

    path: Path
    identity: Identity
    #: Of building; 0 where one that was there is still good.
    seconds: float
    #: The picture sizes at which it gave its known answers, or why it was not asked.
    checked: str = "not now"


def build_bundle(
    bundle: Bundle,
    library: Library,
    *,
    compute_capabilities: Sequence[str] = (),
    profiles: Sequence[Profile] = (DEFAULT_PROFILE,),
    graphs: Sequence[str] = (),
    precision: str = "float16",
    options: BuildOptions | None = None,
    force: bool = False,
    trust: Trust | None = None,
    answers: Answers | None = None,
    progress: Callable[[Step], None] = lambda step: None,
) -> Iterator[Made]:
    """Builds and stores engines one after another, yielding each.

    compute_capabilities: of libraries that can choose; by default this machine's, else COMPUTE_CAPABILITIES; graphs:
    by default all; precision: float16 for the FP16 versions of g_a, h_a and g_s, or float32; force: build again
    what is still good; answers: larger known answers (``checking.answer_sizes``), where no engine is installed that
    could give them here.

    An engine for the GPU at hand must give its known answers; an exact graph that does not is built again, with fewer
    and fewer kernels to choose from (``builder.TACTICS``).  InputError, BundleError (no FP16 graphs) or EngineError.
    """
    host, options = this_host(), options if options is not None else BuildOptions()
    chosen = _capabilities(library, host, compute_capabilities)
    names = chosen_graphs(bundle, graphs)
    if precision not in ("float32", "float16"):
        raise InputError(f"precision: expected float32, float16, found {precision!r}")
    own_answers = bundle.known_answers()
    profiles = with_answered(profiles, own_answers)
    store = EngineStore(bundle, versions={library.target: library.version}, trust=trust)
    store.trust.check_writable()
    jobs = [(name, capability) for capability in chosen for name in names]
    for number, (name, capability) in enumerate(jobs, 1):
        step = Step(number=number, total=len(jobs), graph=name, compute_capability=capability or "this GPU")
        progress(step)
        own = replace(options, compute_capability=capability)
        check_options(library, own)
        graph, identity = _described(bundle, library, host, name, precision, profiles, own)
        if not force and (made := _still_good(store, identity, library)) is not None:
            yield made
            continue

        def on_phase(phase: str, seconds: float, step: Step = step) -> None:
            progress(replace(step, phase=phase, seconds=seconds))

        task = _Task(
            store=store,
            library=library,
            host=host,
            graph=graph,
            identity=identity,
            profiles=profiles,
            answers=answers or {},
            on_phase=on_phase,
        )
        yield task.build(own, TACTICS if name in exact_graphs(bundle.config) else TACTICS[:1])


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One engine to build, store and ask its known answers."""

    store: EngineStore
    library: Library
    host: Host
    graph: Graph
    identity: Identity
    profiles: Sequence[Profile]
    answers: Answers
    on_phase: OnPhase

    def build(self, options: BuildOptions, allowed: Sequence[str]) -> Made:
        """The first engine that gives its answers, with one choice of tactics after another."""
        failures = []
        for tactics in allowed:
            made = self._stored(replace(options, tactics=tactics))
            if obstacle := can_check(made.identity, self.host):
                return replace(made, checked=f"no: {obstacle}")
            self.on_phase(f"known answers, tactics: {tactics}", made.seconds)
            failure = self._failure(made)
            if isinstance(failure, tuple):
                return replace(made, checked=", ".join(failure))
            failures.append(f"{tactics}: {failure}")
        library = self.library
        raise EngineError(
            f"{library.target} {library.version} builds no engine of {self.graph.name} that gives its known answers: "
            f"{'; '.join(failures)}",
            hint="decode on another backend here, and report this library's version and GPU",
        )

    def _stored(self, options: BuildOptions) -> Made:
        store, key = self.store, _timing_key(self.library, self.host)
        if self.library.timing_cache:
            options = replace(options, timing_cache=store.trust.timing_cache(key))
        try:
            built = build_engine(self.library, self.graph, options, on_phase=self.on_phase)
        except BuildError as error:
            log = store.keep_failure(self.identity, "\n".join(error.log) + "\n")
            raise EngineError(error.message, hint=f"{error.hint}; the log is {log}") from error
        if built.timing_cache:
            store.trust.keep_timing_cache(key, built.timing_cache)
        return _stored(store, self.identity, self.library, built)

    def _failure(self, made: Made) -> str | tuple[str, ...]:
        """What an engine got wrong, which is then gone; or the sizes at which it was right."""
        try:
            check = check_engine(
                self.store.bundle,
                made.identity,
                profiles=self.profiles,
                answers=self.answers,
                trust=self.store.trust,
            )
        except BaseException as error:
            self.store.remove(made.path)
            if isinstance(error, EngineError):
                return str(error)
            raise
        if check.failure is None:
            return check.sizes
        self.store.remove(made.path)
        return check.failure


def _capabilities(library: Library, host: Host, asked: Sequence[str]) -> list[str | None]:
    """What to build for; None where the library knows the GPU at hand only."""
    known = library.compute_capabilities
    if asked or not known:
        return list(asked) or [None]
    if host.compute_capability in known:
        return [host.compute_capability]
    return [capability for capability in COMPUTE_CAPABILITIES if capability in known]


def _described(
    bundle: Bundle,
    library: Library,
    host: Host,
    name: str,
    precision: str,
    profiles: Sequence[Profile],
    options: BuildOptions,
) -> tuple[Graph, Identity]:
    """What goes to the builder, and what will have come out; flags, hash and size are known afterwards."""
    source = bundle.read_graph(name, precision)
    typed: dict[str, Any] = bundle.manifest["float16"]["graphs"] if precision == "float16" else {}
    half = name in typed
    graph = Graph(
        name=name,
        data=source.data,
        profiles=[profile.shapes(bundle.manifest["graphs"][name]["inputs"]) for profile in profiles],
        half=half,
        float32_nodes=frozenset(typed[name]["float32_nodes"]) if half else (),
        # Of 64 scales each: a byte holds any.
        uint8_outputs=("indexes",),
    )
    identity = Identity(
        bundle=bundle.config.name,
        fingerprint=bundle.fingerprint.hex(),
        graph=name,
        graph_sha256=bundle.manifest["files"][source.name]["sha256"],
        target=library.target,
        library_version=library.version,
        compute_capability=options.compute_capability or host.compute_capability or "0.0",
        os=host.os,
        # An engine that is built for a chosen capability is for every GPU of it, whatever stands in this machine.
        gpu=None if library.compute_capabilities else host.gpu,
        driver=None if library.compute_capabilities else host.driver,
        precision="float16" if half else "float32",
        profiles=tuple(map(str, profiles)),
        flags=(),
        hardware_compatibility=options.hardware_compatibility,
        sha256="0" * 64,
        size=0,
    )
    return graph, identity


def _still_good(store: EngineStore, identity: Identity, library: Library) -> Made | None:
    """The engine that is already there, if it passes every check and is what would be built."""
    wanted = store.path(identity, library.tag)
    found = store.check(wanted)
    if found is None or found.problem is not None or found.identity is None:
        return None
    same = replace(found.identity, flags=(), sha256=identity.sha256, size=0, driver=identity.driver)
    return Made(path=wanted, identity=found.identity, seconds=0.0) if same == identity else None


def _stored(store: EngineStore, identity: Identity, library: Library, built: Built) -> Made:
    if identity.compute_capability == "0.0":
        raise EngineError(
            f"{library.target} built {identity.graph}, but the CUDA driver names no GPU that it is for",
            hint="is libcuda.so.1 the driver's own?",
        )
    identity = replace(identity, flags=built.flags)
    log = "\n".join((f"{identity.graph}: {built.seconds:.1f} s, flags {', '.join(built.flags)}", *built.log)) + "\n"
    path, identity = store.write(identity, built.engine, tag=library.tag, log=log)
    return Made(path=path, identity=identity, seconds=built.seconds)


def _timing_key(library: Library, host: Host) -> str:
    gpu = re.sub(r"[^A-Za-z0-9]+", "_", host.gpu or "none")
    return f"{library.tag}{library.version}-sm{(host.compute_capability or '0').replace('.', '')}-{gpu}"

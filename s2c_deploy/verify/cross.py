"""Does every engine here derive the same integers and symbols from a bundle?

Pictures are encoded with each engine and decoded with every other, under several settings; every table index, mean and
symbol on the decoder's way is compared with the encoder's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from s2c_deploy.arrays import FloatArray, Indexes, Pixels, Symbols
from s2c_deploy.codec.latent import CodePass, LatentCoder
from s2c_deploy.codec.networks import has_int8, open_graph
from s2c_deploy.codec.transforms import to_network
from s2c_deploy.entropy.coder import Decoder, Encoder, Tables
from s2c_deploy.errors import BitstreamError, EngineError
from s2c_deploy.formats.bundle import Bundle, exact_graphs
from s2c_deploy.progress import Progress, Steps, silent
from s2c_deploy.runtime import GPU_BACKENDS, Runner
from s2c_deploy.runtime.probe import first_failure

Graphs = Mapping[str, Runner]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run an engine."""

    backend: str
    threads: int = 1
    #: Memory layout, of PyTorch only.
    channels_last: bool = False
    #: Whether PyTorch uses oneDNN.
    onednn: bool = True
    #: Whether exact graphs run on INT8 kernels, of OpenVINO only.
    int8: bool = False

    def __str__(self) -> str:
        extras = ["channels-last"] * self.channels_last + ["no oneDNN"] * (not self.onednn) + ["INT8"] * self.int8
        return ", ".join([self.backend, f"{self.threads} thread{'s' * (self.threads > 1)}", *extras])


def settings_for(bundle: Bundle, backends: Sequence[str]) -> list[Setting]:
    """Every engine with one and on a CPU with two threads; PyTorch also channels-last and without oneDNN, OpenVINO on
    INT8 kernels where they serve this bundle."""
    settings = [
        Setting(backend=backend, threads=threads)
        for backend in backends
        for threads in ((1,) if backend in GPU_BACKENDS else (1, 2))
    ]
    settings += [Setting(backend=backend, int8=True) for backend in backends if has_int8(bundle, backend)]
    if "torch" in backends:
        settings += [Setting(backend="torch", channels_last=True), Setting(backend="torch", onednn=False)]
    return settings


@dataclass(kw_only=True)
class Agreement:
    """What decoding one engine's streams with a setting gave, summed over streams."""

    encoder: str
    decoder: str
    streams: int = 0
    #: Indexes and means that the decoder derived when it was shown the right symbols.
    outputs: int = 0
    #: How many of these differ from the encoder's.
    differing_outputs: int = 0
    #: Symbols that really decoding the streams got wrong.
    differing_symbols: int = 0
    #: Streams with such symbols.
    failed: int = 0

    @property
    def agrees(self) -> bool:
        return self.streams > 0 and not (self.differing_outputs or self.differing_symbols or self.failed)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """A coded picture and what happened on the way."""

    payload: bytes
    quality: float
    z_symbols: Symbols
    #: Of every pass, as are indexes and means.
    symbols: list[Symbols] = field(default_factory=list)
    indexes: list[Indexes] = field(default_factory=list)
    means: list[FloatArray] = field(default_factory=list)


@contextmanager
def opened(bundle: Bundle, setting: Setting, names: Sequence[str]) -> Iterator[Graphs]:
    """Runners of some graphs of a bundle under a setting."""
    graphs: dict[str, Runner] = {}
    with _torch_flags(setting):
        try:
            for name in names:
                graphs[name] = open_graph(
                    bundle,
                    name,
                    backend=setting.backend,
                    threads=setting.threads,
                    channels_last=setting.channels_last,
                    int8=setting.int8,
                )
            yield graphs
        finally:
            for runner in graphs.values():
                runner.close()


@contextmanager
def _torch_flags(setting: Setting) -> Iterator[None]:
    if setting.backend != "torch":
        yield
        return
    import torch

    with warnings.catch_warnings():
        # Reading the flags makes PyTorch speak of GPUs that are not here.
        warnings.simplefilter("ignore", UserWarning)
        with torch.backends.mkldnn.flags(enabled=setting.onednn):
            yield


def check_known_answers(bundle: Bundle, graphs: Graphs) -> None:
    """EngineError with the first value that an exact graph gets wrong of the bundle's known answers."""
    answers = bundle.known_answers()
    for name in exact_graphs(bundle.config):
        if failure := first_failure(name, graphs[name], answers, exact=True):
            raise EngineError(f"known-answer test: {failure}", hint="do not decode with this engine")


def encode(bundle: Bundle, graphs: Graphs, image: Pixels, quality: float) -> Coded:
    """Codes a picture with all graphs but g_s, and records the way."""
    gain, hyper_gain, _, _ = bundle.gains.at(quality)
    y = graphs["g_a"]({"x": to_network(image), "gain": gain})["y"]
    z = graphs["h_a"]({"y": y, "hyper_gain": hyper_gain})["z"]
    latents = LatentCoder(bundle, graphs)
    with Tables(bundle.tables) as tables:
        encoder = Encoder(tables)
        z_symbols = latents.push_hyper(z, quality, [encoder])
        coded = Coded(payload=b"", quality=quality, z_symbols=z_symbols)
        latents.walk(z_symbols, _recording(latents.encoding(y, [encoder]), coded))
        payload = encoder.finish()
    return Coded(**{**vars(coded), "payload": payload})


def _recording(code: CodePass, coded: Coded) -> CodePass:
    def recording(start: int, stop: int, parity: int, indexes: Indexes, means: FloatArray) -> Symbols:
        symbols = code(start, stop, parity, indexes, means)
        coded.symbols.append(symbols)
        coded.indexes.append(indexes)
        coded.means.append(means)
        return symbols

    return recording


def decode(bundle: Bundle, graphs: Graphs, coded: Coded, result: Agreement) -> None:
    """Decodes a picture, adds what differed from its encoding to ``result``."""
    latents = LatentCoder(bundle, graphs)
    right = iter(zip(coded.symbols, coded.indexes, coded.means, strict=True))

    def shown(start: int, stop: int, parity: int, indexes: Indexes, means: FloatArray) -> Symbols:
        symbols, expected_indexes, expected_means = next(right)
        result.outputs += indexes.size + means.size
        result.differing_outputs += int((indexes != expected_indexes).sum() + (means != expected_means).sum())
        return symbols

    result.streams += 1
    latents.walk(coded.z_symbols, shown)
    wrong = _really_decode(bundle, latents, coded)
    result.failed += wrong != 0
    result.differing_symbols += wrong


def _really_decode(bundle: Bundle, latents: LatentCoder, coded: Coded) -> int:
    """Symbols that come out of the payload wrong; all of them where decoding stops with an error."""
    expected = [coded.z_symbols, *coded.symbols]
    found: list[Symbols] = []
    rows, columns = coded.z_symbols.shape[2:]

    def code(start: int, stop: int, parity: int, indexes: Indexes, means: FloatArray) -> Symbols:
        found.append(decoder.read(indexes))
        return found[-1]

    with Tables(bundle.tables) as tables:
        try:
            decoder = Decoder(tables, coded.payload)
            found.append(latents.read_hyper([decoder], rows, columns, coded.quality))
            latents.walk(found[0], code)
            decoder.finish()
        except BitstreamError:
            return sum(batch.size for batch in expected)
    return sum(int((a != b).sum()) for a, b in zip(expected, found, strict=True))


def cross_decode(
    bundle: Bundle,
    pictures: Sequence[Pixels],
    qualities: Sequence[float],
    backends: Sequence[str],
    *,
    known_answers: bool = True,
    progress: Progress = silent,
) -> list[Agreement]:
    """Every picture at every quality, encoded with each backend, decoded under every setting of each backend.

    known_answers: hold every setting against the bundle's first (EngineError where it fails).
    progress: counts codings.
    """
    exact = exact_graphs(bundle.config)
    settings = settings_for(bundle, backends)
    jobs = [(x, q) for x in pictures for q in qualities]
    steps = Steps(progress, total=len(jobs) * len(backends) * (1 + len(settings)))
    streams: dict[str, list[Coded]] = {backend: [] for backend in backends}
    for backend in backends:
        with opened(bundle, Setting(backend=backend), ["g_a", "h_a", *exact]) as graphs:
            for image, quality in jobs:
                steps(f"encoding with {backend}")
                streams[backend].append(encode(bundle, graphs, image, quality))
    results = []
    for setting in settings:
        with opened(bundle, setting, exact) as graphs:
            if known_answers:
                check_known_answers(bundle, graphs)
            for encoder, coded in streams.items():
                results.append(Agreement(encoder=encoder, decoder=str(setting)))
                for stream in coded:
                    steps(f"decoding with {setting}")
                    decode(bundle, graphs, stream, results[-1])
    return results

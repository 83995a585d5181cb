"""What can be measured: the engines, and the baselines that they are held against."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from s2c_deploy.bench.row import Pipeline, Row, TorchWay
from s2c_deploy.bench.stages import StageClock, TimedCodec, TimedNetworks
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bundle import open_bundle
from s2c_deploy.host import multiplies_bfloat16, multiplies_bytes
from s2c_deploy.presets import FULL, SYNTHESES
from s2c_deploy.runtime import BACKENDS, ENGINE_BACKENDS, GPU_BACKENDS, backend_status
from s2c_deploy.runtime.providers import PROVIDERS

_NO_VNNI = "the processor has no instructions for products of bytes (VNNI)"


def open_engine(
    bundle: Path, weights: Path | None, threads: int, *, backend: str, precision: str = "auto", synthesis: str = FULL
) -> TimedCodec:
    """The codec on one of the runtime's backends, every graph open."""
    opened = open_bundle(bundle)
    networks = TimedNetworks(opened, backend, StageClock(), threads=threads, precision=precision, synthesis=synthesis)
    return TimedCodec(opened, networks)


def open_torch(bundle: Path, weights: Path | None, threads: int, *, way: TorchWay) -> Pipeline:
    """PyTorch's own modules; the import stays in the process that needs it."""
    from s2c_deploy.bench.torch_rows import open_module_codec

    return open_module_codec(bundle, weights, threads, way)


def open_reference(bundle: Path, weights: Path | None, threads: int) -> Pipeline:
    from s2c_deploy.bench import reference_pipeline

    return reference_pipeline.open_reference(bundle, weights, threads)


def known_rows() -> dict[str, Row]:
    """Every row by name, with what keeps it from running here."""
    rows = [*_engines(), *_pytorch(), _reference()]
    return {row.name: row for row in rows}


def _engines() -> list[Row]:
    rows = []
    for backend in BACKENDS:
        status = backend_status(backend)
        rows.append(
            Row(
                name=backend,
                kind="pytorch" if backend == "torch" else "engine",
                description=f"the bundle's graphs on {backend} {status.version or ''}".rstrip(),
                open=partial(open_engine, backend=backend),
                wants=PROVIDERS.get(backend, (backend,))[0],
                # What ``build`` makes of g_s; engines built in float32 are reported as what they are.
                precision="float16" if backend in ENGINE_BACKENDS else "float32",
                gpu=backend in GPU_BACKENDS,
                obstacle=None if status.usable else status.advice,
            )
        )
    openvino = next(row for row in rows if row.name == "openvino")
    return rows + [
        Row(
            name="-".join(["openvino", *[synthesis] * (synthesis != FULL), *["bf16"] * (precision == "bfloat16")]),
            kind="engine",
            description=f"as openvino, with the {synthesis} g_s in {precision}",
            open=partial(open_engine, backend="openvino", synthesis=synthesis, precision=precision),
            wants="openvino",
            precision=precision,
            synthesis=synthesis,
            obstacle=openvino.obstacle or (None if multiplies_bytes() or "int8" not in synthesis else _NO_VNNI),
            reluctance=_no_bfloat16() if precision == "bfloat16" else None,
        )
        for synthesis in (FULL, *SYNTHESES)
        for precision in ("float32", "bfloat16")
        if (synthesis, precision) != (FULL, "float32")
    ]


def _pytorch() -> list[Row]:
    def row(name: str, description: str, way: TorchWay, reluctance: str | None = None) -> Row:
        return Row(
            name=name,
            kind="pytorch",
            description=description,
            open=partial(open_torch, way=way),
            wants="torch",
            precision=way.precision,
            obstacle=_missing("torch", "onnx", "safetensors") or (compiler if way.compiled else None),
            reluctance=reluctance,
        )

    compiler = None if any(map(shutil.which, ("c++", "g++", "clang++"))) else "torch.compile needs a C++ compiler"
    return [
        row("torch-eager", "g_s as the model's module, eager float32", TorchWay()),
        row("torch-channels-last", "as torch-eager, channels-last memory", TorchWay(channels_last=True)),
        row(
            "torch-bf16",
            "as torch-channels-last, g_s by autocast in bfloat16",
            TorchWay(channels_last=True, precision="bfloat16"),
            _no_bfloat16(),
        ),
        row(
            "torch-compile",
            "as torch-eager, g_s by torch.compile, one program for all sizes",
            TorchWay(compiled=True),
            "compiling takes longer than all other rows together; name the row in --backends to measure it",
        ),
    ]


def _reference() -> Row:
    return Row(
        name="reference",
        kind="reference",
        description="the same weights in eager PyTorch, float entropy networks, CompressAI's coder with Python lists",
        open=open_reference,
        wants="compressai",
        own_streams=True,
        obstacle=_missing("torch", "onnx", "safetensors") or _missing("compressai"),
    )


def _missing(*packages: str) -> str | None:
    extra = "bench" if "compressai" in packages else "export"
    gone = [package for package in packages if find_spec(package) is None]
    return f"{', '.join(gone)} is not installed: pip install 's2c-deploy[{extra}]'" if gone else None


def _no_bfloat16() -> str | None:
    """Why bfloat16 would flatter nobody here."""
    if multiplies_bfloat16():
        return None
    return "this processor does not multiply bfloat16; name the row in --backends to measure it all the same"


def choose_rows(names: Sequence[str], syntheses: Collection[str]) -> tuple[list[Row], dict[str, str]]:
    """The rows to measure, and those left out with their reasons.

    syntheses: names of the bundle's versions of g_s.  ``auto``: all that can run here.  InputError for an unknown name;
    a named row that cannot run is left out with its reason, one that is only slow is run.
    """
    rows = known_rows()
    if unknown := [name for name in names if name not in rows and name != "auto"]:
        raise InputError(
            f"--backends: expected auto, {', '.join(rows)}, found {', '.join(map(repr, unknown))}",
        )
    automatic = "auto" in names
    wanted = [row for name, row in rows.items() if automatic or name in names]
    left = {}
    for row in wanted:
        lacking = None if row.synthesis in syntheses else f"the bundle has no g_s called {row.synthesis}"
        reason = row.obstacle or lacking or (row.reluctance if row.name not in names else None)
        if reason is not None:
            left[row.name] = reason
    return [row for row in wanted if row.name not in left], left

"""The steps of benchmarks.gpu_day, one a process.  They need numpy, the engine's packages, and nothing else.

Steps of different Pythons meet in WORK: the bundle with its engines, pictures as .npy, streams, and coded pictures with
every symbol, index and mean on the way (.npz).  Whatever a step finds is in its record at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import gpu_day_measure
from benchmarks.gpu_day_exchange import Context, Record, checked_backend, load_coded, own_arrays, save_coded
from s2c_deploy.bundle import copy_files, exact_graphs, graph_names, open_bundle
from s2c_deploy.codec import Codec, Pixels
from s2c_deploy.engine.host import this_host
from s2c_deploy.errors import EngineError, S2CError
from s2c_deploy.manifest import read_manifest
from s2c_deploy.networks import Networks
from s2c_deploy.runtime import choose_backend
from s2c_deploy.runtime.backends import installed_version
from s2c_deploy.verify import Agreement, Setting, decode, encode, opened

ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "tensorrt", "tensorrt-rtx",
             "cuda-bindings")
_GPU_QUERY = "name,driver_version,clocks.sm,clocks.max.sm,memory.total,power.limit"


def environment(context: Context, record: Record) -> None:
    """GPU, driver and versions as this Python sees them."""
    host = this_host()
    record.set(
        python=".".join(map(str, sys.version_info[:3])),
        gpu=host.gpu,
        compute_capability=host.compute_capability,
        driver_cuda=host.driver,
        versions={name: found for name in _PACKAGES if (found := installed_version(name)) is not None},
        nvidia_smi=_said(["nvidia-smi", f"--query-gpu={_GPU_QUERY}", "--format=csv,noheader"]),
        commit=_said(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
        load=list(os.getloadavg()),
    )
    needs_gpu = context.part in ("tensorrt", "onnxruntime") and not context.dry_run
    if needs_gpu and host.compute_capability is None:
        record.fail("the CUDA driver shows no GPU")


def _said(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def native(context: Context, record: Record) -> None:
    """The C library: the one that is there, else compiled with cc, for any x86-64, as its CMake file does."""
    from s2c_deploy.entropy import native as module

    try:
        module.library()
        record.set(compiled=False)
        return
    except EngineError:
        pass
    source, target = ROOT / "native", Path(module.__file__).with_name(module.LIBRARY_NAME)
    compiler = os.environ.get("CC", "cc")
    flags = ["-std=c11", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-DS2C_BUILDING", "-pthread"]
    includes = [f"-I{source / name}" for name in ("include", "src")]
    files = sorted(map(str, (source / "src").glob("*.c")))
    temporary = target.with_suffix(".part")
    done = subprocess.run([compiler, *flags, *includes, *files, "-o", str(temporary)], capture_output=True, text=True)
    if done.returncode:
        record.fail(f"{compiler}: {done.stderr.strip()[-500:]}")
        return
    os.replace(temporary, target)
    module.library.cache_clear()
    module.library()
    record.set(compiled=True, library=str(target))


def prepare(context: Context, record: Record) -> None:
    """On a CPU: the bundle's copy, pictures, larger known answers, and every picture coded."""
    from s2c_deploy.engine.checking import answer_sizes
    from s2c_deploy.engine.profiles import Profile

    backend = choose_backend("auto")
    _copy_bundle(context)
    bundle = open_bundle(context.own_bundle)
    record.set(backend_used=backend, fingerprint=bundle.fingerprint.hex(), bundle=bundle.config.name)
    typical = Profile.parse(context.profile).opt
    answers = answer_sizes(bundle, [typical])
    np.savez_compressed(context.work / "answers.npz", **answers)  # type: ignore[arg-type]
    record.set(answers=f"{typical[0]}x{typical[1]}")
    (context.work / "pictures").mkdir(exist_ok=True)
    for name, pixels in _pictures(context):
        np.save(context.work / "pictures" / f"{name}.npy", pixels)
    names = [*exact_graphs(bundle.config), "g_a", "h_a"]
    with Codec.open(context.own_bundle, backend) as codec:
        for name, quality in context.codings():
            pixels = context.picture(name)
            stream = context.file("streams", name, quality, "s2c")
            stream.parent.mkdir(exist_ok=True)
            stream.write_bytes(codec.compress(pixels, quality))
            np.save(stream.with_suffix(".npy"), codec.reconstruct(pixels, quality))
    with opened(bundle, Setting(backend=backend, threads=0), names) as graphs:
        for name, quality in context.codings():
            coded = encode(bundle, graphs, context.picture(name), quality)
            save_coded(context.file("coded-cpu", name, quality, "npz"), coded)
            record.add("coded", {"picture": name, "quality": quality, "bytes": len(coded.payload)})


def _copy_bundle(context: Context) -> None:
    """The bundle's own files: engines go into the copy, and those of others stay where they are."""
    shutil.rmtree(context.own_bundle, ignore_errors=True)
    copy_files(context.bundle, read_manifest(context.bundle), context.own_bundle)


def _pictures(context: Context) -> Iterator[tuple[str, Pixels]]:
    arrays = sorted(context.images.glob("*.npy"))[: context.pictures]
    for path in arrays:
        yield path.stem, np.load(path)[: context.side, : context.side]
    if not arrays:
        from s2c_deploy.image import read_image
        from s2c_deploy.listing import list_images

        for path in list_images(context.images)[: context.pictures]:
            yield path.stem, np.ascontiguousarray(read_image(path).pixels[: context.side, : context.side])


def build(context: Context, record: Record) -> None:
    """Engines of every graph, each asked its known answers; a dry run builds one for a GPU that is not there."""
    from s2c_deploy.engine.building import build_bundle
    from s2c_deploy.engine.library import installed_targets, load_library
    from s2c_deploy.engine.profiles import Profile

    bundle = open_bundle(context.own_bundle)
    if context.dry_run and "tensorrt-rtx" not in installed_targets():
        record.set(status="skipped", reason="a rehearsal, and tensorrt-rtx, which builds without a GPU, is not here")
        return
    options: dict[str, Any] = {"profiles": [Profile.parse(context.profile)]}
    if context.dry_run:
        options |= {"compute_capabilities": ["8.6"], "graphs": ["h_a"]}
    else:
        options["answers"] = own_arrays(context.work / "answers.npz")
    library = load_library("tensorrt-rtx" if context.dry_run else context.target)
    record.set(library=f"{library.target} {library.version}")
    # Graph by graph: one that cannot be built does not keep the others from being built.
    for graph in options.pop("graphs", graph_names(bundle.config)):
        try:
            for made in build_bundle(bundle, library, graphs=[graph], **options):
                identity = made.identity
                record.add(
                    "engines",
                    {
                        "graph": graph,
                        "seconds": round(made.seconds, 2),
                        "checked": made.checked,
                        "bytes": identity.size,
                        "precision": identity.precision,
                        "flags": list(identity.flags),
                        "compute_capability": identity.compute_capability,
                    },
                )
        except S2CError as error:
            record.fail(f"{graph}: {error}")


def known_answers(context: Context, record: Record) -> None:
    """Every graph opened as the codec opens it: the known-answer test is part of that."""
    bundle = open_bundle(context.own_bundle)
    networks = Networks(bundle, checked_backend(context))
    for graph in graph_names(bundle.config):
        started = time.perf_counter()
        try:
            runner = networks[graph]
            found = {"provider": runner.provider, "precision": runner.precision}
        except S2CError as error:
            record.fail(f"{graph}: {error}")
            continue
        record.add("graphs", {"graph": graph, **found, "open_seconds": round(time.perf_counter() - started, 3)})
    networks.close()


def encode_all(context: Context, record: Record) -> None:
    """Codes every picture, for the CPU to decode."""
    bundle = open_bundle(context.own_bundle)
    names = [*exact_graphs(bundle.config), "g_a", "h_a"]
    with opened(bundle, Setting(backend=checked_backend(context)), names) as graphs:
        for name, quality in context.codings():
            coded = encode(bundle, graphs, context.picture(name), quality)
            save_coded(context.file("coded-gpu", name, quality, "npz"), coded)
            record.add("coded", {"picture": name, "quality": quality, "bytes": len(coded.payload)})
    _say_provider(record, graphs)


def decode_others(context: Context, record: Record) -> None:
    """Decodes what the other side coded: not one index, mean or symbol may differ."""
    bundle = open_bundle(context.own_bundle)
    backend, encoder = checked_backend(context), "coded-gpu" if context.part == "cpu" else "coded-cpu"
    with opened(bundle, Setting(backend=backend), exact_graphs(bundle.config)) as graphs:
        _say_provider(record, graphs)
        for name, quality in context.codings():
            result = Agreement(encoder=encoder, decoder=backend)
            decode(bundle, graphs, load_coded(context.file(encoder, name, quality, "npz")), result)
            record.add("decoded", {"picture": name, "quality": quality, **vars(result)})
            if not result.agrees:
                wrong = f"{result.differing_outputs} outputs and {result.differing_symbols} symbols differ"
                record.fail(f"{name} at quality {quality:g}, {encoder} on {backend}: {wrong}")


def _say_provider(record: Record, graphs: Any) -> None:
    record.set(providers=sorted({runner.provider for runner in graphs.values()}))


STEPS: dict[str, Callable[[Context, Record], None]] = {
    "environment": environment,
    "native": native,
    "prepare": prepare,
    "build": build,
    "known_answers": known_answers,
    "decode_others": decode_others,
    "encode": encode_all,
    "parity": gpu_day_measure.parity,
    "bench": gpu_day_measure.bench,
    "device": gpu_day_measure.device,
    "eager": gpu_day_measure.eager,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="One step of benchmarks.gpu_day.")
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    for name in ("backend", "part", "target", "profile"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("work", "bundle", "weights", "images"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name, kind in (("pictures", int), ("side", int), ("seconds", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--qualities", type=lambda text: tuple(map(float, text.split(","))), required=True)
    given = vars(parser.parse_args())
    step, record = STEPS[given.pop("step")], Record(given.pop("record"))
    try:
        step(Context(**given), record)
    except (S2CError, ImportError) as error:
        record.fail(f"{type(error).__name__}: {error}")
    raise SystemExit(1 if record.failed else 0)


if __name__ == "__main__":
    main()

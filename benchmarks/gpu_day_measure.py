"""The measuring steps of benchmarks.gpu_day: parity of pictures, latency of decoding, PyTorch as a baseline."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_day_exchange import Context, Record, checked_backend
from s2c_deploy.bench.parity import EQUAL_DB, LIMITS, judge
from s2c_deploy.bench.stages import StageClock, StagedCodec, TimedNetworks
from s2c_deploy.bench.statistics import summarize
from s2c_deploy.bundle import graph_names, open_bundle
from s2c_deploy.codec import Codec
from s2c_deploy.engine.profiles import shapes_at
from s2c_deploy.errors import S2CError
from s2c_deploy.metrics import psnr
from s2c_deploy.networks import Networks
from s2c_deploy.presets import ALIGNMENT
from s2c_deploy.runtime.runner import CallTimes, FloatArray, Runner


def parity(context: Context, record: Record) -> None:
    """The CPU's streams decoded to pictures: what the engine's g_s changes, against float32 on the CPU."""
    bundle = open_bundle(context.own_bundle)
    networks = Networks(bundle, checked_backend(context))
    with Codec(bundle, networks) as codec:
        g_s = networks["g_s"]
        limits = LIMITS[g_s.precision]
        record.set(precision=g_s.precision, limits=vars(limits), provider=g_s.provider)
        for name, quality in context.codings():
            stream = context.file("streams", name, quality, "s2c")
            none = np.zeros(0, np.int16)  # symbols are compared by decode_others
            found = judge(
                f"{name} at quality {quality:g}",
                limits,
                expected=none,
                symbols=none,
                original=context.picture(name),
                reconstruction=np.load(stream.with_suffix(".npy")),
                pixels=codec.decompress(stream.read_bytes()),
            )
            record.add("pictures", {k: v for k, v in vars(found).items() if "symbols" not in k})
            if found.failure is not None:
                record.fail(found.failure)


def bench(context: Context, record: Record) -> None:
    """File bytes to pixels, one stream at a time; a picture that comes out otherwise than expected has no time."""
    bundle = open_bundle(context.own_bundle)
    networks = TimedNetworks(bundle, checked_backend(context), StageClock(), threads=0, synthesis="auto")
    codec = StagedCodec(bundle, networks)
    with codec:
        codec.load(encoder=False)
        runners = codec.runners()
        precision = runners["g_s"].precision
        record.set(providers=sorted({r.provider for r in runners.values()}), precision=precision)
        for name, quality in context.codings():
            stream = context.file("streams", name, quality, "s2c")
            expected = np.load(stream.with_suffix(".npy"))
            agreement = min(psnr(expected, codec.decode(stream.read_bytes())), EQUAL_DB)
            if agreement < LIMITS[precision].agreement:
                record.fail(f"{name} at quality {quality:g}: {agreement:.1f} dB from the expected picture: not timed")
                continue
            seconds, stages = _timed(context, codec, stream)
            summary = summarize(seconds, [5 * i // len(seconds) for i in range(len(seconds))])
            times = {key: 1e3 * getattr(summary, key) for key in ("p50", "p90", "p99")}
            record.add(
                "rows",
                {
                    "picture": name,
                    "size": f"{expected.shape[1]}x{expected.shape[0]}",
                    "quality": quality,
                    "ms": times,
                    "n": summary.n,
                    "spread": summary.spread,
                    "unstable": summary.unstable,
                    "agreement_db": agreement,
                    "stages_ms": stages,
                    "samples_ms": [round(1e3 * s, 4) for s in seconds],
                },
            )


def device(context: Context, record: Record) -> None:
    """Every graph alone, on the device's own clock, at the first picture's shapes; known answers come first."""
    from s2c_deploy.runtime.tensorrt_runner import TensorRTRunner

    bundle = open_bundle(context.own_bundle)
    networks = Networks(bundle, checked_backend(context))
    name = next(name for name, _ in context.codings())
    height, width = (side + -side % ALIGNMENT for side in context.picture(name).shape[:2])
    for graph in graph_names(bundle.config):
        runner = networks[graph]
        shapes = shapes_at(bundle.manifest["graphs"][graph]["inputs"], (width, height))
        inputs = {key: np.ones(shape, np.float32) for key, shape in shapes.items()}
        if isinstance(runner, TensorRTRunner):
            calls = _device_calls(runner, inputs)
            times = [1e3 * call.device for call in calls]
            enqueue = 1e3 * float(np.median([call.enqueue for call in calls]))
            found: dict[str, Any] = {"clock": "device", "recorded": runner.recorded, "enqueue_ms_p50": enqueue}
        else:
            times, found = _wall_times(runner, inputs), {"clock": "wall: this backend has no device events"}
        p50, p90 = np.percentile(times, [50, 90])
        found |= {"graph": graph, "size": f"{width}x{height}", "precision": runner.precision}
        record.add("graphs", {**found, "ms_p50": float(p50), "ms_p90": float(p90), "n": len(times)})
    networks.close()


def _device_calls(runner: Runner, inputs: dict[str, FloatArray]) -> list[CallTimes]:
    """Calls with their copies; the first two do not count, so that recorded calls are timed as such."""
    runner.watch()
    for _ in range(52):
        runner(inputs)
    return runner.take_times()[2:]


def _wall_times(runner: Runner, inputs: dict[str, FloatArray]) -> list[float]:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        runner(inputs)
        times.append(1e3 * (time.perf_counter() - started))
    return times[1:]


def _timed(context: Context, codec: Any, stream: Path) -> tuple[list[float], dict[str, float]]:
    """Seconds of each call, and the stages' medians in ms; recordings are made in calls that do not count."""
    for _ in range(3):
        codec.decode(stream.read_bytes())
    seconds: list[float] = []
    stages: list[dict[str, float]] = []
    began = time.perf_counter()
    while len(seconds) < 5 or time.perf_counter() - began < context.seconds:
        codec.clock.take()
        started = time.perf_counter()
        codec.decode(stream.read_bytes())
        seconds.append(time.perf_counter() - started)
        stages.append(codec.clock.take())
    return seconds, {key: 1e3 * float(np.median([s.get(key, 0.0) for s in stages])) for key in stages[0]}


def eager(context: Context, record: Record) -> None:
    """g_s alone in PyTorch, as a baseline: float32 and FP16, channels-last, eager; compiled, too, on a GPU."""
    import torch

    from s2c_deploy.models import S2CModel

    bundle = open_bundle(context.own_bundle)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    record.set(torch=torch.__version__, device=torch.cuda.get_device_name() if device == "cuda" else "cpu")
    if device == "cpu" and not context.dry_run:
        record.fail("PyTorch sees no GPU")
        return
    model: Any = S2CModel(bundle.config).eval()
    record.set(weights="as trained" if _take_weights(model, context.weights) else "untrained: times only")
    width, height = map(int, context.profile.split(",")[1 if "," in context.profile else 0].split("x"))
    y_hat = torch.randn(1, bundle.config.latent_channels, height // 16, width // 16)
    for name, kind in (("float32", torch.float32), ("float16", torch.float16)):
        if device == "cpu" and kind is torch.float16:
            continue  # emulated there
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        g_s = model.g_s.to(device, kind).to(memory_format=torch.channels_last)
        x = y_hat.to(device, kind).contiguous(memory_format=torch.channels_last)
        row = {"precision": name, "size": f"{width}x{height}"}
        record.add("rows", {**row, "compiled": False, **_eager_times(context, g_s, x, device)})
        if device == "cuda":
            try:
                record.add("rows", {**row, "compiled": True, **_eager_times(context, torch.compile(g_s), x, device)})
            except Exception as error:  # of the compiler's own kinds: a host may have no Triton, or no C compiler
                record.add("rows", {**row, "compiled": True, "error": str(error)[-500:]})


def _take_weights(model: Any, folder: Path) -> bool:
    try:
        from s2c_deploy.export.checkpoint import load_checkpoint

        model.load_state_dict(load_checkpoint(folder).model.state_dict())
    except (ImportError, RuntimeError, S2CError):
        return False
    return True


def _eager_times(context: Context, g_s: Any, x: Any, device: str) -> dict[str, Any]:
    import torch

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    times: list[float] = []
    with torch.inference_mode():
        for _ in range(3):
            g_s(x)
        finish()
        began = time.perf_counter()
        while len(times) < 5 or time.perf_counter() - began < context.seconds:
            started = time.perf_counter()
            g_s(x)
            finish()
            times.append(time.perf_counter() - started)
    p50, p90, p99 = (1e3 * float(v) for v in np.percentile(times, [50, 90, 99]))
    return {"ms": {"p50": p50, "p90": p90, "p99": p99}, "n": len(times)}

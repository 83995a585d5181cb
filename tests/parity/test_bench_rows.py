"""The benchmark on real engines: sound rows are timed, wrong ones lose their times and say why."""

from __future__ import annotations

import dataclasses
import os
import signal
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.bench import Benchmark, Request, Source, run_benchmark, stages
from s2c_deploy.bench.result import RowResult
from s2c_deploy.bench.row import Opener, Row
from s2c_deploy.bench.rows import known_rows, open_engine
from s2c_deploy.bench.stages import TimedCodec
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import InputError
from s2c_deploy.runtime.onnxruntime_runner import OnnxRuntimeRunner

WEIGHTS = Path(__file__).resolve().parents[2] / "export" / "conv-tiny"
open_onnxruntime = partial(open_engine, backend="onnxruntime")


# Openers run in the process of their row, so what they change there stays there.


def wrong_scale(bundle: Path, weights: Path | None, threads: int) -> TimedCodec:
    """g_s right on the known answers' size, and 2 % too bright on any other."""
    right = OnnxRuntimeRunner._run

    def run(self, inputs):  # type: ignore[no-untyped-def]
        outputs = right(self, inputs)
        if "x_hat" in outputs and outputs["x_hat"].shape[2:] != (128, 192):
            return {"x_hat": outputs["x_hat"] * np.float32(1.02)}
        return outputs

    OnnxRuntimeRunner._run = run  # type: ignore[method-assign]
    return open_onnxruntime(bundle, weights, threads)


def wrong_symbol(bundle: Path, weights: Path | None, threads: int) -> TimedCodec:
    """One symbol of the last pass of every picture is one too large."""
    right = stages._TimedDecoder.read
    calls = [0]

    def read(self, indexes, out):  # type: ignore[no-untyped-def]
        symbols = right(self, indexes, out)
        calls[0] += 1
        if calls[0] % 11 == 0:
            symbols.reshape(-1)[7] += 1
            self._clock.symbols[-1][7] += 1
        return symbols

    stages._TimedDecoder.read = read  # type: ignore[method-assign]
    return open_onnxruntime(bundle, weights, threads)


def killed(bundle: Path, weights: Path | None, threads: int) -> TimedCodec:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def killed_later(bundle: Path, weights: Path | None, threads: int) -> TimedCodec:
    """Dies at the fourth decoding: after parity, among the timed ones."""
    codec = open_onnxruntime(bundle, weights, threads)
    right, calls = codec.decode, [0]

    def decode(data: bytes) -> Pixels:
        calls[0] += 1
        if calls[0] == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return right(data)

    codec.decode = decode  # type: ignore[method-assign]
    return codec


def sabotaged(name: str, opener: Opener, wants: str = "CPUExecutionProvider") -> Row:
    return Row(name=name, kind="engine", description=name, open=opener, wants=wants)


@pytest.fixture(scope="module")
def ran(bundle_path: Path, small_photograph: Pixels) -> Benchmark:
    known = known_rows()
    names = ["onnxruntime", "openvino", "torch-channels-last"]
    names += ["reference"] if find_spec("compressai") else []
    rows = [known[name] for name in names]
    rows += [
        sabotaged("wrong-scale", wrong_scale),
        sabotaged("wrong-symbol", wrong_symbol),
        sabotaged("killed", killed),
        sabotaged("killed-later", killed_later),
        sabotaged("fell-back", open_onnxruntime, wants="CUDAExecutionProvider"),
        dataclasses.replace(sabotaged("half", open_onnxruntime), precision="float16"),
    ]
    return run_benchmark(
        Request(
            bundle=bundle_path,
            rows=tuple(rows),
            left_out={},
            sources=(Source(name="part", pixels=np.ascontiguousarray(small_photograph[:64, :96])),),
            qualities=(3.0,),
            threads=(1,),
            weights=WEIGHTS,
            min_seconds=0,
            min_count=4,
            rounds=2,
            encode=True,
        )
    )


def of(benchmark: Benchmark, name: str) -> RowResult:
    return next(row for row in benchmark.rows if row.name == name)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch-channels-last", "reference"])
def test_a_sound_row_is_timed(ran: Benchmark, name: str) -> None:
    if name == "reference" and find_spec("compressai") is None:
        pytest.skip("compressai is not installed")
    row = of(ran, name)
    assert (row.failure, row.fallback) == (None, None)
    (parity,) = row.parity
    assert (parity.wrong_symbols, parity.failure) == (0, None)
    assert abs(parity.delta_psnr) <= (0.25 if name == "reference" else 0.001)
    # y: 256 channels at 1/16 of 128x64 (padded); z: 96 at 1/64
    assert parity.symbols == 256 * 4 * 8 + 96 * 1 * 2
    assert {series.operation for series in row.series} == {"decode", "encode"}
    for series in row.series:
        assert (len(series.seconds), series.rounds) == (4, (0, 0, 1, 1))
        assert series.covered == pytest.approx(1, abs=0.05)
    assert row.load_seconds
    assert row.first_seconds
    assert row.peak_megabytes
    assert row.loaded_megabytes
    assert row.peak_megabytes >= row.loaded_megabytes > 50


def test_every_stage_of_the_codec_takes_time(ran: Benchmark) -> None:
    for series in of(ran, "onnxruntime").series:
        assert set(series.stages) == set(stages.STAGES[series.operation])
        assert all(min(values) > 0 for values in series.stages.values())


@pytest.mark.skipif(find_spec("compressai") is None, reason="compressai is not installed")
def test_the_reference_reads_its_own_streams(ran: Benchmark) -> None:
    assert of(ran, "onnxruntime").bytes is None
    ((_, size),) = (of(ran, "reference").bytes or {}).items()
    # the same weights and pictures: of about the same size
    assert size == pytest.approx(ran.cases[0].size, rel=0.3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong-scale", "part, quality 3: PSNR changes by"),
        ("wrong-symbol", "part, quality 3: 1 of 8384 symbols differ from the encoder's"),
        ("killed", "exit code -9, killed: out of memory?"),
        ("killed-later", "exit code -9"),
    ],
)
def test_a_wrong_row_loses_its_times(ran: Benchmark, name: str, reason: str) -> None:
    row = of(ran, name)
    assert reason in (row.failure or "")
    assert row.series == ()
    assert row.peak_megabytes is None


def test_what_really_ran_is_reported(ran: Benchmark) -> None:
    row = of(ran, "fell-back")
    assert (row.fallback or "").startswith("asked for CUDAExecutionProvider, ran onnxruntime")
    assert "CPUExecutionProvider" in row.label
    assert of(ran, "half").fallback == "asked for float16, ran float32"


def test_all_rows_read_the_encoders_stream(ran: Benchmark, bundle_path: Path, small_photograph: Pixels) -> None:
    import hashlib

    with Codec.open(bundle_path, ran.encoder) as codec:
        data = codec.compress(np.ascontiguousarray(small_photograph[:64, :96]), 3)
    assert ran.cases[0].sha256 == (hashlib.sha256(data).hexdigest(),)
    assert ran.cases[0].size == len(data)


def test_the_timed_codec_is_the_codec(bundle_path: Path, small_photograph: Pixels) -> None:
    """The clock changes nothing: bytes and pixels are those of the plain codec, tiles included."""
    timed = open_onnxruntime(bundle_path, None, 1)
    with timed.codec, Codec.open(bundle_path, "onnxruntime", threads=1) as plain:
        data = plain.compress(small_photograph, 5, tile=64)
        assert timed.codec.compress(small_photograph, 5, tile=64) == data
        np.testing.assert_array_equal(timed.decode(data), plain.decompress(data))
        assert timed.encode(small_photograph, 5) == plain.compress(small_photograph, 5)


def test_other_weights_are_refused(bundle_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from s2c_deploy.bench.row import TorchWay
    from s2c_deploy.bench.torch_rows import open_module_codec, same_weights
    from s2c_deploy.formats.bundle import open_bundle

    with pytest.raises(InputError, match="--weights"):
        open_module_codec(bundle_path, None, 1, TorchWay())
    bundle = open_bundle(bundle_path)
    other = dataclasses.replace(bundle, manifest={**bundle.manifest, "weights_sha256": "0" * 64})
    with pytest.raises(InputError, match="expected the bundle's weights 0000000000000000, found"):
        same_weights(other, WEIGHTS)


def test_throughput_counts_every_process(bundle_path: Path, small_photograph: Pixels) -> None:
    made = run_benchmark(
        Request(
            bundle=bundle_path, rows=(known_rows()["onnxruntime"],), left_out={},
            sources=(Source(name="part", pixels=np.ascontiguousarray(small_photograph[:64, :64])),),
            min_seconds=0, min_count=1, rounds=1, throughput=True,
        )
    )  # fmt: skip
    (found,) = made.rows[0].throughput
    assert found.processes >= 1
    assert found.pictures >= found.processes
    assert found.pictures_per_second > 0


def test_nothing_to_measure_is_an_error(bundle_path: Path) -> None:
    request = Request(bundle=bundle_path, rows=(), left_out={"tensorrt": "no GPU"}, sources=())
    with pytest.raises(InputError, match="tensorrt: no GPU"):
        run_benchmark(request)


def test_pictures_that_cannot_be_coded_are_an_error(bundle_path: Path) -> None:
    request = Request(
        bundle=bundle_path, rows=(known_rows()["onnxruntime"],), left_out={},
        sources=(Source(name="grey", pixels=np.zeros((64, 64, 1), np.uint8)),),
    )  # fmt: skip
    with pytest.raises(InputError, match="expected uint8 of height x width x 3"):
        run_benchmark(request)

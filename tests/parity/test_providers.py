"""ONNX Runtime's execution providers: what is asked of them, and that a silent fall back to the CPU is found out."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import onnxruntime as ort
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import DependencyError, EngineError
from s2c_deploy.formats.bundle import Bundle, open_bundle
from s2c_deploy.host import Host, this_host
from s2c_deploy.runtime import onnxruntime_runner, open_runner
from s2c_deploy.runtime.providers import PROVIDERS, provider_options
from s2c_deploy.verify.cross import cross_decode

GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")


@pytest.fixture(scope="module")
def bundle(bundle_path: Path) -> Bundle:
    return open_bundle(bundle_path)


def has_provider(backend: str) -> bool:
    return PROVIDERS[backend][0] in ort.get_available_providers()


def test_exact_graphs_get_float32_sums() -> None:
    options = provider_options("CUDAExecutionProvider", [])
    assert options == {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
    assert provider_options("CPUExecutionProvider", []) == {}


def test_tensorrt_gets_its_shapes_beforehand(bundle: Bundle) -> None:
    options = provider_options("TensorrtExecutionProvider", bundle.manifest["graphs"]["g_s"]["inputs"])
    assert options["trt_profile_min_shapes"] == "y_hat:1x256x4x4"
    assert options["trt_profile_opt_shapes"] == "y_hat:1x256x32x48"
    assert options["trt_profile_max_shapes"] == "y_hat:4x256x128x128"
    assert options["trt_fp16_enable"] == options["trt_engine_cache_enable"] == "0"
    two = provider_options("TensorrtExecutionProvider", bundle.manifest["graphs"]["context_1_nonanchor"]["inputs"])
    assert two["trt_profile_min_shapes"] == "features:1x128x4x4,y_cur:1x16x4x4"


@pytest.mark.parametrize("backend", GPU)
def test_a_library_without_the_provider_names_the_extra(bundle: Bundle, backend: str) -> None:
    if has_provider(backend):
        pytest.skip("this ONNX Runtime has it")
    with pytest.raises(DependencyError, match=r"an ONNX Runtime with .*Provider is not installed .*s2c-deploy\[gpu\]"):
        open_runner(bundle.graph("h_s"), backend=backend)


def test_a_session_that_fell_back_is_refused(bundle: Bundle) -> None:
    session = ort.InferenceSession(str(bundle.graph("h_s")), providers=["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=r"expected CUDAExecution\w+, found CPUExecutionProvider .*LD_LIBRARY_PATH"):
        onnxruntime_runner._running(session, "CUDAExecutionProvider")


def test_nodes_elsewhere_are_counted() -> None:
    class Part:
        def __init__(self, ep_name: str, count: int) -> None:
            self.ep_name, self.count = ep_name, count

        def get_nodes(self) -> list[int]:
            return [0] * self.count

    class Session:
        def __init__(self, *parts: Part) -> None:
            self.parts = parts

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def get_provider_graph_assignment_info(self) -> tuple[Part, ...]:
            return self.parts

    cuda, cpu = Part("CUDAExecutionProvider", 9), Part("CPUExecutionProvider", 2)
    running = onnxruntime_runner._running
    assert running(Session(cuda), "CUDAExecutionProvider") == "CUDAExecutionProvider"
    assert running(Session(cuda, cpu), "CUDAExecutionProvider") == "CUDAExecutionProvider, but 2 nodes"
    with pytest.raises(EngineError, match="found every node on CPUExecutionProvider"):
        running(Session(cpu), "CUDAExecutionProvider")


def test_the_gpu_build_without_its_libraries_is_refused(bundle: Bundle) -> None:
    """The real library names the provider as available, and without CUDA's libraries it runs on the CPU."""
    try:
        metadata.version("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        pytest.skip("onnxruntime-gpu is not installed")
    if this_host().compute_capability is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineError, match="expected CUDAExecutionProvider, found CPUExecutionProvider"):
        open_runner(bundle.graph("h_s"), backend="onnxruntime-cuda")


@pytest.mark.parametrize("backend", GPU)
def test_gpu_symbols_are_the_cpus(gpu: Host, bundle: Bundle, small_photograph: Pixels, backend: str) -> None:
    if not has_provider(backend):
        pytest.skip(f"this ONNX Runtime has no {backend}")
    for agreement in cross_decode(bundle, [small_photograph], [1, 5], [backend, "onnxruntime"]):
        assert agreement.agrees, agreement

"""ONNX Runtime's execution providers: which a backend asks for, and how they are to compute.  Imports none of it."""

from __future__ import annotations

from typing import Any

from s2c_deploy.runtime.profiles import DEFAULT_PROFILE

#: ONNX Runtime's providers by backend; those after the first take the nodes that the first cannot.
PROVIDERS = {
    "onnxruntime": ("CPUExecutionProvider",),
    "onnxruntime-cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "onnxruntime-tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
#: The most pictures in one call of a GPU: the known answers come in fours.
BATCH = 4


def provider_options(name: str, inputs: list[dict[str, Any]]) -> dict[str, str]:
    """How a provider is to compute; inputs: name and shape of each, for TensorRT.

    The exact graphs' rules: float32 sums in float32, no Winograd.  CUDA takes the latter only where cuDNN searches.
    TensorRT gets the shapes that it has to serve, else it would build another engine whenever a picture has a new
    size, after the known-answer test; and reads no engine from a disk.
    """
    if name == "CUDAExecutionProvider":
        return {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
    if name != "TensorrtExecutionProvider":
        return {}
    options = {"trt_fp16_enable": "0", "trt_int8_enable": "0", "trt_engine_cache_enable": "0"}
    shapes = DEFAULT_PROFILE.shapes(inputs)
    for i, side in enumerate(("min", "opt", "max")):
        texts = []
        for tensor, sizes in shapes.items():
            batch = BATCH if side == "max" else 1
            texts.append(f"{tensor}:{'x'.join(map(str, (batch, *sizes[i][1:])))}")
        options[f"trt_profile_{side}_shapes"] = ",".join(texts)
    return options

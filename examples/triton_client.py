"""Pictures through a Triton server that runs the models of ``s2c-deploy triton``, with the standard library and numpy.

    s2c-deploy triton models/ && tritonserver --model-repository models/
    python examples/triton_client.py photo.png photo.s2c
    python examples/triton_client.py photo.s2c decoded.ppm

``tritonclient`` does the same and more; this shows what goes over the wire: KServe's v2 protocol, with tensors as
bytes behind the JSON.
"""

import argparse
import json
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"UINT8": np.uint8, "FP32": np.float32}


class ServerError(Exception):
    """What the server answered instead of tensors."""


def infer(url: str, model: str, inputs: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
    """Runs a model.  Inputs and outputs: uint8 and float32 arrays, and bytes (a BYTES tensor of one element)."""
    headers, bodies = zip(*(_packed(name, value) for name, value in inputs.items()), strict=True)
    head = json.dumps({"inputs": headers, "parameters": {"binary_data_output": True}}).encode()
    request = urllib.request.Request(f"{url}/v2/models/{model}/infer", data=head + b"".join(bodies))
    request.add_header("Inference-Header-Content-Length", str(len(head)))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body, length = answer.read(), int(answer.headers["Inference-Header-Content-Length"])
    except urllib.error.HTTPError as error:
        raise ServerError(json.loads(error.read())["error"]) from None
    outputs, position = {}, length
    for entry in json.loads(body[:length])["outputs"]:
        end = position + entry["parameters"]["binary_data_size"]
        outputs[entry["name"]] = _unpacked(entry, body[position:end])
        position = end
    return outputs


def _packed(name: str, value: Any) -> tuple[dict[str, Any], bytes]:
    if isinstance(value, bytes):
        kind, shape, body = "BYTES", [1], struct.pack("<I", len(value)) + value
    else:
        kind = next(kind for kind, dtype in _TYPES.items() if dtype == value.dtype)
        shape, body = list(value.shape), value.tobytes()
    size = {"binary_data_size": len(body)}
    return {"name": name, "datatype": kind, "shape": shape, "parameters": size}, body


def _unpacked(entry: dict[str, Any], body: bytes) -> Any:
    if entry["datatype"] == "BYTES":
        return body[4 : 4 + struct.unpack_from("<I", body)[0]]
    return np.frombuffer(body, _TYPES[entry["datatype"]]).reshape(entry["shape"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Compress or decompress one picture on a Triton server.")
    parser.add_argument("source", type=Path, help="a picture, or a .s2c stream")
    parser.add_argument("target", type=Path, help="a .s2c stream, or a .ppm picture")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--quality", type=float, default=4)
    given = parser.parse_args()
    data = given.source.read_bytes()
    try:
        if given.source.suffix == ".s2c":
            pixels = infer(given.url, "s2c_decompress", {"stream": data})["image"]
            head = f"P6 {pixels.shape[1]} {pixels.shape[0]} 255\n".encode()
            given.target.write_bytes(head + pixels.tobytes())
        else:
            inputs = {"file": data, "quality": np.array([given.quality], np.float32)}
            given.target.write_bytes(infer(given.url, "s2c_compress", inputs)["stream"])
    except ServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

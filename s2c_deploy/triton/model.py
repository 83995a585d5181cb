"""Model of Triton's Python backend: pictures to .s2c streams, or streams to pictures.

``s2c-deploy triton`` puts this file, as it is, into both models; config.pbtxt says which one it is and how to run.
Triton needs s2c-deploy and one engine in its Python (``pip install 's2c-deploy[cpu]'``).

Every instance is a process with a codec of its own.  Bad input is an error of its own request (INVALID_ARG, with the
message of the S2CError), never of the others in a batch, and never the end of the process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from s2c_deploy import Codec
from s2c_deploy.errors import BitstreamError, BundleError, InputError
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.image import Image, decode_image


class TritonPythonModel:
    """What Triton calls: initialize once, execute for every batch of requests, finalize at the end."""

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the codec, every graph held against its known answers; an error here keeps the model from loading."""
        entries = json.loads(args["model_config"])["parameters"]
        options = {name: entry["string_value"] for name, entry in entries.items()}
        # A path that is not absolute is one beside this file, wherever Triton has put it.
        bundle = Path(__file__).resolve().parent / options["bundle"]
        self._compresses = options["direction"] == "compress"
        self._quality = float(options["quality"])
        self._max_pixels = int(options["max_pixels"])
        self._codec = Codec.open(
            bundle, options["backend"], threads=int(options["threads"]), max_pixels=self._max_pixels
        )
        found = self._codec.bundle.fingerprint.hex()
        if found != options["fingerprint"]:
            raise BundleError(f"{bundle}: expected fingerprint {options['fingerprint']}, found {found}")
        self._codec.load(encoder=self._compresses, decoder=not self._compresses)

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        return [self._response(request) for request in requests]

    def finalize(self) -> None:
        self._codec.close()

    def _response(self, request: Any) -> Any:
        try:
            outputs = self._compress(request) if self._compresses else self._decompress(request)
            return pb_utils.InferenceResponse(output_tensors=outputs)
        except (InputError, BitstreamError) as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception as error:
            # Whatever it is belongs to this request: the process and its other requests go on.
            pb_utils.Logger.log_error(f"{type(error).__name__}: {error}")
            return _failure(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)

    def _compress(self, request: Any) -> list[Any]:
        image, file = _optional(request, "image"), _optional(request, "file")
        quality = _optional(request, "quality")
        if (image is None) == (file is None):
            raise InputError("expected one of the inputs image and file", hint="image: UINT8 [height, width, 3]")
        picture = _picture(image) if image is not None else decode_image(_item(file), max_pixels=self._max_pixels)
        if picture.width * picture.height > self._max_pixels:
            raise InputError(
                f"image: expected at most {self._max_pixels} pixels, found {picture.width}x{picture.height}"
            )
        level = self._quality if quality is None else float(quality.reshape(-1)[0])
        data = self._codec.compress(picture.pixels, level, icc=picture.icc, exif=picture.exif)
        return [_bytes_tensor("stream", data)]

    def _decompress(self, request: Any) -> list[Any]:
        stream = parse(_item(_optional(request, "stream")), max_pixels=self._max_pixels)
        pixels = self._codec.decompress_stream(stream)
        metadata = [_bytes_tensor("icc", stream.icc or b""), _bytes_tensor("exif", stream.exif or b"")]
        wanted = set(request.requested_output_names())
        return [tensor for tensor in (pb_utils.Tensor("image", pixels), *metadata) if tensor.name() in wanted]


def _optional(request: Any, name: str) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _picture(array: Any) -> Image:
    if array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(f"image: expected UINT8 [height, width, 3], found {list(array.shape)}")
    return Image(pixels=np.ascontiguousarray(array))


def _item(array: Any) -> bytes:
    """The one element of a BYTES tensor."""
    if array is None or array.size != 1:
        raise InputError(f"expected one element of BYTES, found {0 if array is None else array.size}")
    return bytes(array.reshape(-1)[0])


def _bytes_tensor(name: str, data: bytes) -> Any:
    return pb_utils.Tensor(name, np.array([data], np.object_))


def _failure(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))

"""A picture to .s2c bytes and back, with numpy, Pillow and one engine: no PyTorch.

    python examples/decode_without_torch.py decode photo.s2c photo.png --bundle engines/conv-small --backend onnxruntime
    python examples/decode_without_torch.py encode photo.png photo.s2c --bundle engines/conv-small --quality 5

Installed with ``pip install 's2c-deploy[cpu]'`` (ONNX Runtime) or ``'s2c-deploy[openvino]'``.
"""

import argparse
import sys
from pathlib import Path

from s2c_deploy import Codec
from s2c_deploy.errors import S2CError
from s2c_deploy.files import atomic_write
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.image import Image, read_image, write_image


def encode(codec: Codec, source: Path, target: Path, quality: float) -> None:
    picture = read_image(source)  # upright uint8 height x width x 3, with ICC profile and EXIF
    data = codec.compress(picture.pixels, quality, icc=picture.icc, exif=picture.exif)
    with atomic_write(target) as temporary:  # nobody ever sees half a file
        temporary.write_bytes(data)


def decode(codec: Codec, source: Path, target: Path) -> None:
    stream = parse(source.read_bytes(), max_pixels=2**24)  # larger pictures are refused before any memory is taken
    pixels = codec.decompress_stream(stream)
    write_image(target, Image(pixels=pixels, icc=stream.icc, exif=stream.exif))


def main() -> int:
    parser = argparse.ArgumentParser(description="Encode or decode one picture without PyTorch.")
    parser.add_argument("direction", choices=["encode", "decode"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("engines/conv-small"))
    parser.add_argument("--backend", default="onnxruntime", help="auto, onnxruntime, openvino or tensorrt")
    parser.add_argument("--threads", type=int, default=1, help="0 lets the engine choose")
    parser.add_argument("--quality", type=float, default=4)
    given = parser.parse_args()
    try:
        # Opening checks every file's SHA-256 and holds every graph against its known answers.
        with Codec.open(given.bundle, given.backend, threads=given.threads) as codec:
            if given.direction == "encode":
                encode(codec, given.source, given.target, given.quality)
            else:
                decode(codec, given.source, given.target)
            print(f"{given.target}: on {codec.backend}, PyTorch imported: {'torch' in sys.modules}")
    except (S2CError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, S2CError) else 3
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The conventional codecs that Pillow and its plugins bring, at sweeps of their own settings."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module, metadata, util
from types import MappingProxyType

import numpy as np
from PIL import Image as Pil
from PIL import features

from s2c_deploy.arrays import Pixels
from s2c_deploy.errors import InputError, OutOfMemoryError

Option = int | bool | str | list[int]


@dataclass(frozen=True, kw_only=True)
class PillowCodec:
    """One of Pillow's formats with fixed options, swept over one option."""

    name: str
    title: str
    format: str
    suffix: str
    #: Pillow's save options that stay.
    options: Mapping[str, Option]
    #: The option that ``settings`` go to.
    swept: str
    settings: tuple[float, ...]
    #: The fixed options in the terms of the format.
    what: str
    #: Of the library that encodes.
    version: str
    #: What to install where the format is missing here, else None.
    advice: str | None
    #: The swept option is a list.
    layered: bool = False

    @property
    def description(self) -> str:
        sweep = ", ".join(f"{setting:g}" for setting in self.settings)
        return f"{self.title}, {self.version}: {self.what}; {self.swept} {sweep}"

    def encode(self, pixels: Pixels, setting: float) -> bytes:
        """InputError for a picture that the format cannot hold, OutOfMemoryError."""
        value: Option = [int(setting)] if self.layered else int(setting)
        file = io.BytesIO()
        height, width = pixels.shape[:2]
        with self._explained(f"coding {width}x{height} pixels"):
            Pil.fromarray(pixels).save(file, self.format, **{**self.options, self.swept: value})
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Of what :meth:`encode` gave; InputError for more pixels than Pillow reads, OutOfMemoryError."""
        with (
            self._explained(f"decoding {len(data)} bytes"),
            Pil.open(io.BytesIO(data), formats=[self.format]) as picture,
        ):
            return np.asarray(picture.convert("RGB"))

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn what Pillow raises into this package's errors."""
        try:
            yield
        except MemoryError:
            raise OutOfMemoryError(f"{doing} as {self.title}", hint="leave large pictures out") from None
        except Exception as error:  # Pillow raises OSError, ValueError, DecompressionBombError, ... as it comes
            raise InputError(
                f"{self.title} fails at {doing}: {error}", hint=f"leave {self.name} out, or such pictures"
            ) from error

    def warm(self, pixels: Pixels) -> None:
        self.decode(self.encode(pixels, self.settings[0]))

    def check(self, pixels: Pixels, setting: float, decoded: Pixels) -> None:
        return None


def pillow_codec(name: str) -> PillowCodec:
    """One of ``CODEC_NAMES``; InputError for another name."""
    if name not in _CODECS:
        raise InputError(f"codec: expected {', '.join(CODEC_NAMES)}, found {name!r}")
    return _CODECS[name]()


def _jpeg() -> PillowCodec:
    turbo = features.version("libjpeg_turbo")
    return PillowCodec(
        name="jpeg",
        title="JPEG",
        format="JPEG",
        suffix=".jpg",
        options=MappingProxyType({"subsampling": 0, "optimize": True}),
        swept="quality",
        settings=(5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95),
        what="4:4:4, baseline, optimised Huffman tables",
        version=f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}",
        advice=_built_in("jpg"),
    )


def _webp() -> PillowCodec:
    return PillowCodec(
        name="webp",
        title="WebP",
        format="WEBP",
        suffix=".webp",
        options=MappingProxyType({"method": 6}),
        swept="quality",
        settings=(0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
        what="lossy, 4:2:0 (it has no other), method 6",
        version=f"libwebp {features.version('webp')}",
        advice=_built_in("webp"),
    )


def _avif() -> PillowCodec:
    return _avif_at("avif", "AVIF", 6, (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90))


def _avif_slow() -> PillowCodec:
    """Some 11 % fewer bits than speed 6, in 20 times its time."""
    return _avif_at("avif-slow", "AVIF, slow", 2, (20, 30, 40, 50, 60, 70))


def _avif_slowest() -> PillowCodec:
    """1 % fewer again, in three times that."""
    return _avif_at("avif-slowest", "AVIF, slowest", 0, (20, 30, 40, 50, 60, 70))


def _avif_at(name: str, title: str, speed: int, settings: tuple[int, ...]) -> PillowCodec:
    return PillowCodec(
        name=name,
        title=title,
        format="AVIF",
        suffix=".avif",
        options=MappingProxyType({"subsampling": "4:4:4", "speed": speed, "codec": "auto"}),
        swept="quality",
        settings=settings,
        what=f"8 bit, 4:4:4, speed {speed}",
        version=f"libavif {features.version('avif')} with {_avif_encoders()}",
        advice=_built_in("avif"),
    )


def _jpeg2000() -> PillowCodec:
    return PillowCodec(
        name="jpeg2000",
        title="JPEG 2000",
        format="JPEG2000",
        suffix=".jp2",
        options=MappingProxyType({"quality_mode": "rates", "irreversible": True, "mct": 1}),
        swept="quality_layers",
        layered=True,
        settings=(320, 220, 150, 110, 80, 56, 40, 28, 20, 14, 10),
        what="9/7 wavelet, YCbCr 4:4:4, one layer at a fixed compression ratio, the same for every picture",
        version=f"OpenJPEG {features.version('jpg_2000')}",
        advice=_built_in("jpg_2000"),
    )


def _jpegxl() -> PillowCodec:
    return _jpegxl_at("jpegxl", "JPEG XL", 7)


def _jpegxl_slow() -> PillowCodec:
    return _jpegxl_at("jpegxl-slow", "JPEG XL, slow", 9)


def _jpegxl_at(name: str, title: str, effort: int) -> PillowCodec:
    there = util.find_spec("pillow_jxl") is not None
    if there:
        import_module("pillow_jxl")  # registers the format with Pillow
    return PillowCodec(
        name=name,
        title=title,
        format="JXL",
        suffix=".jxl",
        options=MappingProxyType({"effort": effort}),
        swept="quality",
        settings=(1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95),
        what=f"VarDCT, XYB, effort {effort} (its encoder aims at what is seen, not at PSNR)",
        version=f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}" if there else "not installed",
        advice=None if there else "pip install pillow-jxl-plugin",
    )


def _built_in(feature: str) -> str | None:
    return None if features.check(feature) else "this Pillow was built without it: pip install --upgrade pillow"


def _avif_encoders() -> str:
    """The encoders inside libavif, as it names them; Pillow shows them nowhere public."""
    versions = getattr(import_module("PIL._avif"), "codec_versions", None) if features.check("avif") else None
    named = str(versions()).split(", ") if versions is not None else []
    return ", ".join(part.replace(" [enc]:", " ") for part in named if "enc" in part) or "an unnamed encoder"


_CODECS: dict[str, Callable[[], PillowCodec]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "avif-slow": _avif_slow,
    "avif-slowest": _avif_slowest,
    "jpeg2000": _jpeg2000,
    "jpegxl": _jpegxl,
    "jpegxl-slow": _jpegxl_slow,
}
CODEC_NAMES = tuple(_CODECS)

"""Pictures in and out: files of any common format to upright uint8 RGB, and back, by way of Pillow."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image as Pil
from PIL import ExifTags, ImageColor, UnidentifiedImageError

from s2c_deploy.errors import InputError
from s2c_deploy.files import atomic_write
from s2c_deploy.presets import MAX_PIXELS

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# not all that Pillow knows: EPS would start Ghostscript, JPEG 2000 allocates what a header asks for
_READ_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "GIF", "TGA")
READ_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".dib"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".tga"}
)
_WRITE_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".ppm": ("PPM", {}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
}
_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
_PLAIN_MODES = ("1", "L", "P", "RGB", "RGBX", "YCbCr", "LA", "PA", "RGBA")
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_EXIF_PREFIX = b"Exif\0\0"
_ORIENTATION = 0x0112
# tags of a TIFF file that describe the picture; the others describe how that file stores it
_DESCRIPTIVE_TAGS = frozenset(
    tag.value
    for tag in (
        ExifTags.Base.ImageDescription,
        ExifTags.Base.Make,
        ExifTags.Base.Model,
        ExifTags.Base.XResolution,
        ExifTags.Base.YResolution,
        ExifTags.Base.ResolutionUnit,
        ExifTags.Base.Software,
        ExifTags.Base.DateTime,
        ExifTags.Base.Artist,
        ExifTags.Base.Copyright,
    )
) | {ExifTags.IFD.Exif.value, ExifTags.IFD.GPSInfo.value}


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """An upright RGB picture with its metadata.

    ``pixels`` is uint8 (height, width, 3), C-contiguous; ``icc`` an RGB colour profile; ``exif`` a TIFF block
    (it starts with ``II`` or ``MM``, no ``Exif\\0\\0``).  Raises :class:`InputError` for other arrays.
    """

    pixels: Pixels
    icc: bytes | None = None
    exif: bytes | None = None

    def __post_init__(self) -> None:
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3 or not p.size or not p.flags.c_contiguous:
            raise InputError(
                f"pixels of shape {p.shape} and type {p.dtype}",
                hint="pass a C-contiguous uint8 array of height x width x 3",
            )

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def read_image(
    path: str | os.PathLike[str], *, background: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image:
    """Read a picture file, turn it upright by its EXIF orientation, and make it 8-bit RGB.

    Grey is repeated into three channels; 16-bit grey is rounded to 8 bits (of 16-bit colour Pillow takes the
    high byte).  Opaque alpha is dropped; real alpha is composited onto ``background`` (a CSS colour) or
    refused without one.  The ICC profile is kept if it is for RGB; EXIF is kept with its orientation set
    to 1.  Of a camera's multi-picture JPEG the first counts; other files of several frames are refused.

    Raises :class:`InputError` for a file that is missing, no picture, damaged, larger than ``max_pixels``, or
    of a kind that has no certain RGB meaning (CMYK, Lab, floating point).
    """
    return _read(path, path, background, max_pixels)


def decode_image(data: bytes, *, background: str | None = None, max_pixels: int = MAX_PIXELS) -> Image:
    """As :func:`read_image`, of a picture file's bytes, which may come from anywhere."""
    return _read(io.BytesIO(data), "the file", background, max_pixels)


def _read(
    source: str | os.PathLike[str] | io.BytesIO,
    path: str | os.PathLike[str],
    background: str | None,
    max_pixels: int,
) -> Image:
    """path: what messages call the source."""
    color = None if background is None else _parse_color(background)
    with _explained(path, max_pixels), Pil.open(source, formats=_READ_FORMATS) as picture:
        if picture.width * picture.height > max_pixels:
            raise Pil.DecompressionBombError(f"{picture.width}x{picture.height} pixels")
        # a phone's or camera's JPEG may carry previews and depth maps behind the picture: MPO
        if picture.format != "MPO" and (frames := getattr(picture, "n_frames", 1)) > 1:
            raise InputError(f"{path} has {frames} frames", hint="extract one: only still pictures are coded")
        picture.load()  # metadata may lie behind the pixels
        samples = _samples(picture, path)
        icc, exif, orientation = _metadata(picture)
    pixels = _drop_alpha(samples, color, path) if samples.shape[2] == 4 else samples
    return Image(pixels=np.ascontiguousarray(_upright(pixels, orientation)), icc=icc, exif=exif)


def write_image(path: str | os.PathLike[str], image: Image) -> None:
    """Write a picture in the format of the path's suffix, to a temporary file that is then renamed.

    PNG, PPM, BMP, TIFF and WebP are lossless; JPEG is quality 95, 4:4:4.  The ICC profile and EXIF go with
    PNG, TIFF (there only tags that describe the picture), JPEG and WebP.  Raises :class:`InputError` for an
    unknown suffix, a place that cannot be written, and a picture or metadata that the format cannot hold.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITE_FORMATS:
        raise InputError(
            f"cannot write {path}: unknown suffix '{suffix}'",
            hint=f"known: {' '.join(sorted(_WRITE_FORMATS))}",
        )
    name, options = _WRITE_FORMATS[suffix]
    with atomic_write(path) as temporary:
        try:
            options = options | _metadata_options(name, image)
            Pil.fromarray(image.pixels).save(temporary, format=name, **options)
        except MemoryError:
            raise
        except Exception as error:  # Pillow raises OSError, ValueError, struct.error, ... as it comes
            raise InputError(f"cannot write {path} as {name}: {error}", hint="try .png") from error


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The picture files directly in a folder, by suffix, sorted by name; hidden files are left out.

    Raises :class:`InputError` if it is no folder that can be read, or has none.
    """
    try:
        found = sorted(
            entry
            for entry in Path(folder).iterdir()
            if entry.suffix.lower() in READ_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
        )
    except OSError as error:
        raise InputError(
            f"cannot list {folder}: {error.strerror}", hint="name a folder of pictures"
        ) from error
    if not found:
        raise InputError(
            f"no pictures in {folder}", hint=f"known suffixes: {' '.join(sorted(READ_SUFFIXES))}"
        )
    return found


@contextmanager
def _explained(path: str | os.PathLike[str], max_pixels: int) -> Iterator[None]:
    """Turn what Pillow raises while reading into :class:`InputError`."""
    try:
        with warnings.catch_warnings():
            # of large pictures, where max_pixels decides, and of damage, which is raised or does not matter
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"not enough memory to read {path}", hint="it is too large or damaged") from None
    except FileNotFoundError:
        raise InputError(f"no such file: {path}", hint="check the path") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not a picture of a known format", hint=f"known: {', '.join(_READ_FORMATS)}"
        ) from None
    except Pil.DecompressionBombError as error:
        raise InputError(
            f"{path} is too large: {error}", hint=f"at most {max_pixels} pixels are read"
        ) from None
    except Exception as error:  # on damaged files Pillow raises OSError, SyntaxError, struct.error, ...
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
        raise InputError(f"{path} is damaged: {error}", hint="fetch or make it again") from error


def _samples(picture: Pil.Image, path: str | os.PathLike[str]) -> Pixels:
    """uint8 (height, width, 3), or 4 where the file has transparency."""
    mode = picture.mode
    if mode in _GREY16 or (mode == "I" and picture.format in ("PNG", "PPM")):
        return _grey16_samples(picture)
    if mode in _PREMULTIPLIED:
        picture, mode = picture.convert(_PREMULTIPLIED[mode]), _PREMULTIPLIED[mode]
    if mode not in _PLAIN_MODES:
        raise InputError(
            f"{path} is a picture of kind {mode}, which has no certain RGB meaning",
            hint="convert it to 8-bit RGB first, CMYK and Lab by way of their colour profile",
        )
    return np.array(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _grey16_samples(picture: Pil.Image) -> Pixels:
    wide = np.asarray(picture).astype(np.int32)
    planes = [((wide + 128) // 257).astype(np.uint8)] * 3  # 65535 is 257 * 255: the nearest of 256 levels
    if (clear := picture.info.get("transparency")) is not None:
        planes.append(np.where(wide == clear, 0, 255).astype(np.uint8))
    return np.stack(planes, axis=2)


def _parse_color(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(name)[:3]
    except ValueError:
        raise InputError(f"unknown colour {name!r}", hint="pass a CSS name or #rrggbb") from None
    return red, green, blue


def _drop_alpha(samples: Pixels, color: tuple[int, int, int] | None, path: str | os.PathLike[str]) -> Pixels:
    """Composite (height, width, 4) onto a colour; without one, only opaque pictures pass."""
    rgb, alpha = samples[:, :, :3], samples[:, :, 3:]
    if (alpha == 255).all():
        return rgb
    if color is None:
        raise InputError(
            f"{path} is transparent in places, which the stream cannot keep",
            hint="flatten it onto a colour, for instance --background white",
        )
    weight = alpha.astype(np.uint32)
    mixed = rgb * weight + np.array(color, np.uint32) * (255 - weight)
    return ((mixed + 127) // 255).astype(np.uint8)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation 1..8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _metadata(picture: Pil.Image) -> tuple[bytes | None, bytes | None, int]:
    """RGB ICC profile, EXIF with its orientation set to 1, and the orientation it had.  After load()."""
    icc = picture.info.get("icc_profile") or None
    if icc is not None and icc[16:20] != b"RGB ":  # the profile's data colour space: grey and CMYK do not fit
        icc = None
    if picture.format == "TIFF":
        return icc, _descriptive(picture.getexif()), 1  # Pillow has turned it in load()
    exif, orientation = _upright_exif(picture.info.get("exif") or b"")
    return icc, exif, orientation


def _upright_exif(block: bytes) -> tuple[bytes | None, int]:
    """The block with every orientation of its first directory set to 1 in place, and the first valid one.

    All else stays byte for byte: rewriting would lose the thumbnail and break the offsets inside maker notes.
    A block without a readable first directory is dropped.
    """
    block = block.removeprefix(_EXIF_PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    patched, orientation = bytearray(block), None
    try:
        if order is None:
            return None, 1
        (directory,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(order + "HHI4x", block, entry)
            if tag != _ORIENTATION or values != 1 or kind not in (3, 4):
                continue
            layout = order + ("H" if kind == 3 else "I")
            (value,) = struct.unpack_from(layout, block, entry + 8)
            struct.pack_into(layout, patched, entry + 8, 1)
            if orientation is None and 1 <= value <= 8:
                orientation = value
    except struct.error:
        return None, 1
    return bytes(patched), orientation or 1


def _descriptive(exif: Pil.Exif) -> bytes | None:
    """The tags of a TIFF file that describe its picture, as an EXIF block of their own."""
    kept = Pil.Exif()
    for tag in _DESCRIPTIVE_TAGS & set(exif):
        kept[tag] = exif.get_ifd(tag) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else exif[tag]
    return kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else None


def _metadata_options(name: str, image: Image) -> dict[str, Any]:
    """Pillow's save options for the metadata that a format can hold."""
    if name not in ("PNG", "TIFF", "JPEG", "WEBP"):
        return {}
    exif = image.exif
    if exif is not None and name == "TIFF":
        # there EXIF is written as tags of the file itself: one that says where its data lies would break it
        block = Pil.Exif()
        block.load(_EXIF_PREFIX + exif)
        exif = _descriptive(block)
    options: dict[str, Any] = {}
    if image.icc is not None:
        options["icc_profile"] = image.icc
    if exif is not None:
        options["exif"] = _EXIF_PREFIX + exif
    return options

"""The codec: what is decoded is what was reconstructed, on every engine, and nothing else is accepted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.latent import packed, unpack
from s2c_deploy.codec.transforms import to_pixels
from s2c_deploy.entropy.coder import Encoder
from s2c_deploy.errors import BitstreamError, DependencyError, EngineError, InputError
from s2c_deploy.formats.bitstream import FINGERPRINT_SIZE, Stream, pack, parse
from s2c_deploy.formats.bundle import exact_graphs
from s2c_deploy.formats.grid import tile_grid
from s2c_deploy.metrics import psnr

ENGINES = ("onnxruntime", "openvino", "torch")


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path, "onnxruntime", threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def codecs(bundle_path: Path, codec: Codec) -> Iterator[dict[str, Codec]]:
    opened = {name: Codec.open(bundle_path, name, threads=1) for name in ENGINES if name != codec.backend}
    yield {codec.backend: codec, **opened}
    for one in opened.values():
        one.close()


def window(photograph: Pixels, width: int, height: int) -> Pixels:
    """A part of the photograph, repeated where it is too small; not contiguous, as cuts are."""
    repeats = (-(-height // photograph.shape[0]), -(-width // photograph.shape[1]), 1)
    return np.tile(photograph, repeats)[:height, :width]


# --- sizes and qualities


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (63, 65), (64, 64), (768, 512), (1920, 1080)], ids=str)
def test_sizes(codec: Codec, photograph: Pixels, size: tuple[int, int]) -> None:
    image = window(photograph, *size)
    decoded = codec.decompress(codec.compress(image))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, codec.reconstruct(image))


@pytest.mark.parametrize("quality", [1, 2, 3, 4, 5, 6, 7, 8, 2.5, 3.140625])
def test_qualities(codec: Codec, small_photograph: Pixels, quality: float) -> None:
    data = codec.compress(small_photograph, quality)
    assert parse(data).quality == pytest.approx(quality, abs=1 / 64)
    np.testing.assert_array_equal(codec.decompress(data), codec.reconstruct(small_photograph, quality))


def test_more_quality_costs_more_and_gives_more(codec: Codec, photograph: Pixels) -> None:
    low, high = (codec.compress(photograph, quality) for quality in (1, 8))
    assert len(low) < len(high)
    assert psnr(photograph, codec.decompress(low)) < psnr(photograph, codec.decompress(high))


def test_the_picture_is_that_of_the_source(codec: Codec, photograph: Pixels) -> None:
    """Upright, in its place and in its colours: any other arrangement of the channels or axes is farther away."""
    decoded = codec.decompress(codec.compress(photograph, 8))
    right = psnr(photograph, decoded)
    assert right > 20
    for other in (decoded[::-1], decoded[:, ::-1], decoded[:, :, ::-1], np.roll(decoded, 16, 1)):
        assert psnr(photograph, np.ascontiguousarray(other)) < right - 1


def test_the_same_picture_is_the_same_stream(codec: Codec, small_photograph: Pixels) -> None:
    before = small_photograph.copy()
    assert codec.compress(small_photograph) == codec.compress(before)
    np.testing.assert_array_equal(small_photograph, before)


def test_padding_is_the_edge_repeated(codec: Codec, small_photograph: Pixels) -> None:
    image = small_photograph[:40, :70]
    padded = np.pad(image, ((0, 24), (0, 58), (0, 0)), mode="edge")
    assert parse(codec.compress(image)).tiles == parse(codec.compress(padded)).tiles
    np.testing.assert_array_equal(codec.reconstruct(image), codec.reconstruct(padded)[:40, :70])


# --- metadata


def test_metadata_is_carried(codec: Codec, small_photograph: Pixels) -> None:
    plain = parse(codec.compress(small_photograph))
    data = codec.compress(small_photograph, icc=b"profile", exif=b"II*\0exif")
    stream = parse(data)
    assert (plain.icc, plain.exif) == (None, None)
    assert (stream.icc, stream.exif) == (b"profile", b"II*\0exif")
    assert stream.tiles == plain.tiles
    np.testing.assert_array_equal(codec.decompress(data), codec.reconstruct(small_photograph))


def test_the_header_names_the_bundle(codec: Codec, small_photograph: Pixels) -> None:
    stream = parse(codec.compress(small_photograph, 2.75, tile=128))
    assert (stream.variant, stream.preset) == ("conv", "tiny")
    assert (stream.width, stream.height, stream.quality, stream.tile) == (192, 128, 2.75, 128)
    assert stream.fingerprint == codec.bundle.fingerprint[:FINGERPRINT_SIZE]


# --- engines


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_a_stream_of_one_engine_decodes_alike_on_all(
    codecs: dict[str, Codec], small_photograph: Pixels, quality: float
) -> None:
    (part,) = tile_grid(192, 128, 0)
    for writer in codecs.values():
        data = writer.compress(small_photograph, quality)
        (payload,) = parse(data).tiles
        latents = [reader._tiles.decode([payload], part, quality) for reader in codecs.values()]
        for y_hat in latents[1:]:
            np.testing.assert_array_equal(y_hat, latents[0])
        assert np.abs(latents[0]).max() > 0
        pictures = [reader.decompress(data).astype(int) for reader in codecs.values()]
        # g_s is float: its last bits, and with them the rounding of a pixel now and then, are the engine's own
        for picture in pictures[1:]:
            assert np.abs(picture - pictures[0]).max() <= 1


def test_the_number_of_threads_does_not_matter(bundle_path: Path, codec: Codec, photograph: Pixels) -> None:
    data = codec.compress(photograph, 5)
    (part,) = tile_grid(768, 512, 0)
    (payload,) = parse(data).tiles
    with Codec.open(bundle_path, "onnxruntime", threads=2) as other:
        np.testing.assert_array_equal(other._tiles.decode([payload], part, 5), codec._tiles.decode([payload], part, 5))


def test_tiles_together_are_what_they_are_alone(codecs: dict[str, Codec], photograph: Pixels) -> None:
    """A batch of three, coded and decoded: each has the payload and the latent that it has by itself."""
    pictures = [np.ascontiguousarray(photograph[k : k + 128, 2 * k : 2 * k + 192]) for k in (0, 100, 200)]
    for codec in codecs.values():
        payloads = [parse(codec.compress(picture, 4.5)).tiles[0] for picture in pictures]
        (part,) = tile_grid(192, 128, 0)
        alone = [codec._tiles.decode([payload], part, 4.5) for payload in payloads]
        np.testing.assert_array_equal(codec._tiles.decode(payloads, part, 4.5), np.concatenate(alone))
        y = [codec._pictures.analyze(picture, codec.describe((128, 192), 4.5)) for picture in pictures]
        encoders = [codec._tiles.encoder() for _ in pictures]
        y_hat = codec._tiles.encode(np.concatenate(y), 4.5, encoders)
        np.testing.assert_array_equal(y_hat, np.concatenate(alone))
        assert [codec._tiles.finish(encoder) for encoder in encoders] == payloads
        cut = [payloads[0], payloads[1][:-9], payloads[2]]
        with pytest.raises(BitstreamError):
            codec._tiles.decode(cut, part, 4.5)


def test_exact_graphs_stay_exact_for_any_symbols(codecs: dict[str, Codec]) -> None:
    """Symbols as large as the coder allows, which no picture has: still integers, the same on every engine."""
    rng = np.random.default_rng(1)
    n = codecs["torch"].bundle.config.hyper_channels
    z = rng.choice(np.array([-127, 0, 127], np.int16), (1, n, 2, 1))
    results = []
    for one in codecs.values():
        seed = np.random.default_rng(2)

        def code(start: int, stop: int, parity: int, indexes: Any, means: Any, seed: Any = seed) -> Any:
            assert indexes.max() < 64
            np.testing.assert_array_equal(means, np.rint(means))
            return seed.choice(np.array([-32767, -5, 0, 5, 32767], np.int16), indexes.shape)

        results.append(one._tiles.latents.walk(z, code))
    assert len(exact_graphs(codecs["torch"].bundle.config)) == 11
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("parity", [0, 1])
def test_packing_is_the_documented_one(parity: int) -> None:
    y = np.arange(2 * 4 * 8, dtype=np.float32).reshape(1, 2, 4, 8)
    v = packed(y, parity)
    assert v.shape == (1, 2, 4, 4)
    for r in range(2):
        for c in range(4):
            assert v[0, 1, r, c] == y[0, 1, 2 * r, 2 * c + parity]
            assert v[0, 1, 2 + r, c] == y[0, 1, 2 * r + 1, 2 * c + 1 - parity]
    back = np.full_like(y, -1)
    unpack(back, parity, v)
    rows, columns = np.indices((4, 8))
    np.testing.assert_array_equal(back, np.where((rows + columns) % 2 == parity, y, -1))


def test_an_unknown_engine(bundle_path: Path) -> None:
    with pytest.raises(InputError, match=r"onnxruntime, torch, tensorrt, .*, found 'magic'"):
        Codec.open(bundle_path, "magic")
    with pytest.raises((EngineError, DependencyError), match="tensorrt"):
        Codec.open(bundle_path, "tensorrt")


def test_auto_is_an_engine(bundle_path: Path) -> None:
    with Codec.open(bundle_path) as opened:
        assert opened.backend in ENGINES


# --- what is refused


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 3), np.uint16), "uint16"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        ([[[0, 0, 0]]], "list"),
        (np.zeros((0, 8, 3), np.uint8), "8x0"),
    ],
)
def test_wrong_pictures(codec: Codec, image: Any, found: str) -> None:
    for call in (codec.compress, codec.reconstruct):
        with pytest.raises(InputError, match=found):
            call(image)


@pytest.mark.parametrize("quality", [0, 0.99, 8.01, -1, float("nan"), float("inf")])
def test_wrong_qualities(codec: Codec, small_photograph: Pixels, quality: float) -> None:
    with pytest.raises(InputError, match="quality"):
        codec.compress(small_photograph, quality)


@pytest.mark.parametrize("tile", [-64, 1, 100])
def test_wrong_tiles(codec: Codec, small_photograph: Pixels, tile: int) -> None:
    with pytest.raises(InputError, match="tile size"):
        codec.compress(small_photograph, tile=tile)


def test_a_stream_of_another_bundle(codec: Codec, small_photograph: Pixels) -> None:
    stream = replace(parse(codec.compress(small_photograph)), fingerprint=b"01234567", variant="hybrid")
    with pytest.raises(BitstreamError) as caught:
        codec.decompress(pack(stream))
    assert caught.value.field == "fingerprint"
    message = str(caught.value)
    assert codec.bundle.fingerprint[:FINGERPRINT_SIZE].hex() in message
    assert b"01234567".hex() in message
    assert "hybrid-tiny" in message
    assert "--bundle" in message


def craft(codec: Codec, change: Callable[[Any], Any], *, more: bool = False) -> bytes:
    """A well-formed stream of a 64 x 64 picture at quality 4 whose z symbols are ``change`` of zeros."""
    config, encoder = codec.bundle.config, Encoder(codec._tiles.tables)
    z_indexes = codec.bundle.gains.at(4)[3]
    indexes = z_indexes.reshape(1, -1, 1, 1).copy()
    z_symbols = change(np.zeros(indexes.shape, np.int16))
    encoder.push(z_symbols, indexes)

    def code(start: int, stop: int, parity: int, indexes: Any, means: Any) -> Any:
        symbols = np.zeros(indexes.shape, np.int16)
        encoder.push(symbols, indexes)
        return symbols

    codec._tiles.latents.walk(np.clip(z_symbols, -127, 127), code)
    if more:
        encoder.push(np.ones(5, np.int16), np.full(5, 30, np.uint8))
    return pack(
        Stream(
            width=64,
            height=64,
            variant=config.variant,
            preset=config.preset,
            quality=4.0,
            tile=0,
            fingerprint=codec.bundle.fingerprint[:FINGERPRINT_SIZE],
            tiles=(encoder.finish(),),
        )
    )


@pytest.mark.parametrize("value", [128, -128, 300, 32767, -32767])
def test_hyper_latents_outside_the_proven_range(codec: Codec, value: int) -> None:
    channel = int(np.argmax(codec.bundle.gains.at(4)[3]))  # one whose symbols are coded

    def change(z_symbols: Any) -> Any:
        z_symbols[0, channel] = value
        return z_symbols

    with pytest.raises(BitstreamError) as caught:
        codec.decompress(craft(codec, change))
    assert (caught.value.field, caught.value.found) == ("hyper-latent", abs(value))


@pytest.mark.parametrize("value", [0, 127, -127])
def test_hyper_latents_at_the_end_of_the_range(codec: Codec, value: int) -> None:
    channel = int(np.argmax(codec.bundle.gains.at(4)[3]))

    def change(z_symbols: Any) -> Any:
        z_symbols[0, channel] = value
        return z_symbols

    assert codec.decompress(craft(codec, change)).shape == (64, 64, 3)


def test_symbols_after_the_last(codec: Codec) -> None:
    with pytest.raises(BitstreamError) as caught:
        codec.decompress(craft(codec, lambda z_symbols: z_symbols, more=True))
    assert caught.value.field in ("coder words", "coder body", "coder final state")


def test_max_pixels(bundle_path: Path, codec: Codec, small_photograph: Pixels) -> None:
    data = codec.compress(small_photograph)
    with Codec.open(bundle_path, "onnxruntime", threads=1, max_pixels=128 * 192 - 1) as strict:
        with pytest.raises(BitstreamError) as caught:
            strict.decompress(data)
        assert caught.value.field == "dimensions"
        assert not strict._networks._runners  # nothing was loaded, let alone allocated
    with Codec.open(bundle_path, "onnxruntime", threads=1, max_pixels=128 * 192) as exact:
        assert exact.decompress(data).shape == (128, 192, 3)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_what_is_no_stream(codec: Codec, data: bytes) -> None:
    with pytest.raises(BitstreamError):
        codec.decompress(data)


def test_pixels_saturate(codec: Codec) -> None:
    """Latents that no picture has may give any values: they are clipped, not wrapped around."""
    x_hat = np.array([-1e9, -0.01, 0.0, 0.5 / 255, 1.5 / 255, 254.6 / 255, 1.01, 1e9], np.float32)
    image = to_pixels(np.tile(x_hat, (1, 3, 1, 1)), 1, 8)
    for channel in range(3):
        assert image[0, :, channel].tolist() == [0, 0, 0, 0, 2, 255, 255, 255]
    m = codec.bundle.config.latent_channels
    inverse_gain = codec.bundle.gains.at(1.0)[2]
    y_hat = np.full((1, m, 4, 4), 16 * 32767 + 32752, np.float32)
    wild = codec._networks["g_s"]({"y_hat": y_hat, "inverse_gain": inverse_gain})["x_hat"]
    assert np.isfinite(wild).all()


# --- several streams


def test_several_streams_overlap_and_give_what_each_gives_alone(codec: Codec, photograph: Pixels) -> None:
    pictures = [window(photograph, *size) for size in ((64, 64), (7, 5), (200, 130), (65, 63))]
    streams = [codec.compress(image, quality) for image, quality in zip(pictures, (1, 4, 8, 2.5), strict=True)]
    together = list(codec.decompress_all(iter(streams)))
    assert len(together) == len(streams)
    for data, pixels in zip(streams, together, strict=True):
        np.testing.assert_array_equal(pixels, codec.decompress(data))
    assert list(codec.decompress_all([])) == []


def test_a_bad_stream_among_several_raises_in_its_place(codec: Codec, photograph: Pixels) -> None:
    data = codec.compress(window(photograph, 64, 64))
    pictures = codec.decompress_all([data, data, data[:-3], data])
    np.testing.assert_array_equal(next(pictures), next(pictures))
    with pytest.raises(BitstreamError):
        next(pictures)

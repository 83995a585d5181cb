"""zarr's arrays of ``.s2c`` chunks, in both formats, found by entry points."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import require

from s2c_deploy.arrays import Pixels
from s2c_deploy.codec.codec import Codec
from s2c_deploy.errors import InputError

FORMATS = pytest.mark.parametrize("form", [2, 3])


@pytest.fixture(autouse=True)
def bundle(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2C_BUNDLE", str(bundle_path))


@pytest.fixture(scope="module")
def zarr() -> Any:
    return require("zarr")


@pytest.fixture(scope="module")
def numcodecs() -> Any:
    return require("numcodecs")


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    with Codec.open(bundle_path) as opened:
        yield opened


def coding(form: int, **settings: object) -> dict[str, Any]:
    """Options of ``create_array``, by the codec's name only."""
    if form == 2:
        return {"zarr_format": 2, "compressors": {"id": "s2c", **settings}}
    return {"zarr_format": 3, "compressors": None, "serializer": {"name": "s2c", "configuration": settings}}


def test_the_entry_points() -> None:
    found = {(point.group, point.value) for point in metadata.entry_points(name="s2c")}
    assert found >= {
        ("numcodecs.codecs", "s2c_deploy.chunks.numcodecs:S2C"),
        ("zarr.codecs", "s2c_deploy.chunks.zarr:S2CCodec"),
    }


@FORMATS
def test_an_array(form: int, zarr: Any, codec: Codec, small_photograph: Pixels, tmp_path: Path) -> None:
    picture = small_photograph[:100, :150]
    made = zarr.create_array(
        tmp_path / "a.zarr", shape=picture.shape, chunks=(64, 96, 3), dtype="uint8", **coding(form, quality=5, tile=64)
    )
    made[:] = picture
    found = zarr.open_array(tmp_path / "a.zarr", mode="r")[:]
    padded = np.zeros((128, 192, 3), np.uint8)  # a chunk at the border is filled up with zeros
    padded[:100, :150] = picture
    for top in (0, 64):
        for left in (0, 96):
            data = codec.compress(np.ascontiguousarray(padded[top : top + 64, left : left + 96]), 5, tile=64)
            name = f"{top // 64}.{left // 96}.0" if form == 2 else f"c/{top // 64}/{left // 96}/0"
            assert (tmp_path / "a.zarr" / name).read_bytes() == data
            padded[top : top + 64, left : left + 96] = codec.decompress(data)
    np.testing.assert_array_equal(found, padded[:100, :150])
    assert np.abs(found.astype(int) - picture).mean() < 10


@FORMATS
def test_axes_before_the_picture(form: int, zarr: Any, small_photograph: Pixels) -> None:
    made = zarr.create_array(
        {}, shape=(2, 3, 64, 64, 3), chunks=(1, 1, 64, 64, 3), dtype="uint8", fill_value=7, **coding(form, quality=8)
    )
    made[1, 2] = small_photograph[:64, :64]
    assert np.abs(made[1, 2].astype(int) - small_photograph[:64, :64]).mean() < 5
    assert (made[0] == 7).all(), "which was never written"


def test_planes_with_a_filter(zarr: Any, codec: Codec, small_photograph: Pixels, tmp_path: Path) -> None:
    """3 x H x W, which zarr transposes before the codec sees it; without the filter it is no picture."""
    planes = small_photograph[:64, :96].transpose(2, 0, 1)
    sizes = {"shape": planes.shape, "chunks": planes.shape, "dtype": "uint8"}
    order = {"name": "transpose", "configuration": {"order": [1, 2, 0]}}
    made = zarr.create_array(tmp_path / "a", **sizes, filters=[order], **coding(3))
    made[:] = planes
    right = codec.decompress(codec.compress(np.ascontiguousarray(small_photograph[:64, :96])))
    np.testing.assert_array_equal(made[:].transpose(1, 2, 0), right)
    plain = zarr.create_array({}, **sizes, **coding(3))
    with pytest.raises(InputError, match="uint8 of height x width x 3"):
        plain[:] = planes


def test_shards(zarr: Any, small_photograph: Pixels) -> None:
    made = zarr.create_array(
        {}, shape=(128, 192, 3), chunks=(64, 64, 3), shards=(128, 128, 3), dtype="uint8", **coding(3)
    )
    made[:] = small_photograph
    assert np.abs(made[70:90, 100:180].astype(int) - small_photograph[70:90, 100:180]).mean() < 10


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((64, 64), "uint8"), ((64, 64, 4), "uint8"), ((2, 64, 64, 3), "uint8"), ((64, 64, 3), "uint16")],
)
def test_chunks_that_are_no_pictures(shape: tuple[int, ...], dtype: str, zarr: Any) -> None:
    with pytest.raises(InputError, match="uint8 of height x width x 3"):
        zarr.create_array({}, shape=shape, chunks=shape, dtype=dtype, **coding(3))
    made = zarr.create_array({}, shape=shape, chunks=shape, dtype=dtype, **coding(2))  # nobody asks the codec there
    with pytest.raises(InputError, match="uint8 of height x width x 3"):
        made[:] = np.ones(shape, dtype)


@FORMATS
@pytest.mark.parametrize("settings", [{"quality": 9}, {"tile": 65}, {"tile": "64"}, {"level": 3}, {"quality": None}])
def test_settings_that_are_none(form: int, settings: dict[str, object], zarr: Any) -> None:
    with pytest.raises(InputError, match=r"quality|tile"):
        zarr.create_array({}, shape=(64, 64, 3), chunks=(64, 64, 3), dtype="uint8", **coding(form, **settings))


@FORMATS
def test_column_order(form: int, zarr: Any, small_photograph: Pixels) -> None:
    """Format 2 reads bytes back in the array's order, of which the decoder knows nothing; format 3 does not."""
    with zarr.config.set({"array.order": "F"}):
        order = {"order": "F"} if form == 2 else {}
        made = zarr.create_array({}, shape=(64, 96, 3), chunks=(64, 96, 3), dtype="uint8", **order, **coding(form))
        if form == 2:
            with pytest.raises(InputError, match="column order"):
                made[:] = small_photograph[:64, :96]
            return
        made[:] = np.asfortranarray(small_photograph[:64, :96])
        assert np.abs(made[:].astype(int) - small_photograph[:64, :96]).mean() < 10


@FORMATS
def test_damage(form: int, zarr: Any, small_photograph: Pixels, tmp_path: Path) -> None:
    made = zarr.create_array(tmp_path / "a", shape=(64, 64, 3), chunks=(64, 64, 3), dtype="uint8", **coding(form))
    made[:] = small_photograph[:64, :64]
    path = tmp_path / "a" / ("0.0.0" if form == 2 else "c/0/0/0")
    data = path.read_bytes()
    other = zarr.create_array(tmp_path / "b", shape=(32, 64, 3), chunks=(32, 64, 3), dtype="uint8", **coding(form))
    other[:] = small_photograph[:32, :64]
    foreign = (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    for damaged in (data[:-1], b"", data[:50] + bytes([data[50] ^ 1]) + data[51:], foreign):
        path.write_bytes(damaged)
        with pytest.raises(Exception, match=r"bad stream|reshape"):
            made[:]


def test_a_numcodecs_codec(numcodecs: Any, codec: Codec, small_photograph: Pixels) -> None:
    made = numcodecs.get_codec({"id": "s2c", "quality": 5.01, "tile": np.int64(64)})
    assert json.loads(json.dumps(made.get_config())) == {"id": "s2c", "quality": 5, "tile": 64}
    assert repr(made) == "S2C(quality=5, tile=64)"
    for twin in (numcodecs.get_codec(made.get_config()), pickle.loads(pickle.dumps(made))):
        assert twin == made
    assert made != numcodecs.get_codec({"id": "s2c"})
    data = made.encode(small_photograph)
    assert data == codec.compress(small_photograph, 5, tile=64)
    right = codec.decompress(data)
    np.testing.assert_array_equal(made.decode(data), right)
    out = np.empty_like(right)
    assert made.decode(np.frombuffer(data, np.uint8), out) is out
    np.testing.assert_array_equal(out, right)
    with pytest.raises(InputError, match="out: expected"):
        made.decode(data, out[1:])
    with pytest.raises(InputError, match="numpy array, found bytes"):
        made.encode(b"123")


def test_a_codec_of_format_3(zarr: Any) -> None:
    from s2c_deploy.chunks.zarr import S2CCodec

    made = S2CCodec(quality=5.01)
    assert made.to_dict() == {"name": "s2c", "configuration": {"quality": 5, "tile": 0}}
    for twin in (S2CCodec.from_dict(made.to_dict()), pickle.loads(pickle.dumps(made))):
        assert twin == made
    array = zarr.create_array({}, shape=(64, 64, 3), chunks=(64, 64, 3), dtype="uint8", serializer=made)
    assert array.serializer == made
    assert S2CCodec.from_dict({"name": "s2c"}) == S2CCodec()


def test_decoding_into_an_array(numcodecs: Any, codec: Codec, small_photograph: Pixels, bundle_path: Path) -> None:
    coder = numcodecs.get_codec({"id": "s2c", "quality": 3})
    stream = coder.encode(small_photograph[:64, :48])
    expected = coder.decode(stream)
    for out in (np.empty((64, 48, 3), np.uint8), np.empty(64 * 48 * 3, np.uint8), bytearray(64 * 48 * 3)):
        assert coder.decode(stream, out=out) is out
        np.testing.assert_array_equal(np.frombuffer(out, np.uint8).reshape(expected.shape), expected)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((64, 48, 3), np.uint8, order="F"),
        *(np.empty((48, 64, 3), np.uint8), np.empty((64, 48, 3), np.int8), np.empty((8, 48, 3), np.float64)),
        *(np.empty((8, 8, 3), np.uint8), bytes(64 * 48 * 3), np.empty((64, 96, 3), np.uint8)[:, ::2]),
    ],
)
def test_what_pixels_cannot_go_into(
    out: Any, numcodecs: Any, small_photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s2c_deploy.chunks import numcodecs as module

    coder = numcodecs.get_codec({"id": "s2c", "quality": 3})
    stream = coder.encode(small_photograph[:64, :48])
    monkeypatch.setattr(module, "decode", lambda data: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"out: expected uint8 of \(64, 48, 3\)"):
        coder.decode(stream, out=out)

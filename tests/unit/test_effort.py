"""The encoder's search: ordinary streams, never worse than without, the same every time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2c_deploy.arrays import FloatArray, Pixels
from s2c_deploy.codec import targets
from s2c_deploy.codec.choice import Choice
from s2c_deploy.codec.codec import Codec
from s2c_deploy.codec.search import MAX_EFFORT, Search, check_effort
from s2c_deploy.codec.targets import Request, compress_to_psnr, compress_to_size
from s2c_deploy.effort.refine import STEPS, Refiner, annealed
from s2c_deploy.effort.relaxed import RelaxedDecoder
from s2c_deploy.errors import InputError
from s2c_deploy.formats.bitstream import parse
from s2c_deploy.metrics import psnr
from s2c_deploy.models.entropy_model import pack_anchors, pack_nonanchors, unpack


@pytest.fixture(scope="module")
def codec(bundle_path: Path) -> Iterator[Codec]:
    """Whose searches take the same steps on every processor: in float32."""
    with pytest.MonkeyPatch.context() as patch, Codec.open(bundle_path, "onnxruntime", threads=1) as opened:
        patch.setattr("s2c_deploy.effort.refine.multiplies_bfloat16", lambda: False)
        yield opened


@pytest.fixture(scope="module")
def picture(small_photograph: Pixels) -> Pixels:
    return np.ascontiguousarray(small_photograph[:70, :100])


def cost(codec: Codec, picture: Pixels, data: bytes) -> float:
    """The trade-off that the model was trained for, in bits, of a stream as it is."""
    stream = parse(data)
    lmbda = np.interp(stream.quality - 1, range(8), np.log(codec.bundle.config.lmbdas))
    error = (codec.decompress(data).astype(float) - picture) ** 2
    return float(8 * sum(map(len, stream.tiles)) + np.exp(lmbda) * error.sum() / 3)


# --- effort 1


def test_the_choice_is_the_cheaper_of_two(codec: Codec) -> None:
    rng = np.random.default_rng(0)
    tables, weight = codec.bundle.tables, 30.0
    values = (8 * rng.standard_normal(3000)).astype(np.float32)
    indexes = rng.integers(1, 64, 3000).astype(np.uint8)
    nearest = np.rint(values).astype(np.int16)
    chosen = Choice(tables, weight)(values, nearest, indexes)
    for value, symbol, index, found in zip(values, nearest, indexes, chosen, strict=True):
        candidates = [symbol, symbol - np.sign(symbol)]
        costs = [
            tables.ideal_bits(np.array([c], np.int16), np.array([index], np.uint8)) + weight * (value - c) ** 2
            for c in candidates
        ]
        assert costs[candidates.index(found)] <= min(costs) + 1e-3
    assert (chosen != nearest).any()


def test_large_symbols_stay(codec: Codec) -> None:
    values = np.array([32.4, -900.4, 31.4, 0.4], np.float32)
    nearest = np.rint(values).astype(np.int16)
    found = Choice(codec.bundle.tables, 0)(values, nearest, np.full(4, 40, np.uint8))
    assert found.tolist() == [32, -900, 30, 0]


@pytest.mark.parametrize("tile", [0, 64])
def test_effort_1_has_fewer_bytes(codec: Codec, picture: Pixels, tile: int) -> None:
    plain, chosen = (codec.compress(picture, 3, tile=tile, effort=effort) for effort in (0, 1))
    assert len(chosen) < len(plain)
    assert cost(codec, picture, chosen) < 1.01 * cost(codec, picture, plain)
    assert codec.compress(picture, 3, tile=tile, effort=1) == chosen


# --- the relaxed decoder


@pytest.fixture(scope="module")
def relaxed(codec: Codec) -> RelaxedDecoder:
    return RelaxedDecoder(codec.bundle)


def latents(codec: Codec, picture: Pixels, quality: float) -> tuple[FloatArray, FloatArray]:
    y = codec._pictures.analyze(picture, codec.describe(picture.shape[:2], quality))
    return y, codec._tiles.hyper(y, quality)


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_at_integers_it_is_the_decoder(codec: Codec, relaxed: RelaxedDecoder, picture: Pixels, quality: float) -> None:
    """The same y_hat bit for bit, the picture up to rounding, and the bits that the tables make of the symbols."""
    y, z = latents(codec, picture, quality)
    with torch.no_grad():
        found = relaxed.latent(torch.from_numpy(y), torch.from_numpy(z), quality, torch.round)
        x_hat = (
            relaxed.synthesize(found.y_hat, quality, bfloat16=False)[0, :, :70, :100]
            .clamp(0, 1)
            .numpy()
            .transpose(1, 2, 0)
        )
    data = codec.compress(picture, quality)
    (expected,) = codec.read_latents(parse(data))
    np.testing.assert_array_equal(found.y_hat.numpy(), expected)
    assert np.abs(np.rint(255 * x_hat) - codec.decompress(data)).max() <= 1
    symbols, indexes = codec.symbols(picture, quality)
    assert float(found.bits) == pytest.approx(codec.bundle.tables.ideal_bits(symbols, indexes), rel=0.02)


def test_gradients_pass_the_integer_networks(relaxed: RelaxedDecoder, codec: Codec, picture: Pixels) -> None:
    """The hyper-latent has no bits of its own here, and yet the rate of y depends on it."""
    y, z = (torch.from_numpy(array).requires_grad_() for array in latents(codec, picture, 4))
    found = relaxed.latent(y, z, 4, lambda v: v)
    (of_y, of_z) = torch.autograd.grad(found.bits, [y, z])
    assert of_y.isfinite().all()
    assert of_z.isfinite().all()
    # Later groups are predicted from the first one.
    assert (of_y[:, :8] != 0).float().mean() > 0.5
    assert (of_z != 0).float().mean() > 0.5


def test_packing() -> None:
    y = torch.arange(48.0).reshape(1, 2, 4, 6)
    assert pack_anchors(y)[0, 0].tolist() == [[0, 2, 4], [12, 14, 16], [7, 9, 11], [19, 21, 23]]
    torch.testing.assert_close(unpack(pack_anchors(y), pack_nonanchors(y)), y)


# --- the search


def test_annealing() -> None:
    """Always between the neighbours, on average the value when hot, and the nearer of them when cold."""
    v = torch.linspace(-3, 3, 601)
    hot, cold = (annealed(t, torch.Generator().manual_seed(0)) for t in (0.5, 0.03))
    for quantize, _ in itertools.product((hot, cold), range(20)):
        out = quantize(v)
        assert ((out >= torch.floor(v)) & (out <= torch.floor(v) + 1)).all()
    assert not torch.equal(hot(v), hot(v)), "there is chance in it"
    inside = (v - torch.floor(v) - 0.5).abs() > 0.2
    torch.testing.assert_close(cold(v)[inside], torch.round(v)[inside], atol=0.05, rtol=0)


@pytest.mark.parametrize(("quality", "tile"), [(2, 0), (6, 0), (4, 64)])
def test_it_is_never_worse_and_always_the_same(codec: Codec, picture: Pixels, quality: float, tile: int) -> None:
    plain = codec.compress(picture, quality, tile=tile)
    search = Search()
    found = codec.compress(picture, quality, tile=tile, effort=3, search=search)
    assert cost(codec, picture, found) < cost(codec, picture, plain)
    assert search.after < search.before
    assert search.steps == STEPS[3] * len(parse(plain).tiles)
    assert codec.compress(picture, quality, tile=tile, effort=3) == found
    assert parse(found).seamless == bool(tile)


def test_what_it_says_is_what_it_does(codec: Codec, picture: Pixels) -> None:
    """Costs before and after are those of the streams, but for a coder's overhead and pixels' rounding."""
    search = Search()
    found = codec.compress(picture, 5, effort=3, search=search)
    assert search.before == pytest.approx(cost(codec, picture, codec.compress(picture, 5)), rel=0.02)
    assert search.after == pytest.approx(cost(codec, picture, found), rel=0.02)


def test_steps_in_bfloat16_find_as_much(bundle_path: Path, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are of float32 in both; without instructions for bfloat16 PyTorch emulates it."""
    found = {}
    for bfloat16 in (False, True):
        monkeypatch.setattr("s2c_deploy.effort.refine.multiplies_bfloat16", lambda given=bfloat16: given)
        with Codec.open(bundle_path, "onnxruntime", threads=1) as codec:
            found[bfloat16] = Search()
            data = codec.compress(picture, 5, effort=3, search=found[bfloat16])
            assert found[bfloat16].after == pytest.approx(cost(codec, picture, data), rel=0.03)
    assert found[True].before == pytest.approx(found[False].before, rel=1e-6)
    assert found[True].after != found[False].after
    gains = [search.before - search.after for search in found.values()]
    assert gains[1] == pytest.approx(gains[0], rel=0.25)


def test_a_search_that_finds_nothing(codec: Codec, picture: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there to begin with is kept."""
    monkeypatch.setattr("s2c_deploy.effort.refine._RATES", (3.0, 3.0, 3.0))
    search = Search()
    assert codec.compress(picture, 4, effort=2, search=search) == codec.compress(picture, 4)
    assert search.before == search.after


def test_progress(codec: Codec, picture: Pixels) -> None:
    told: list[tuple[float, int, float]] = []
    codec.compress(picture, 4, tile=64, effort=2, search=Search(told=lambda *step: told.append(step)))
    assert len(told) == 4 * STEPS[2]
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert 3 < told[-1][0] <= told[-1][1] == 4
    assert all(0 < left <= 1 for _, _, left in told)


@pytest.mark.parametrize("effort", [-1, MAX_EFFORT + 1, 1.5, "3", None, True])
def test_efforts_that_are_none(codec: Codec, picture: Pixels, effort: Any) -> None:
    with pytest.raises(InputError, match="effort: expected 0 to 9"):
        check_effort(effort)
    with pytest.raises(InputError, match="effort: expected 0 to 9"):
        codec.compress(picture, effort=effort)


def test_models_of_another_objective(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = replace(codec.bundle, config=replace(codec.bundle.config, objective="ms-ssim"))
    with pytest.raises(InputError, match="expected a model trained for MSE"):
        Refiner(bundle)


def test_trade_offs_between_levels(codec: Codec) -> None:
    refiner, lmbdas = Refiner(codec.bundle), codec.bundle.config.lmbdas
    assert refiner.lmbda(1) == pytest.approx(lmbdas[0])
    assert refiner.lmbda(8) == pytest.approx(lmbdas[7])
    assert refiner.lmbda(2.5) == pytest.approx((lmbdas[1] * lmbdas[2]) ** 0.5)


# --- targets


@pytest.mark.parametrize("effort", [0, 1, 2])
def test_a_size_is_never_passed(codec: Codec, picture: Pixels, effort: int) -> None:
    sizes = [len(codec.compress(picture, quality)) for quality in (2, 5)]
    for wanted in (*sizes, sizes[0] + 1, sizes[1] - 1):
        hit = compress_to_size(codec, picture, wanted, Request(effort=effort), Search())
        assert len(hit.data) <= wanted
        assert parse(hit.data).quality == hit.quality
        if not effort:
            assert hit.quality == 8 or len(codec.compress(picture, hit.quality + 1 / 32)) > wanted
        # What is left would not have been enough for much.
        assert len(hit.data) > 0.85 * wanted


def test_metadata_count(codec: Codec, picture: Pixels) -> None:
    wanted = len(codec.compress(picture, 3)) + 108
    hit = compress_to_size(codec, picture, wanted, Request(icc=b"i" * 100, tile=128), Search())
    assert (hit.quality, len(hit.data)) == (3, wanted)
    assert parse(hit.data).icc == b"i" * 100


@pytest.mark.parametrize("effort", [0, 2])
def test_decibels(codec: Codec, picture: Pixels, effort: int) -> None:
    for wanted in (37.0, 40.5):
        hit = compress_to_psnr(codec, picture, wanted, Request(effort=effort), Search())
        assert psnr(picture, codec.decompress(hit.data)) == pytest.approx(wanted, abs=0.05 if not effort else 0.15)


def test_a_search_for_decibels_that_ends_without_any_error(
    codec: Codec, picture: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flat picture may come back as it was: it has no end of decibels."""
    compress = codec.compress
    asked: list[tuple[float, int]] = []

    def noted(image: Pixels, quality: float, *, effort: int, **options: Any) -> bytes:
        asked.append((quality, effort))
        return compress(image, quality, **options)

    def level(image: Pixels, decoded: Pixels) -> float:
        quality, effort = asked[-1]
        return float("inf") if effort >= 2 else 20 + quality

    monkeypatch.setattr(codec, "compress", noted)
    monkeypatch.setattr(targets, "psnr", level)
    hit = compress_to_psnr(codec, picture[:64, :64], 24, Request(effort=2), Search())
    searched = [quality for quality, effort in asked if effort == 2]
    assert hit.quality == searched[0] == 4
    assert searched[1] == 1, "the coarsest there is has less"


def test_targets_that_cannot_be(codec: Codec, picture: Pixels) -> None:
    with pytest.raises(InputError, match="quality 1 has, found 40"):
        compress_to_size(codec, picture, 40, Request(), Search())
    with pytest.raises(InputError, match="dB, which quality 8 has, found 90"):
        compress_to_psnr(codec, picture, 90, Request(), Search())
    with pytest.raises(InputError, match="dB, which quality 1 has, found 3"):
        compress_to_psnr(codec, picture, 3, Request(), Search())

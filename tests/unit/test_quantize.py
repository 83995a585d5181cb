"""Integers in float32: held against plain int64 arithmetic, and against themselves on other kernels."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from s2c_deploy.contract import MEAN_LIMIT, MEAN_STEPS, Z_LIMIT
from s2c_deploy.errors import ExactnessError, ExportError
from s2c_deploy.export.exporter import exactness_proof
from s2c_deploy.models import S2CModel
from s2c_deploy.models.checkpoint import load_checkpoint
from s2c_deploy.models.entropy_model import CheckerboardConv
from s2c_deploy.presets import LMBDAS, ModelConfig
from s2c_deploy.quantize import activation_ranges, exact_model
from s2c_deploy.quantize.integer_conv import (
    EXACT_LIMIT,
    MAX_SHIFT,
    Grid,
    IntegerConv,
    floor_log2,
    grid_for,
    shrink,
)
from s2c_deploy.train.objective import rate_distortion_cost

ROOT = Path(__file__).resolve().parent.parent.parent
Ints = npt.NDArray[np.int64]

#: (input channels, kernel side, largest input integer) of every input; a checkerboard; smallest output integer;
#: largest weight
LAYERS = {
    "3x3": ([(5, 3, 127)], False, 0, 2047),
    "1x1": ([(40, 1, 1023)], False, -(2**15) + 1, 2047),
    "1x1 and 5x5": ([(12, 1, 255), (6, 5, 1023)], False, 0, 2047),
    "checkerboard": ([(3, 5, 1023)], True, -255, 2047),
    "1x1 and 5x5 of bytes": ([(12, 1, 255), (6, 5, 127)], False, 0, 127),
}
OUTPUTS = 7


def random_layer(kind: str, seed: int) -> IntegerConv:
    """Weights whose channels differ a thousandfold in size; one channel of next to nothing, one without weights."""
    inputs, checkerboard, low, largest = LAYERS[kind]
    g = torch.Generator().manual_seed(seed)
    sizes = torch.exp2(torch.randint(-6, 5, (OUTPUTS,), generator=g).float())
    sizes[0], sizes[1] = 0.0, 1e-6
    convs: list[nn.Conv2d] = []
    for channels, side, _ in inputs:
        plain = nn.Conv2d(channels, OUTPUTS, side, padding=side // 2)
        conv = CheckerboardConv(channels, OUTPUTS) if checkerboard else plain
        assert conv.bias is not None
        with torch.no_grad():
            conv.weight.copy_(torch.randn(conv.weight.shape, generator=g) * sizes[:, None, None, None])
            conv.bias.copy_(torch.randn(OUTPUTS, generator=g) * sizes)
        convs.append(conv)
    grids = [
        Grid(exponents=torch.randint(-2, 7, (channels,), generator=g).float(), limit=limit)
        for channels, _, limit in inputs
    ]
    # Outputs may reach 2^10 to 2^13 steps.
    reach = sum(
        (c.weight.abs() * torch.exp2(-grid.exponents)[None, :, None, None]).sum((1, 2, 3)) * grid.limit
        for c, grid in zip(convs, grids, strict=True)
    )
    assert isinstance(reach, Tensor)
    out = floor_log2(1000.0 / reach.detach().clamp_min(0.01)) + torch.randint(0, 4, (OUTPUTS,), generator=g)
    return IntegerConv("layer", convs, grids, largest_weight=largest, out=out, low=low, high=2**15 - 1).eval()


def random_inputs(layer: IntegerConv, seed: int, height: int = 6, width: int = 5) -> list[Tensor]:
    """Integers over the whole range, with many at its ends."""
    rng = np.random.default_rng(seed)
    inputs = []
    for conv, limit in zip(layer.convs, layer.limits, strict=True):
        assert isinstance(conv, nn.Conv2d)
        x = rng.integers(-limit * 3 // 2, limit * 3 // 2, (2, conv.in_channels, height, width))
        inputs.append(torch.from_numpy(np.clip(x, -limit, limit)).float())
    return inputs


def sums(layer: IntegerConv, inputs: list[Tensor]) -> Ints:
    """The sums of a layer before its shift, in plain int64."""
    exact = layer.integers()
    n, _, height, width = inputs[0].shape
    acc = np.zeros((n, OUTPUTS, height, width), np.int64)
    acc += whole(exact.bias)[:, None, None]
    for x, weight in zip(inputs, exact.weights, strict=True):
        w, side = whole(weight), weight.shape[-1]
        padded = np.pad(whole(x), ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        for i in range(side):
            for j in range(side):
                window = padded[:, :, i : i + height, j : j + width]
                acc += (w[None, :, :, i, j, None, None] * window[:, None]).sum(2)
    return acc


def whole(x: Tensor) -> Ints:
    """A tensor of whole numbers as int64; fails if they are not."""
    array = x.detach().double().numpy()
    out: Ints = array.astype(np.int64)
    assert (out == array).all()
    return out


# IntegerConv


@pytest.mark.parametrize("kind", LAYERS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
@torch.no_grad()
def test_a_layer_is_plain_integer_arithmetic(kind: str, seed: int) -> None:
    layer = random_layer(kind, seed)
    inputs = random_inputs(layer, seed)
    shifts = whole(layer.integers().shifts)[:, None, None]
    assert (shifts >= 0).all()
    assert (shifts <= MAX_SHIFT).all()
    expected = np.clip(sums(layer, inputs) >> shifts, layer.low, layer.high)
    found = layer(*inputs)
    assert (whole(found) == expected).all()
    assert len(np.unique(expected)) > 20


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_a_layer_comes_near_the_real_convolution(kind: str) -> None:
    """Within what rounding every weight and the result can cost."""
    layer = random_layer(kind, 3)
    inputs = random_inputs(layer, 3)
    real = torch.zeros(1)
    exponents = layer.integers().shifts + layer.out_exponents
    error = torch.full((OUTPUTS,), 0.5)  # of the bias
    for i, (conv, x, limit) in enumerate(zip(layer.convs, inputs, layer.limits, strict=True)):
        in_exponents = getattr(layer, f"in_exponents_{i}")
        real = real + conv.double()(x.double() * torch.exp2(-in_exponents.double())[None, :, None, None])
        error = error + 0.5 * limit * conv.weight[0].numel()
    steps = torch.exp2(layer.out_exponents.double())[None, :, None, None]
    allowed = (error / torch.exp2(exponents))[None, :, None, None] * steps + 0.5001
    assert (((real * steps).clamp(layer.low, layer.high) - layer(*inputs)).abs() <= allowed).all()


@torch.no_grad()
def test_requantising_rounds_halves_up() -> None:
    """A weight of 1, from steps of 1/16 to steps of 1/4 and a bias of 1/2: n/4 + 2, rounded."""
    conv = nn.Conv2d(1, 1, 1)
    conv.weight.fill_(1.0)
    conv.bias.fill_(0.5)  # type: ignore[union-attr]
    grid = Grid(exponents=torch.tensor([4.0]), limit=100)
    out = torch.tensor([2.0])
    layer = IntegerConv("layer", [conv], [grid], largest_weight=2047, out=out, low=-3, high=10).eval()
    n = torch.tensor([-100, -7, -6, -5, -2, -1, 0, 1, 2, 5, 6, 100.0]).reshape(1, 1, 1, -1)
    assert layer(n).flatten().tolist() == [-3, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 10]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_the_bound_is_reached_and_stays_exact(kind: str, seed: int) -> None:
    """Inputs with the signs of a channel's weights drive its sum to the bound, and no other input further."""
    layer = random_layer(kind, seed)
    exact = layer.integers()
    assert (exact.bound < EXACT_LIMIT).all()
    assert all(w.abs().max() <= layer.largest_weight for w in exact.weights)
    # The bits are used: no channel with weights of a usual size could take twice the weights.
    operands = torch.stack([w.abs().amax((1, 2, 3)) for w in exact.weights]).amax(0)
    usual = exact.shifts < MAX_SHIFT
    assert ((exact.bound * 2 >= EXACT_LIMIT * 0.9) | (operands * 2 >= layer.largest_weight - 1))[usual].all()
    for channel in range(OUTPUTS):
        sign = 1.0 if exact.bias[channel] >= 0 else -1.0
        inputs = []
        for weight, limit in zip(exact.weights, layer.limits, strict=True):
            margin = 2 - weight.shape[-1] // 2
            worst = torch.sign(weight[channel]) * sign * limit
            inputs.append(F.pad(worst, (margin,) * 4)[None])
        acc = sums(layer, inputs)
        assert abs(acc[0, channel, 2, 2]) == exact.bound[channel]
        assert (np.abs(acc) <= exact.bound.numpy()[:, None, None]).all()
        shifts = whole(exact.shifts)[:, None, None]
        assert (whole(layer(*inputs)) == np.clip(acc >> shifts, layer.low, layer.high)).all()
    assert (np.abs(sums(layer, random_inputs(layer, seed))) <= exact.bound.numpy()[:, None, None]).all()


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_the_order_and_the_width_of_sums_do_not_matter(kind: str) -> None:
    layer = random_layer(kind, 1)
    inputs = random_inputs(layer, 1, 16, 24)
    expected = layer(*inputs)
    wide = copy.deepcopy(layer).double().eval()
    assert torch.equal(wide(*(x.double() for x in inputs)), expected.double())
    exact = layer.integers()
    acc = exact.bias[None, :, None, None]
    for x, weight in zip(reversed(inputs), reversed(exact.weights), strict=True):
        order = torch.randperm(x.shape[1])
        # One channel after the other, in another order.
        for i in order.tolist():
            acc = acc + F.conv2d(x[:, i : i + 1], weight[:, i : i + 1], padding=weight.shape[-1] // 2)
    shifted = torch.floor(acc * torch.exp2(-exact.shifts)[None, :, None, None]).clamp(layer.low, layer.high)
    assert torch.equal(shifted, expected)


def test_training_ships_what_it_trains() -> None:
    """In training mode: the same values, gradients for every parameter, and new integers after a step."""
    layer = random_layer("1x1 and 5x5", 5)
    inputs = random_inputs(layer, 5)
    with torch.no_grad():
        expected = layer(*inputs)
    layer.train()
    found = layer(*inputs)
    assert torch.equal(found, expected)
    found.square().mean().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad[2:].ne(0).any()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter *= 0.5
        trained = layer(*inputs)
        assert not torch.equal(trained, expected)
        assert torch.equal(layer.eval()(*inputs), trained)


# what cannot be proven is refused


def hostile_layer(weight: float, bias: float, exponent: int) -> IntegerConv:
    conv = nn.Conv2d(4, 3, 3, padding=1)
    with torch.no_grad():
        conv.weight[1].fill_(weight)
        conv.bias[1] = bias  # type: ignore[index]
    grid = Grid(exponents=torch.zeros(4), limit=1023)
    out = torch.full((3,), float(exponent))
    return IntegerConv("hostile", [conv], [grid], largest_weight=2047, out=out, low=0, high=255)


@pytest.mark.parametrize(
    ("weight", "bias", "exponent"),
    [
        (1e4, 0.0, 4),
        (0.1, 1e9, 4),
        (3e38, 0.0, 4),
        (float("inf"), 0.0, -8),
        (float("nan"), 0.0, -8),
        (0.1, float("nan"), -8),
    ],
)
def test_hostile_weights_are_named_by_layer_and_channel(weight: float, bias: float, exponent: int) -> None:
    """Too large for the output's grid, or not numbers at all, however coarse the grid."""
    with pytest.raises(ExactnessError, match=r"layer hostile, channel 1: .* 2\^24"):
        hostile_layer(weight, bias, exponent).integers()


def test_the_proof_does_not_trust_the_choice_of_exponents(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = random_layer("3x3", 0)
    chosen = IntegerConv._exponents
    monkeypatch.setattr(IntegerConv, "_exponents", lambda *args: chosen(*args) + 12)
    with pytest.raises(ExactnessError, match=r"layer layer, channel \d: sums reach \d{8,} with a shift of \d+, "):
        layer.integers()


def test_a_hostile_model_is_refused_before_export() -> None:
    model, ranges = copy.deepcopy(small_model()), dict(small_ranges())
    with torch.no_grad():
        model.group_contexts[2].mix.weight[3] *= 1e7
    exact = exact_model(model, ranges)
    with pytest.raises(ExactnessError, match=r"layer context_2\.mix, channel 3"):
        exactness_proof(exact)


def test_a_channel_that_calibration_hardly_saw_gets_a_coarser_grid() -> None:
    model, ranges = copy.deepcopy(small_model()), dict(small_ranges())
    before = exact_model(model, ranges).group_contexts[2]
    ranges["2.mixed"] = ranges["2.mixed"].clone()
    ranges["2.mixed"][3] = 0.0
    with torch.no_grad():
        model.group_contexts[2].hyper.weight[3] = 32.0
    exact = exact_model(model, ranges)
    after = exact.group_contexts[2]
    exactness_proof(exact)
    assert after.input.integers().shifts[3] == 0
    others = torch.arange(len(ranges["2.mixed"])) != 3
    assert torch.equal(after.input.out_exponents[others], before.input.out_exponents[others])


def test_missing_ranges_are_all_named() -> None:
    ranges = {k: v for k, v in small_ranges().items() if k not in ("h_s.3", "2.mixed")}
    with pytest.raises(ExportError, match=r"expected ranges of 2\.mixed, h_s\.3, found none"):
        exact_model(small_model(), ranges)


# grids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floor_log2_is_exact_around_powers_of_two(dtype: torch.dtype) -> None:
    k = torch.arange(-120, 121)
    powers = torch.ldexp(torch.ones(len(k), dtype=dtype), k)
    assert torch.equal(floor_log2(powers), k.float())
    assert torch.equal(floor_log2(torch.nextafter(powers, torch.tensor(float("inf"), dtype=dtype))), k.float())
    assert torch.equal(floor_log2(torch.nextafter(powers, torch.tensor(0.0, dtype=dtype))), k.float() - 1)


def test_a_grid_is_the_finest_that_holds_its_values() -> None:
    rng = np.random.default_rng(0)
    for limit in (127, 255, 1023, 2**15 - 1):
        values = np.concatenate((limit * np.exp2(np.arange(-11.0, 8)), np.exp(rng.normal(3, 3, 200))))
        largest = torch.from_numpy(values).float().clamp_min(limit * 2.0**-11)
        steps = torch.exp2(grid_for(largest, limit).exponents.double())
        assert (largest.double() * steps <= limit).all()
        assert (largest.double() * steps * 2 > limit).all()
    # A channel that was never seen to say anything gets a fine grid, not an infinite one.
    assert grid_for(torch.zeros(1), 255).exponents.tolist() == [12]


def test_shrink_is_a_rounded_shift() -> None:
    y = np.arange(-5000, 5000)
    for shift in range(6):
        x = torch.from_numpy(y).float().reshape(1, 1, 1, -1)
        expected = np.clip((y + (1 << shift >> 1)) >> shift, -1023, 1023)
        assert (whole(shrink(x, torch.tensor([float(shift)]), 1023)).ravel() == expected).all()


# whole models

CONFIG = ModelConfig(
    variant="identity",
    preset="test",
    widths=(8, 8, 8),
    depths=(1, 1, 1),
    expansion=1,
    latent_channels=48,
    hyper_channels=16,
    context_width=24,
)


@lru_cache(maxsize=1)
def small_model() -> S2CModel:
    torch.manual_seed(0)
    model = S2CModel(CONFIG).eval()
    with torch.no_grad():
        for layer in (model.h_s, model.contexts):
            for conv in layer.modules():
                if isinstance(conv, nn.Conv2d):
                    conv.weight *= 2  # beyond what training starts with: more of the range is used
    return model


@lru_cache(maxsize=1)
def small_ranges() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return activation_ranges(small_model(), [torch.rand(1, 3, 64, 64, generator=g)])


@lru_cache(maxsize=1)
def small_exact() -> S2CModel:
    model = exact_model(small_model(), small_ranges())
    proof = exactness_proof(model)
    assert len(proof) == 3 + 5 * 7
    assert all(layer["bound"] < EXACT_LIMIT and layer["smallest_shift"] >= 0 for layer in proof.values())
    return model


@lru_cache(maxsize=1)
def small_exact_in_bytes() -> S2CModel:
    model = copy.deepcopy(small_model())
    model.config = dataclasses.replace(CONFIG, operand_bits=8)
    return exact_model(model, small_ranges())


@lru_cache(maxsize=1)
def small_exact_wide() -> S2CModel:
    return copy.deepcopy(small_exact()).double().eval()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def entropy_outputs(model: S2CModel, z: Tensor, y_hat: Tensor, memory: torch.memory_format) -> list[Tensor]:
    """Everything that the entropy networks say about a latent."""
    outputs = [model.h_s(z.contiguous(memory_format=memory))]
    start = 0
    for context, channels in zip(model.group_contexts, CONFIG.groups, strict=True):
        earlier = y_hat[:, :start].contiguous(memory_format=memory)
        current = y_hat[:, start : start + channels].contiguous(memory_format=memory)
        features = context.features(outputs[0], earlier)
        outputs += [features, context.anchor(features), context.nonanchor(features, current)]
        start += channels
    return outputs


LARGEST = 32767 + MEAN_LIMIT


def planes(shape: tuple[int, ...], limit: int, steps: int) -> st.SearchStrategy[Tensor]:
    """Random, at the ends of the range, all equal; in 1/steps."""

    def draw(seed: int, kind: str, value: int) -> Tensor:
        rng = np.random.default_rng(seed)
        if kind == "equal":
            x = np.full(shape, value)
        elif kind == "ends":
            x = rng.choice([-limit * steps, limit * steps], shape)
        elif kind == "usual":
            x = np.rint(rng.laplace(0, 2 * steps, shape))
        else:
            x = rng.integers(-limit * steps, limit * steps + 1, shape)
        return torch.from_numpy(np.clip(x, -limit * steps, limit * steps) / steps).float()

    kinds = st.sampled_from(["equal", "ends", "usual", "random"])
    return st.builds(draw, st.integers(0, 2**31), kinds, st.integers(-limit * steps, limit * steps))


# Looking at the switch, torch warns that there is no GPU for another of its settings.
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
@settings(max_examples=25, deadline=None)
@given(z=planes((1, 16, 2, 3), Z_LIMIT, 1), y_hat=planes((1, 48, 8, 12), LARGEST, MEAN_STEPS))
def test_every_kernel_gives_the_same_integers(z: Tensor, y_hat: Tensor) -> None:
    model, plain = small_exact(), torch.contiguous_format
    expected = entropy_outputs(small_exact_wide(), z.double(), y_hat.double(), plain)
    found = {}
    for count in (1, 2):
        with threads(count):
            found[f"{count} threads"] = entropy_outputs(model, z, y_hat, plain)
            found[f"{count} threads, channels last"] = entropy_outputs(model, z, y_hat, torch.channels_last)
    with torch.backends.mkldnn.flags(enabled=False):
        found["no oneDNN"] = entropy_outputs(model, z, y_hat, plain)
    for kernel, outputs in found.items():
        differing = [int((a != b).sum()) for a, b in zip(outputs, expected, strict=True)]
        assert sum(differing) == 0, kernel


@torch.no_grad()
def test_operands_of_eight_bits_fit_bytes() -> None:
    """Whatever comes in, no layer multiplies more than a byte holds; with eleven bits some do."""
    seen: list[Tensor] = []
    model = copy.deepcopy(small_exact_in_bytes())
    for module in model.modules():
        if isinstance(module, IntegerConv):
            module.register_forward_pre_hook(lambda _module, inputs: seen.extend(inputs))
            assert all(weight.abs().max() <= 127 for weight in module.integers().weights)
    g = torch.Generator().manual_seed(0)
    z = torch.randint(-Z_LIMIT, Z_LIMIT + 1, (1, 16, 2, 3), generator=g).float()
    y_hat = torch.randint(-LARGEST, LARGEST + 1, (1, 48, 8, 12), generator=g).float()
    assert max(weights_of(small_exact())) > 127
    entropy_outputs(model, z, y_hat, torch.contiguous_format)
    assert len(seen) >= 3 + 5 * 7
    assert all(((x >= 0) & (x <= 255)).all() or (x.abs() <= 127).all() for x in seen)
    assert max(float(x.max()) for x in seen) == 255


def weights_of(model: S2CModel) -> list[float]:
    """The largest weight of every layer."""
    layers = [module for module in model.modules() if isinstance(module, IntegerConv)]
    return [float(weight.abs().max()) for layer in layers for weight in layer.integers().weights]


@torch.no_grad()
def test_the_exact_second_pass_reads_anchors_only() -> None:
    context = small_exact().group_contexts[1]
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    anchors = (rows + columns) % 2 == 0
    g = torch.Generator().manual_seed(0)
    features = torch.randint(-9000, 9000, (1, 24, 8, 8), generator=g).float()
    current = torch.randint(-99, 99, (1, 8, 8, 8), generator=g).float()
    expected = context.nonanchor(features, current * anchors)
    assert torch.equal(context.nonanchor(features, torch.where(anchors, current, 500.0)), expected)
    assert not torch.equal(context.nonanchor(features, (current + 9) * anchors), expected)


@pytest.mark.parametrize("level", [0, 3, 7])
@torch.no_grad()
def test_integers_cost_few_bits(small_photograph: npt.NDArray[np.uint8], level: int) -> None:
    checkpoint = load_checkpoint(ROOT / "export" / "conv-tiny")
    exact = exact_model(checkpoint.model, checkpoint.ranges)
    x = torch.from_numpy(small_photograph).permute(2, 0, 1)[None].float() / 255
    in_float, in_integers = (model(x, torch.tensor([level])) for model in (checkpoint.model, exact))
    assert float(in_integers.bits / in_float.bits) == pytest.approx(1, abs=0.02)
    assert float(in_integers.bits) != float(in_float.bits)
    # Bits and distortion of one small picture go up and down against each other; what training minimises hardly moves.
    costs = [rate_distortion_cost(o, x, torch.tensor([LMBDAS[level]])).loss for o in (in_float, in_integers)]
    assert float(costs[1] / costs[0]) == pytest.approx(1, abs=0.015)

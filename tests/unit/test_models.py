"""The PyTorch models: shapes, reach, cost, causality of the entropy model, rates and gains."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from untrained import lively, small_config

from s2c_deploy.errors import InputError
from s2c_deploy.models import S2CModel
from s2c_deploy.models.blocks import S2CBlock
from s2c_deploy.models.cost import count_cost
from s2c_deploy.models.entropy_model import CheckerboardConv, GroupContext, pack_anchors, pack_nonanchors, unpack
from s2c_deploy.models.model import (
    MEAN_STEPS,
    SCALE_LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    SCALE_STEP,
    Z_LIMIT,
    bounded_index,
    gaussian_bits,
    training_bits,
)
from s2c_deploy.presets import CHANNEL_AGGREGATIONS, VARIANTS, model_config

# blocks


@pytest.mark.parametrize("aggregation", CHANNEL_AGGREGATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_every_model_keeps_its_shapes_and_uses_its_blocks(variant: str, aggregation: str) -> None:
    torch.manual_seed(0)
    config = small_config(variant, aggregation=aggregation)
    new = S2CModel(config).eval()
    x, levels = torch.rand(2, 3, 64, 128), torch.tensor([0, 7])
    before = new(x, levels)
    output = lively(new)(x, levels)
    assert output.x_hat.shape == (2, 3, 64, 128)
    assert output.y_hat.shape == (2, 48, 4, 8)
    assert output.bits.shape == (2,)
    assert torch.isfinite(output.x_hat).all()
    assert (output.bits > 0).all()
    assert not torch.equal(before.x_hat, output.x_hat)


@pytest.mark.parametrize(
    ("spatial", "aggregation", "reach"),
    [
        ("identity", "mlp", 0),
        ("identity", "glu", 0),
        ("identity", "conv_ffn", 1),
        ("identity", "glu_dw", 1),
        ("conv", "mlp", 2),
        ("conv", "glu_dw", 3),
    ],
)
@torch.no_grad()
def test_a_block_reaches_as_far_as_its_convolutions(spatial: str, aggregation: str, reach: int) -> None:
    block = lively(S2CBlock(8, spatial=spatial, spatial_norm=True, expansion=2, aggregation=aggregation))
    assert changed_positions(block, (7, 8)) == {
        (7 + i, 8 + j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)
    }


@torch.no_grad()
def test_attention_sees_its_whole_window_and_nothing_else() -> None:
    block = lively(S2CBlock(16, spatial="attention", spatial_norm=False, expansion=2, aggregation="glu"))
    assert changed_positions(block, (7, 8)) == {(i, j) for i in range(8) for j in range(8, 16)}


def changed_positions(block: nn.Module, position: tuple[int, int]) -> set[tuple[int, int]]:
    x = torch.randn(1, next(block.parameters()).numel(), 16, 16)
    other = x.clone()
    other[0, :, position[0], position[1]] += torch.randn(x.shape[1])
    differs = ((block(x) - block(other)).abs() > 1e-6).any(1)[0]
    return {(int(i), int(j)) for i, j in differs.nonzero()}


@torch.no_grad()
def test_a_new_block_is_the_identity() -> None:
    x = torch.randn(1, 16, 8, 8)
    for aggregation in CHANNEL_AGGREGATIONS:
        for spatial in ("identity", "conv", "attention"):
            block = S2CBlock(16, spatial=spatial, spatial_norm=False, expansion=2, aggregation=aggregation)
            assert torch.equal(block(x), x)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="identity, conv, attention, hybrid, found 'convolution'"):
        small_config("convolution")
    with pytest.raises(InputError, match="mlp, conv_ffn, glu, glu_dw, found 'ffn'"):
        small_config(aggregation="ffn")
    with pytest.raises(InputError, match="tiny, small, base, large, found 'huge'"):
        model_config("conv", "huge")


@pytest.mark.parametrize("preset", ["tiny", "small", "base", "large"])
def test_groups_share_out_the_latent(preset: str) -> None:
    config = model_config("conv", preset)
    assert sum(config.groups) == config.latent_channels
    assert all(channels % 8 == 0 and channels > 0 for channels in config.groups)
    if config.latent_channels == 320:
        assert config.groups == (16, 16, 32, 64, 192)


# cost


def test_cost_of_conv_tiny_by_hand() -> None:
    """Widths 32, 64, 96; one block each, expansion 2; M = 256 in groups of 16, 16, 24, 48, 152; N = 96; D = 128."""
    parts = count_cost(model_config("conv", "tiny"))
    found = {part.name: (part.parameters, round(part.kmac_per_pixel * 1000, 6)) for part in parts}

    def block_macs(w: int) -> int:  # per position: two point-wise, a depthwise 5x5; gate, value and out of the FFN
        return 2 * w * w + 25 * w + 3 * w * 2 * w

    def block_parameters(w: int) -> int:  # the same and every bias; the FFN's norm
        return block_macs(w) + 3 * w + 2 * (2 * w) + w + 2 * w

    # A stage at 1/s has one position for every s * s pixels.
    assert found["g_a"] == (
        (27 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 96 + 96) + (9 * 96 * 256 + 256)
        + block_parameters(32) + block_parameters(64) + block_parameters(96),
        27 * 32 / 4 + block_macs(32) / 4 + 9 * 32 * 64 / 16 + block_macs(64) / 16
        + 9 * 64 * 96 / 64 + block_macs(96) / 64 + 9 * 96 * 256 / 256,
    )  # fmt: skip
    # Sub-pixel convolutions work at the lower resolution, on four times the channels.
    assert found["g_s"] == (
        (9 * 256 * 384 + 384) + (9 * 96 * 256 + 256) + (9 * 64 * 128 + 128) + (9 * 32 * 12 + 12)
        + block_parameters(32) + block_parameters(64) + block_parameters(96),
        9 * 256 * 384 / 256 + block_macs(96) / 64 + 9 * 96 * 256 / 64 + block_macs(64) / 16
        + 9 * 64 * 128 / 16 + block_macs(32) / 4 + 9 * 32 * 12 / 4,
    )  # fmt: skip
    assert found["h_a"] == (
        (9 * 256 * 96 + 96) + 2 * (25 * 96 * 96 + 96),
        round(9 * 256 * 96 / 256 + 25 * 96 * 96 / 1024 + 25 * 96 * 96 / 4096, 6),
    )
    assert found["h_s"] == (
        2 * (9 * 96 * 384 + 384) + (9 * 96 * 192 + 192),
        9 * 96 * 384 / 4096 + 9 * 96 * 384 / 1024 + 9 * 96 * 192 / 256,
    )
    parameters, macs, earlier = 0, 0, 0
    for channels in (16, 16, 24, 48, 152):
        whole = 192 * 128 + 25 * earlier * 128 + 128 * 128 + 25 * channels * 128  # hyper, channel, mix, spatial
        network = 128 * 128 + 128 * 2 * channels
        biases = (4 if earlier else 3) * 128 + 2 * (128 + 2 * channels)
        parameters += whole + 2 * network + biases
        # 12 taps of the masked 5x5 for half of the positions; each parameter network on half, too.
        macs += whole - 25 * channels * 128 + 12 * channels * 128 // 2 + network
        earlier += channels
    assert found["contexts"] == (parameters, round(macs / 256, 6))
    assert found["gains and z prior"] == (8 * (256 + 256 + 96 + 96), 0)
    assert len(found) == 6


def test_cost_of_attention_by_hand() -> None:
    """Beyond the bare FFN, each position: a norm and four point-wise w x w convolutions, and Q K^T and A V over 64
    positions."""
    bare, attention = (count_cost(small_config(variant)) for variant in ("identity", "attention"))
    stages = ((8, 4), (16, 16), (24, 64))
    for name, before, after in zip(("g_a", "h_a", "h_s", "contexts", "g_s"), bare, attention, strict=False):
        assert before.name == after.name == name
        inside = stages if name in ("g_a", "g_s") else ()
        macs = sum((4 * w * w + 2 * 64 * w) / positions for w, positions in inside)
        assert (after.kmac_per_pixel - before.kmac_per_pixel) * 1000 == pytest.approx(macs)
        assert after.parameters - before.parameters == sum(4 * w * w + 4 * w + 2 * w for w, _ in inside)


def test_large_costs_what_the_literature_reports() -> None:
    parts = count_cost(model_config("hybrid", "large"))
    assert sum(part.parameters for part in parts) == pytest.approx(79.8e6, rel=0.05)
    assert sum(part.kmac_per_pixel for part in parts) == pytest.approx(2000, rel=0.05)


# entropy model


def test_packing() -> None:
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    parity = ((rows + columns) % 2)[None, None]
    anchors, nonanchors = pack_anchors(x), pack_nonanchors(x)
    assert anchors.shape == nonanchors.shape == (2, 3, 4, 3)
    # Even rows' positions above the odd rows'.
    assert anchors[0, 0].tolist() == [[0, 2, 4], [12, 14, 16], [7, 9, 11], [19, 21, 23]]
    assert (pack_anchors(parity) == 0).all()
    assert (pack_nonanchors(parity) == 1).all()
    assert torch.equal(unpack(anchors, nonanchors), x)
    assert torch.equal(pack_nonanchors(unpack(nonanchors, anchors)), anchors)


def at_nonanchors(x: Tensor, value: Tensor | float) -> Tensor:
    """x with its non-anchor positions replaced."""
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return torch.where((rows + columns) % 2 == 1, torch.as_tensor(value), x)


def test_nonanchors_read_the_anchors_of_their_5x5_and_nothing_else() -> None:
    torch.manual_seed(0)
    conv = CheckerboardConv(2, 3)
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    conv(x)[0, :, 3, 4].sum().backward()
    assert x.grad is not None
    taps = {(int(i) - 3, int(j) - 4) for i, j in x.grad[0].ne(0).any(0).nonzero()}
    assert taps == {(i, j) for i in range(-2, 3) for j in range(-2, 3) if (i + j) % 2 == 1}


@torch.no_grad()
def test_a_pass_does_not_see_its_own_positions() -> None:
    torch.manual_seed(0)
    config = small_config()
    context = GroupContext(config, 2)
    features = context.features(torch.randn(1, 32, 8, 8), torch.randn(1, 16, 8, 8))
    current = torch.randn(1, 8, 8, 8)
    expected = context.nonanchor(features, at_nonanchors(current, 0.0))
    assert torch.equal(context.nonanchor(features, at_nonanchors(current, torch.randn(8, 8))), expected)
    # Point-wise: features at the other pass's positions are not read either.
    assert torch.equal(context.anchor(at_nonanchors(features, 9.0)), context.anchor(features))
    assert not torch.equal(context.nonanchor(features, at_nonanchors(current + 1, 0.0)), expected)


class Fixed(nn.Module):
    """A transform that gives the same answer whatever it is asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _x: Tensor) -> Tensor:
        return self.answer


@torch.no_grad()
def parameters_of_passes(model: S2CModel, y: Tensor) -> list[Tensor]:
    """Indexes and means of all ten passes, in the order of coding, for a latent y of a fixed hyper-latent."""
    model.g_a, model.h_a = Fixed(y), Fixed(torch.ones(1, 16, 1, 1))  # type: ignore[assignment]
    seen: list[Tensor] = []
    hooks = [
        network.register_forward_hook(lambda _m, _i, out: seen.append(out))
        for context in model.group_contexts
        for network in (context.anchor_parameters, context.nonanchor_parameters)
    ]
    model(torch.zeros(1, 3, 64, 64), torch.tensor([3]))
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("group", range(5))
@pytest.mark.parametrize("parity", [0, 1])
def test_symbols_change_later_passes_only(group: int, parity: int) -> None:
    torch.manual_seed(0)
    model = S2CModel(small_config()).eval()
    y = torch.randn(1, 48, 4, 4)
    start, stop = sum(model.config.groups[:group]), sum(model.config.groups[: group + 1])
    other = y.clone()
    part = y[:, start:stop]
    changed = at_nonanchors(part, part + 2) if parity else at_nonanchors(part + 2, part)
    other[:, start:stop] = changed
    before, after = parameters_of_passes(model, y), parameters_of_passes(model, other)
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    own = 2 * group + parity
    assert same == [i <= own for i in range(10)]


@torch.no_grad()
def test_the_latent_is_what_the_coder_can_say() -> None:
    """In evaluation: y_hat in 1/16 steps; a symbol of index 0 is zero, which leaves the rounded mean."""
    torch.manual_seed(0)
    model = S2CModel(small_config()).eval()
    x = torch.rand(1, 3, 64, 64)
    steps = model(x, torch.tensor([7])).y_hat * MEAN_STEPS
    assert torch.equal(steps, steps.round())
    assert steps.abs().max() > MEAN_STEPS
    for context in model.group_contexts:
        for network in (context.anchor_parameters, context.nonanchor_parameters):
            last = network[-1]
            assert isinstance(last, nn.Conv2d)
            last.weight.zero_()
            channels = last.out_channels // 2
            last.bias[:channels], last.bias[channels:] = -1.0, 0.72  # type: ignore[index]
    output = model(x, torch.tensor([7]))
    assert (output.y_hat == 12 / MEAN_STEPS).all()


# rates and gains


def test_bits_of_a_gaussian() -> None:
    for index in (0, 1, 20, 41, 63):
        scale = SCALE_MIN * (SCALE_MAX / SCALE_MIN) ** (index / (SCALE_LEVELS - 1))
        for v in (0.0, 1.0, -1.0, 2.5, -3.0):
            upper, lower = ((v + side) / (scale * math.sqrt(2)) for side in (0.5, -0.5))
            mass = 0.5 * (math.erf(upper) - math.erf(lower))
            found = float(gaussian_bits(torch.tensor(v), torch.tensor(float(index))))
            if mass > 1e-8:  # erf itself is good to some 1e-16
                assert found == pytest.approx(-math.log2(mass), rel=1e-4, abs=1e-5), (index, v)
            else:
                assert math.log2(1e8) < found <= -math.log2(1e-9) + 1e-3


def test_bits_of_all_symbols_make_a_distribution() -> None:
    v = torch.arange(-2000.0, 2001.0)[:, None]
    mass = torch.exp2(-gaussian_bits(v, torch.arange(64.0)[None])).double()
    mass[mass < 1.1e-9] = 0  # the floor
    assert torch.allclose(mass.sum(0), torch.ones(64, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize("index", [0, 18, 40, 63])
def test_bits_in_training_are_the_gaussians_up_to_four_sigma(index: int) -> None:
    sigma = SCALE_MIN * math.exp(index * SCALE_STEP)
    v = torch.linspace(-0.999, 0.999, 201) * (0.5 + 4 * sigma)
    level = torch.tensor(float(index))
    assert torch.equal(training_bits(v, level), gaussian_bits(v, level))
    # At the border they go on without a jump, and nearly without a bend.
    border = 0.5 + 4 * sigma
    step = 0.01 * sigma
    below, at, above = (float(training_bits(torch.tensor(border + d), level)) for d in (-step, 0, step))
    assert above - at == pytest.approx(at - below, rel=0.1)
    # 16 / ln 2 bits for every factor e of the edge's distance.
    far = float(training_bits(torch.tensor(0.5 + 4 * math.e * sigma), level))
    assert far - at == pytest.approx(16 / math.log(2), rel=1e-4)


def test_far_outliers_still_pull_in_training() -> None:
    v = torch.tensor([-300.0, 3.0, 40.0, 4000.0], requires_grad=True)
    index = torch.tensor([0.0, 6.0, 20.0, 40.0], requires_grad=True)
    training_bits(v, index).sum().backward()
    assert v.grad is not None
    assert index.grad is not None
    assert torch.equal(v.grad.sign(), v.detach().sign())
    assert (index.grad < -1).all()  # more than a bit saved by every step up the scale table
    assert torch.isfinite(v.grad).all()


def test_models_train_with_those_bits_and_count_the_gaussians() -> None:
    model = S2CModel(small_config("conv"))
    v, index = torch.full((1, 1, 1, 1), 40.0), torch.full((1, 1, 1, 1), 6.0)
    floor = float(gaussian_bits(v, index))
    assert float(model.eval()._bits(v, v, index)) == floor
    assert float(model.train()._bits(v, v, index)) > 2 * floor


def test_bounded_index_lets_gradients_back_into_its_range() -> None:
    x = torch.tensor([-2.0, -2.0, 0.0, 30.5, 30.5, 63.0, 70.0, 70.0], requires_grad=True)
    out = bounded_index(x)
    assert out.tolist() == [0, 0, 0, 30.5, 30.5, 63, 63, 63]
    out.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0]))
    assert x.grad is not None
    # A descent step moves against the gradient: below the range only a negative one leads back.
    assert x.grad.tolist() == [0, -1, 1, 1, -1, -1, 1, 0]


def test_training_reaches_every_parameter() -> None:
    model = lively(S2CModel(small_config())).train()
    x = torch.rand(2, 3, 64, 64)
    output = model(x, torch.tensor([2, 5]))
    ((output.x_hat - x).square().sum() + output.bits.sum()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_each_picture_of_a_batch_has_its_own_level() -> None:
    model = lively(S2CModel(small_config()))
    x = torch.rand(1, 3, 64, 64)
    both = model(x.repeat(2, 1, 1, 1), torch.tensor([1, 6]))
    for i, level in enumerate((1, 6)):
        alone = model(x, torch.tensor([level]))
        assert torch.allclose(both.x_hat[i], alone.x_hat[0], atol=1e-4)
        assert float(both.bits[i]) == pytest.approx(float(alone.bits[0]), rel=1e-3)
    assert both.bits[0] < both.bits[1]


def test_new_gains_follow_lambda_and_cancel() -> None:
    model = S2CModel(small_config(lmbdas=(0.01, 0.04)))
    gain, inverse = model.log_gain.exp(), model.log_inverse_gain.exp()
    assert torch.allclose(gain * inverse, torch.ones_like(gain))
    # At high rates the best step goes with the square root of lambda.
    assert torch.allclose(gain[1] / gain[0], torch.full((48,), 2.0))


@torch.no_grad()
def test_gains_scale_the_latent_and_undo_it() -> None:
    """Gains of one level double y before rounding and halve y_hat after; other levels do not notice."""
    model = lively(S2CModel(small_config()))
    x = torch.rand(1, 3, 64, 64)
    seen: list[Tensor] = []
    for network in (model.h_a, model.g_s):
        network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    first, other = model(x, torch.tensor([4])), model(x, torch.tensor([3]))
    model.log_gain[4] += math.log(2)
    model.log_inverse_gain[4] -= math.log(2)
    second = model(x, torch.tensor([4]))
    y, decoded, _, _, doubled, decoded_finer = seen
    assert torch.allclose(doubled, 2 * y)
    assert torch.allclose(decoded, first.y_hat * model.log_inverse_gain[4].exp()[None, :, None, None] * 2)
    assert torch.allclose(decoded_finer, second.y_hat * model.log_inverse_gain[4].exp()[None, :, None, None])
    assert torch.equal(model(x, torch.tensor([3])).x_hat, other.x_hat)


@torch.no_grad()
def test_hyper_symbols_stay_in_their_range() -> None:
    model = S2CModel(small_config()).eval()
    seen: list[Tensor] = []
    model.h_s.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    model.log_hyper_gain.fill_(12.0)
    model(torch.rand(1, 3, 64, 64), torch.tensor([0]))
    assert seen[0].abs().max() == Z_LIMIT
    assert torch.equal(seen[0], seen[0].round())

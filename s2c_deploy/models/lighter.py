"""Where a lighter g_s begins: with what the full one has learned, as far as it has room for it.

Stages that both have are taken over, channels of a narrower one by what the rest of g_s makes of them.  A transposed
3x3 convolution has one tap where a sub-pixel convolution has one to four: it begins as their sums.  The last layer
begins as the convolutions of the stages that the lighter one lacks, one after the other, without their blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2c_deploy.models.adapters import operator_of
from s2c_deploy.models.transforms import Synthesis
from s2c_deploy.presets import ModelConfig, SynthesisConfig, synthesis_config

#: Of one dimension, tap of the transposed convolution: offset (0 or 1) of the output that it makes, and the taps -1, 0
#: and 1 of the sub-pixel convolution that it stands for.  out[2 i - 1 + tap] += w[tap] * in[i].
_TAPS = ((1, (2,)), (0, (0, 1, 2)), (1, (0, 1)))


@torch.no_grad()
def lighter_start(config: ModelConfig, shape: SynthesisConfig, full: Synthesis) -> Synthesis:
    """A g_s of ``shape`` that begins with the weights of a model's full one."""
    own, new = synthesis_config(config), Synthesis(config, shape)
    firsts, own_firsts = _first_layers(shape), _first_layers(own)
    last, last_bias = _composed([full[i] for i in own_firsts[len(shape.widths) :]], shape.last_factor)
    kept = torch.arange(config.latent_channels)
    for stage, width in enumerate(shape.widths):
        up, own_up = new[firsts[stage]], full[own_firsts[stage]]
        before = kept
        kept = torch.arange(width)
        if width < own.widths[stage]:
            read = last if stage + 1 == len(shape.widths) else _kernels(full[own_firsts[stage + 1]])
            kept = _strongest(_kernels(own_up), read, width)
        _begin_upsampling(up, own_up, before, kept)
        for i in range(1, min(shape.depths[stage], own.depths[stage]) + 1):
            _begin_block(new[firsts[stage] + i], full[own_firsts[stage] + i], kept, own.widths[stage])
    conv = new[firsts[-1]][0]  # type: ignore[index]
    conv.weight.copy_(last[:, kept])
    conv.bias.copy_(last_bias)
    return new


def _first_layers(shape: SynthesisConfig) -> list[int]:
    """Where the upsampling of each stage, and the last layer, are in g_s."""
    firsts = [0]
    for depth in shape.depths:
        firsts.append(firsts[-1] + 1 + depth)
    return firsts


def _kernels(layer: nn.Module) -> Tensor:
    """Of a sub-pixel convolution, O x I x k x k."""
    conv = layer[0]  # type: ignore[index]
    assert isinstance(conv, nn.Conv2d)
    return conv.weight


def _strongest(written: Tensor, read: Tensor, count: int) -> Tensor:
    """The channels of a stage that matter most: by what writes them times what reads them, both in the mean square.

    written: 4 C x I x k x k, of a sub-pixel convolution; read: O x C x k x k.
    """
    energy = written.square().flatten(1).sum(1).view(-1, 4).sum(1) * read.square().sum((0, 2, 3))
    return energy.topk(count).indices.sort().values


def _begin_upsampling(new: nn.Module, full: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    conv = full[0]  # type: ignore[index]
    # C x 2 x 2 x I x 3 x 3: output channel, its row and column, input channel, the kernel's.
    kernels = conv.weight.view(-1, 2, 2, *conv.weight.shape[1:])[outputs][:, :, :, inputs]
    biases = conv.bias.view(-1, 4)[outputs]
    if isinstance(new, nn.ConvTranspose2d):
        for row, (dy, rows) in enumerate(_TAPS):
            for column, (dx, columns) in enumerate(_TAPS):
                taps = kernels[:, dy, dx][..., rows, :][..., columns].sum((2, 3))
                new.weight[:, :, row, column] = taps.T
        new.bias.copy_(biases.mean(1))  # type: ignore[union-attr]
        return
    own = new[0]  # type: ignore[index]
    flat = kernels.flatten(0, 2)
    own.weight.copy_(flat if own.kernel_size[0] == 3 else flat.sum((2, 3), keepdim=True))
    own.bias.copy_(biases.flatten())


def _begin_block(new: nn.Module, full: nn.Module, kept: Tensor, width: int) -> None:
    """Takes over the tensors of a block, of a narrower one the rows and columns of its channels.

    Attention heads cannot be cut: an attention of another width stays as it is initialised, which is the identity.
    """
    old = full.state_dict()
    narrower = len(kept) < width
    for name, tensor in new.state_dict().items():
        if narrower and operator_of(f"0.{name}") and "spatial.qkv.weight" in old:
            continue
        part = old[name]
        for axis, size in enumerate(tensor.shape[:2]):
            if part.shape[axis] != size:
                index = kept if part.shape[axis] == width else torch.arange(size)
                part = part.index_select(axis, index)
        tensor.copy_(part)


def _composed(layers: list[nn.Module], factor: int) -> tuple[Tensor, Tensor]:
    """Sub-pixel convolutions one after the other as one: its 3x3 kernels, 3 factor^2 x I x 3 x 3 (what of theirs lies
    that near), and its biases."""
    inputs, chain = _kernels(layers[0]).shape[1], nn.Sequential(*layers)
    impulses = torch.zeros(inputs, inputs, 5, 5)
    impulses[range(inputs), range(inputs), 2, 2] = 1
    nothing = chain(torch.zeros(1, inputs, 5, 5))
    # I x 3 x (5, factor) x (5, factor): what an impulse at cell 2 gives to a cell is the tap that looks back at it.
    response = (chain(impulses) - nothing).view(inputs, 3, 5, factor, 5, factor)
    cells = response[:, :, 1:4, :, 1:4, :].flip(2, 4)
    biases = nothing.view(3, 5, factor, 5, factor)[:, 2, :, 2, :].flatten()
    return cells.permute(1, 3, 5, 0, 2, 4).reshape(3 * factor**2, inputs, 3, 3), biases

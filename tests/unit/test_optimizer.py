"""The optimisers of training: SOAP on kernels against pytorch_optimizer's on matrices of those shapes."""

from __future__ import annotations

import pytest
import torch
from pytorch_optimizer import SOAP
from torch import Tensor, nn

from s2c_deploy.train.optimizer import Optimizer, make_optimizer
from s2c_deploy.train.soap import Soap

STEPS = 25


def channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def gradients(shape: torch.Size) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for _ in range(STEPS)]


def by_library(start: Tensor, of_each_step: list[Tensor], bases_every: int = 10) -> Tensor:
    leaf = start.clone().requires_grad_()
    soap = SOAP([leaf], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, precondition_frequency=bases_every)
    for gradient in of_each_step:
        leaf.grad = gradient.clone()
        soap.step()
    return leaf.detach()


def by_views(module: nn.Conv2d, soap: Optimizer, of_each_step: list[Tensor]) -> Tensor:
    for gradient in of_each_step:
        soap.zero_grad()
        assert module.weight.grad is None
        module.weight.grad = gradient.clone()
        soap.step()
    return module.weight.detach()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("kernel", "groups", "shape"),
    [(1, 1, (12, 8)), (3, 1, (12, 9, 8)), (5, 8, (8, 25))],
    ids=["1x1", "3x3", "depthwise"],
)
def test_a_kernel_is_stepped_as_a_matrix(
    kernel: int, groups: int, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    # In float64, as ours finds its first bases in.
    module = nn.Conv2d(8, 8 if groups > 1 else 12, kernel, groups=groups, bias=False).double()
    channels_last(module)
    start = module.weight.detach().clone()
    given = [g.double().contiguous(memory_format=layout) for g in gradients(start.shape)]
    expected = by_library(
        start.permute(0, 2, 3, 1).reshape(shape), [g.permute(0, 2, 3, 1).reshape(shape) for g in given]
    )
    found = by_views(module, Soap([module.weight], 1e-3, products_every=1), given)
    assert not torch.equal(found, start)
    assert torch.allclose(found.permute(0, 2, 3, 1).reshape(shape), expected, rtol=0, atol=1e-7)


def test_bases_are_renewed_as_often_as_is_asked() -> None:
    torch.manual_seed(0)
    start = torch.randn(12, 8, dtype=torch.float64)
    given = [g.double() for g in gradients(start.shape)]
    found = {}
    for bases_every in (4, 10):
        module = nn.Conv2d(8, 12, 1, bias=False).double()
        with torch.no_grad():
            module.weight.copy_(start[:, :, None, None])
        soap = Soap([module.weight], 1e-3, products_every=1, bases_every=bases_every)
        found[bases_every] = by_views(module, soap, [g[:, :, None, None] for g in given])[:, :, 0, 0]
        assert torch.allclose(found[bases_every], by_library(start, given, bases_every), rtol=0, atol=1e-7)
    assert not torch.allclose(found[4], found[10], rtol=0, atol=1e-5)


def test_bfloat16_and_fewer_statistics_change_steps_little() -> None:
    """On gradients with a wide spectrum along every dimension: bfloat16 on the way in would drown most of it."""
    shape = (24, 9, 16)
    generator = torch.Generator().manual_seed(2)
    turns = [torch.linalg.qr(torch.randn(side, side, generator=generator))[0] for side in shape]
    views = [_turned(g, turns) for g in gradients(torch.Size(shape))]
    module = nn.Conv2d(16, 24, 3, bias=False)
    channels_last(module)
    nn.init.zeros_(module.weight)

    def path(optimizer: Optimizer) -> Tensor:
        nn.init.zeros_(module.weight)
        found = by_views(module, optimizer, [g.reshape(24, 3, 3, 16).permute(0, 3, 1, 2) for g in views])
        return found.permute(0, 2, 3, 1).reshape(shape).clone()

    expected = by_library(torch.zeros(shape), views)
    usual = path(Soap([module.weight], 1e-3))
    rounded = path(Soap([module.weight], 1e-3, bfloat16=True))
    adam = path(torch.optim.Adam([module.weight], lr=1e-3, betas=(0.9, 0.95)))
    assert 0 < _apart(usual, expected) < 0.2 < _apart(adam, expected)
    assert 0 < _apart(rounded, usual) < 0.01
    assert rounded.dtype == torch.float32


def _apart(path: Tensor, other: Tensor) -> float:
    return float((path - other).norm() / other.norm())


def _turned(gradient: Tensor, turns: list[Tensor]) -> Tensor:
    """Scaled from 1 to 1/30 along every dimension, then turned."""
    for turn in turns:
        falling = torch.logspace(0, -1.5, len(turn)) * turn
        gradient = torch.tensordot(gradient, falling, dims=[[0], [1]])
    return gradient


@pytest.mark.parametrize("every", [1, 2, 4])
def test_statistics_remember_as_long_however_seldom_they_are_taken(every: int) -> None:
    """Of a constant gradient, after the first and eight more: 1 - 0.95^9 of its outer products."""
    weight, gradient = nn.Parameter(torch.zeros(6, 4)), gradients(torch.Size([6, 4]))[0]
    soap = Soap([weight], 1e-3, products_every=every)
    for _ in range(9):
        weight.grad = gradient.clone()
        soap.step()
    rows, columns = soap.state_dict()["states"][0]["products"]
    assert torch.allclose(rows, (1 - 0.95**9) * gradient @ gradient.T, rtol=1e-4, atol=1e-6)
    assert torch.allclose(columns, (1 - 0.95**9) * gradient.T @ gradient, rtol=1e-4, atol=1e-6)


def test_first_bases_of_a_new_blocks_gradient() -> None:
    """Mostly zeros, and one value elsewhere; in float32, this one's product has NaN for eigenvectors."""
    gradient = torch.zeros(96, 48)
    gradient[[10, 15, 17, 18, 67, 77], 5] = 2.0**-17
    gradient[[24, 35, 37, 70, 76, 81], 5] = -(2.0**-17)
    weight = nn.Parameter(torch.zeros(96, 48))
    soap = Soap([weight], 1e-3)
    for _ in range(3):
        weight.grad = gradient.clone()
        soap.step()
    assert torch.isfinite(weight).all()
    assert (weight * gradient < 0)[gradient != 0].all()


def test_vectors_take_adams_steps() -> None:
    """A bias has no matrix to turn: from its second step on, SOAP is Adam."""
    start, given = torch.linspace(-1, 1, 6), gradients(torch.Size([6]))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    soap = Soap([ours], 1e-3)
    adam = torch.optim.Adam([theirs], lr=1e-3, betas=(0.9, 0.95))
    for number, gradient in enumerate(given):
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        soap.step()
        if number:
            adam.step()
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-7)


def test_parameters_that_moved_are_still_stepped() -> None:
    module = nn.Conv2d(8, 8, 3)
    channels_last(module)
    soap = Soap(module.parameters(), 1e-2)
    for number in range(3):
        # A way to another device and back gives new memory, as this does.
        module.double().float()
        before = module.weight.detach().clone()
        module(torch.randn(1, 8, 6, 6)).square().sum().backward()
        soap.step()
        assert torch.equal(before, module.weight) == (number == 0)


def test_the_optimisers_names() -> None:
    parameters = [nn.Parameter(torch.zeros(2))]
    assert isinstance(make_optimizer("soap", parameters, 1e-3), Soap)
    assert isinstance(make_optimizer("adam", parameters, 1e-3), torch.optim.Adam)

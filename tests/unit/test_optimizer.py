"""The optimisers of training: SOAP on views against the library's own on tensors of those shapes."""

from __future__ import annotations

import sys

import pytest
import torch
from pytorch_optimizer import SOAP
from torch import Tensor, nn

from s2c_deploy.errors import DependencyError
from s2c_deploy.train.optimizer import Soap, make_optimizer

STEPS = 25


def channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def gradients(shape: torch.Size) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for _ in range(STEPS)]


def by_library(start: Tensor, of_each_step: list[Tensor]) -> Tensor:
    leaf = start.clone().requires_grad_()
    soap = SOAP([leaf], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for gradient in of_each_step:
        leaf.grad = gradient.clone()
        soap.step()
    return leaf.detach()


def by_views(module: nn.Conv2d, of_each_step: list[Tensor]) -> Tensor:
    soap = Soap([module.weight], 1e-3)
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
    module = nn.Conv2d(8, 8 if groups > 1 else 12, kernel, groups=groups, bias=False)
    channels_last(module)
    start = module.weight.detach().clone()
    given = [g.contiguous(memory_format=layout) for g in gradients(start.shape)]
    expected = by_library(
        start.permute(0, 2, 3, 1).reshape(shape), [g.permute(0, 2, 3, 1).reshape(shape) for g in given]
    )
    found = by_views(module, given)
    assert not torch.equal(found, start)
    assert torch.equal(found.permute(0, 2, 3, 1).reshape(shape), expected)


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


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(DependencyError, match="pytorch_optimizer"):
        make_optimizer("soap", [nn.Parameter(torch.zeros(2))], 1e-3)
    assert isinstance(make_optimizer("adam", [nn.Parameter(torch.zeros(2))], 1e-3), torch.optim.Adam)

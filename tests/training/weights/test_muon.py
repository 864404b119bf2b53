"""Muon's step is the orthogonalised momentum: against its closed form, torch's Muon, and torch's AdamW for the rest."""

import pytest
import torch
from torch import nn

from dit.errors import ConfigError
from dit.training.config import OptimConfig
from dit.training.weights import muon
from dit.training.weights.muon import COEFFICIENTS, MAX_STACK, Muon, orthogonalise
from dit.training.weights.optim import create_optimizer

SHAPES = [(6, 6), (4, 10), (10, 4)]


@pytest.fixture
def float32(monkeypatch):
    """The iterations in float32 on every CPU."""
    monkeypatch.setattr(muon, "has_bf16", lambda device: False)


def closed_form(matrix, coefficients=COEFFICIENTS, num=5):
    """U p(...p(s)) V^T in float64: the iteration is a polynomial p of each singular value s alone."""
    a, b, c = coefficients
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(num):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", SHAPES)
def test_iteration_is_a_polynomial_of_the_singular_values(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    found = orthogonalise(matrices, torch.float32)
    for matrix, result in zip(matrices, found, strict=True):
        # The slope of p(...p(s)) at 0 is 3.4445^5 = 485: that many times float32's error of 6e-8 at most.
        torch.testing.assert_close(result.double(), closed_form(matrix), rtol=0, atol=3e-5)


def test_iterations_that_converge_give_the_polar_factor(monkeypatch):
    """Newton-Schulz's own coefficients go to 1; ours stop near it on purpose."""
    monkeypatch.setattr(muon, "COEFFICIENTS", (1.875, -1.25, 0.375))
    monkeypatch.setattr(muon, "NUM_ITERATIONS", 30)
    torch.manual_seed(0)
    matrix = torch.randn(5, 8)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(orthogonalise(matrix[None], torch.float32)[0], u @ v, rtol=0, atol=1e-5)


def test_singular_values_come_near_1():
    torch.manual_seed(0)
    matrices = torch.randn(4, 32, 128)
    values = torch.linalg.svdvals(orthogonalise(matrices, torch.float32))
    assert values.min() > 0.65
    assert values.max() < 1.25


def matrices_of(count=3, shapes=SHAPES):
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes for _ in range(count)]


def set_gradients(parameters, step):
    draw = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=draw)


@pytest.mark.usefixtures("float32")
def test_three_steps_equal_the_formula():
    """The update on top of the module, written out for each matrix, with more matrices of a shape than are stacked."""
    count = MAX_STACK + 2
    ours, theirs = matrices_of(count), [p.detach().double() for p in matrices_of(count)]
    optimizer = Muon([{"params": ours, "momentum": 0.9}], lr=0.1, weight_decay=0.3)
    momenta = [torch.zeros_like(w) for w in theirs]
    for step in range(3):
        set_gradients(ours, step)
        gradients = [p.grad.double() for p in ours]
        optimizer.step()
        for k, (w, g) in enumerate(zip(theirs, gradients, strict=True)):
            momenta[k] = 0.9 * momenta[k] + 0.1 * g
            polar = closed_form(0.1 * g + 0.9 * momenta[k])
            theirs[k] = (1 - 0.1 * 0.3) * w - 0.1 * 0.2 * max(w.shape) ** 0.5 * polar
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-4)  # steps of 0.06, by 485 times float32's error


@pytest.mark.parametrize("is_half", [False, True])
def test_equals_torchs(monkeypatch, is_half):
    """torch.optim.Muon works in bfloat16, and the steps, of 0.2 in the root mean square times lr, agree to that."""
    monkeypatch.setattr(muon, "has_bf16", lambda device: is_half)
    ours, theirs, start = matrices_of(), matrices_of(), matrices_of()
    optimizer = Muon([{"params": ours, "momentum": 0.95}], lr=0.1, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for step in range(3):
        for parameters, each in ((ours, optimizer), (theirs, reference)):
            set_gradients(parameters, step)
            each.step()
    for a, b, w in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.05 * (b - w).norm()


@pytest.mark.usefixtures("float32")
def test_others_are_updated_by_adamw():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    config = OptimConfig(name="muon", lr=1e-2, muon_lr=1e-1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.2)
    optimizer = create_optimizer(model, config, matrices=[model[0].weight])
    copies = [model[1].weight.detach().clone(), model[0].bias.detach().clone(), model[1].bias.detach().clone()]
    groups = [{"params": copies[:1], "weight_decay": 0.2}, {"params": copies[1:], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9), eps=1e-6)
    for step in range(3):
        set_gradients(model.parameters(), step)
        for copy, parameter in zip(copies, (model[1].weight, model[0].bias, model[1].bias), strict=True):
            copy.grad = parameter.grad.clone()
        optimizer.step()
        reference.step()
    for copy, parameter in zip(copies, (model[1].weight, model[0].bias, model[1].bias), strict=True):
        torch.testing.assert_close(parameter.detach(), copy, rtol=0, atol=1e-6)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-1, 1e-2, 1e-2]
    assert set(optimizer.state[model[0].weight]) == {"step", "momentum_buffer"}  # no moments of AdamW's


def test_a_step_that_the_device_found_bad_changes_nothing():
    parameters = matrices_of()
    optimizer = Muon([{"params": parameters, "momentum": 0.95}], lr=0.1, weight_decay=0.1)
    set_gradients(parameters, 0)
    optimizer.found_inf = torch.zeros(())
    optimizer.step()
    before = [p.detach().clone() for p in parameters]
    momenta = [optimizer.state[p]["momentum_buffer"].clone() for p in parameters]
    for bad in (float("nan"), 1.0):
        set_gradients(parameters, 1)
        parameters[0].grad[0, 0] = bad
        optimizer.found_inf = torch.ones(())
        optimizer.step()
    for parameter, old, momentum in zip(parameters, before, momenta, strict=True):
        assert torch.equal(parameter.detach(), old)
        assert torch.equal(optimizer.state[parameter]["momentum_buffer"], momentum)


def test_blocks_without_trained_matrices_are_refused():
    model = nn.Linear(3, 3)
    with pytest.raises(ConfigError, match=r"optim\.name: muon: expected blocks with matrices .*, found none"):
        create_optimizer(model, OptimConfig(name="muon"))

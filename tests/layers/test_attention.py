"""The written-out attention against the library's, in float64 and in bfloat16, forward and backward."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from dit.layers.attention import MAX_EXPLICIT_TOKENS, explicit_attention, explicit_is_faster


def draw(dtype, tokens=24):
    torch.manual_seed(0)
    return [torch.randn(2, 3, tokens, 16, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(3)]


def with_gradients(attend, q, k, v):
    """Output and the three gradients, in float64."""
    out = attend(q, k, v)
    return [out.double(), *(g.double() for g in torch.autograd.grad(out.double().square().sum(), (q, k, v)))]


def test_the_explicit_path_is_attention():
    ours, theirs = (with_gradients(f, *draw(torch.float64)) for f in (explicit_attention, scaled_dot_product_attention))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def textbook(q, k, v):
    return (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v


def test_in_bfloat16_it_is_as_exact_as_plain_bfloat16():
    exact = with_gradients(textbook, *[x.double().detach().requires_grad_() for x in draw(torch.bfloat16)])
    ours, plain = (with_gradients(f, *draw(torch.bfloat16)) for f in (explicit_attention, textbook))
    for a, b, c in zip(ours, plain, exact, strict=True):
        assert (a - c).norm() <= 1.02 * (b - c).norm()


def test_autocast_does_not_widen_it():
    q, k, v = draw(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert explicit_attention(q, k, v).dtype == torch.bfloat16


def test_it_is_chosen_for_training_in_bfloat16_on_a_cpu_alone():
    q = draw(torch.bfloat16)[0]
    assert explicit_is_faster(q)
    assert not explicit_is_faster(q.detach())
    assert not explicit_is_faster(q.float())
    assert not explicit_is_faster(draw(torch.bfloat16, tokens=MAX_EXPLICIT_TOKENS + 1)[0])
    with torch.no_grad():
        assert not explicit_is_faster(q)

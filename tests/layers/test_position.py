"""Rotations of queries and keys against complex numbers, and the property that they exist for."""

import pytest
import torch

from dit.layers.position import rotary_1d, rotary_2d, rotary_2d_scaled, rotate, unturned_before

D = 16


@pytest.fixture(params=[False, True], autouse=True)
def _compiling(monkeypatch, request):
    """A compiler sees other operations."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param)


def draw(tokens):
    torch.manual_seed(0)
    return torch.randn(2, 3, tokens, D)


def turned(x, angles):
    """The definition, by complex numbers in float64; angles (T, d/2)."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.exp(1j * angles)).flatten(-2).float()


def test_a_row_of_tokens():
    angles = torch.tensor([[m * 10000 ** (-2 * j / D) for j in range(D // 2)] for m in range(6)], dtype=torch.float64)
    # float32 products of entries of size 1: two roundings of 6e-8 each, and the table's own
    torch.testing.assert_close(rotate(draw(6), rotary_1d(D, 6)), turned(draw(6), angles), rtol=0, atol=1e-6)


def test_half_a_head_turns_with_the_row_and_half_with_the_column():
    w = [10000 ** (-2 * k / (D / 2)) for k in range(D // 4)]
    angles = [[i * f for f in w] + [j * f for f in w] for i in range(2) for j in range(3)]
    expected = turned(draw(6), torch.tensor(angles, dtype=torch.float64))
    torch.testing.assert_close(rotate(draw(6), rotary_2d(D, (2, 3))), expected, rtol=0, atol=1e-6)


def test_pairs_alternate_between_column_and_row_on_a_scaled_grid():
    w = [10000 ** (-4 * k / D) for k in range(D // 4)]
    angles = [[angle for f in w for angle in (16 * j / 2 * f, 16 * i / 1 * f)] for i in range(2) for j in range(3)]
    expected = turned(draw(6), torch.tensor(angles, dtype=torch.float64))
    torch.testing.assert_close(rotate(draw(6), rotary_2d_scaled(D, (2, 3))), expected, rtol=0, atol=1e-6)
    # one row, or one column, lies at 0
    torch.testing.assert_close(rotary_2d_scaled(D, (1, 1)), rotary_1d(D, 1), rtol=0, atol=0)


@pytest.mark.parametrize("table", [rotary_1d(D, 12), rotary_2d(D, (1, 12))])
def test_products_depend_on_the_difference_of_positions_alone(table):
    q, k = (x.expand(1, 1, 12, D) for x in draw(2)[:1, :1].unbind(2))
    logits = rotate(q, table) @ rotate(k, table).transpose(-2, -1)
    for offset in (-3, 0, 5):
        diagonal = logits[0, 0].diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


def test_a_prefix_is_not_turned():
    table = unturned_before(rotary_1d(D, 4), 2)
    x = draw(6)
    torch.testing.assert_close(rotate(x, table)[:, :, :2], x[:, :, :2], rtol=0, atol=0)
    torch.testing.assert_close(rotate(x, table)[:, :, 2:], rotate(x[:, :, 2:], rotary_1d(D, 4)), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own use of its TorchScript
def test_a_rotation_is_linear_also_in_forward_mode():
    table, tangent = rotary_2d(D, (2, 3)), draw(6).flip(0)
    value, slope = torch.func.jvp(lambda x: rotate(x, table), (draw(6),), (tangent,))
    torch.testing.assert_close(value, rotate(draw(6), table), rtol=0, atol=1e-6)
    torch.testing.assert_close(slope, rotate(tangent, table), rtol=0, atol=1e-6)


def test_heads_as_a_fused_projection_leaves_them_are_rotated():
    table, qkv = rotary_1d(D, 6), torch.randn(2, 6, 3, 4, D)
    k = qkv.permute(2, 0, 3, 1, 4)[1]  # strided, and not at the beginning of the memory
    torch.testing.assert_close(rotate(k, table), rotate(k.contiguous(), table), rtol=0, atol=0)
    assert rotate(k.bfloat16(), table).dtype == torch.bfloat16

"""Loading is strict: row C7 (wrong shape, missing, extra tensors) and what it says of types and numbers."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from dit.errors import DitError
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.weights import check_finite, empty_model, fill
from tests.zoo.conftest import random_model

TINY = {"input_size": 4, "hidden_size": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
MODEL = ModelDescription.of("dit_ti_2", **TINY)


@pytest.fixture
def saved(tmp_path):
    model = random_model("dit_ti_2", **TINY)
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    return model, path


def test_a_round_trip_is_bit_equal_and_ready_to_use(saved):
    model, path = saved
    loaded = fill(empty_model(MODEL), [path])
    assert not loaded.training
    assert all(not tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert not loaded.pos_embed.requires_grad
    assert loaded.blocks[0].attn.qkv.weight.requires_grad
    x, t, y = torch.randn(3, 4, 4, 4), torch.tensor([0.0, 3.0, 999.0]), torch.tensor([0, 4, 5])
    # MKL promises equal bits only of operands that lie alike in memory, which those in a mapped file need not.
    torch.testing.assert_close(loaded(x, t, y), model(x, t, y))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_blocks_are_converted_while_they_are_read(saved, tmp_path, stored):
    model, _ = saved
    path = tmp_path / "stored.safetensors"
    save_file({name: tensor.to(stored) for name, tensor in model.state_dict().items()}, path)
    found = fill(empty_model(MODEL), [path], block_dtype=torch.float16).state_dict()
    for name, tensor in model.state_dict().items():
        expected = tensor.to(stored).to(torch.float16 if name.startswith("blocks.") else stored)
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected)


def test_what_is_not_finite_is_refused_in_any_type(saved, tmp_path):
    state = saved[0].state_dict()
    state["blocks.1.attn.qkv.weight"][3, 2] = torch.nan
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(DitError, match=r"1 tensors hold NaN or infinity: blocks\.1\.attn\.qkv\.weight"):
        fill(empty_model(MODEL), [tmp_path / "bad.safetensors"], block_dtype=torch.bfloat16)


def change(path, edit):
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


C7 = {
    "missing": (lambda t: t.pop("blocks.1.attn.qkv.bias"), r"1 tensors are missing: blocks\.1\.attn\.qkv\.bias$"),
    "extra": (lambda t: t.update(extra=torch.zeros(1)), r"1 tensors are unexpected: extra$"),
    "shape": (
        lambda t: t.update(pos_embed=torch.zeros(1, 9, 24)),
        r"pos_embed \(expected \[1, 4, 24\], found \[1, 9, 24\]\)",
    ),
    "type": (lambda t: t.update(pos_embed=t["pos_embed"].half()), r"another type than F32: pos_embed \(F16\)"),
    "integers": (
        lambda t: t.update({name: tensor.int() for name, tensor in t.items()}),
        r"another type than F32, F16 or BF16: .*\(I32\)",
    ),
    "nan": (lambda t: t["pos_embed"].__setitem__((0, 3, 1), torch.nan), r"NaN or infinity: pos_embed$"),
}  # fmt: skip


@pytest.mark.parametrize("fault", C7)
def test_c7_what_does_not_fit_is_named(saved, fault):
    _, path = saved
    edit, message = C7[fault]
    change(path, edit)
    with pytest.raises(DitError, match=message) as caught:
        fill(empty_model(MODEL), [path])
    assert str(caught.value).startswith(str(path))


def test_many_faults_stay_on_one_line(saved):
    _, path = saved
    with pytest.raises(DitError, match=r"20 tensors are missing: .* and 15 more$"):
        fill(
            empty_model(ModelDescription.of("dit_ti_2", **TINY | {"depth": 4})), [path]
        )  # 2 further blocks of 10 tensors each


def test_sums_that_overflow_are_not_taken_for_infinity():
    check_finite("x", {"large": torch.full((4,), 3e38), "halves": torch.full((4,), 6e4, dtype=torch.float16)})

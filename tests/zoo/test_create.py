"""Networks by name with weights, fitted to other classes, sizes and channels; row K7 (unknown names)."""

import pytest
import torch

import dit
from dit.errors import ConfigError
from dit.models.families import arguments_of, variants
from dit.zoo.create import create_model, fit
from dit.zoo.entries import entries, list_models
from dit.zoo.export import export
from dit.zoo.folder.config import FolderConfig, ModelDescription
from dit.zoo.folder.weights import save_weights
from dit.zoo.source import Located
from tests.zoo.conftest import TINY, random_model, write_run

NAMES = ["cat", "Dog", "cow", "hen", "pig", "fox", "ant", "bee", "owl", "elk"]
SAME = {key: TINY[key] for key in ("hidden_size", "depth", "num_heads")}


def write_source(tmp_path, codec, **arguments):
    model = random_model(**TINY | arguments)
    run = write_run(tmp_path / "run", model=model, ema=model, codec=codec.describe(),
                    class_names=NAMES[: model.arguments.num_classes], sampling={"guidance": 1.0})  # fmt: skip
    return export(run, tmp_path / "out", samples=False), model


@pytest.fixture
def source(tmp_path, mnist_codec):
    return write_source(tmp_path, mnist_codec)


def create(source, **overrides):
    torch.manual_seed(7)
    return create_model("dit_ti_2", pretrained=source, **SAME | overrides)


def same_but(model, other, *different):
    names = {name for name, tensor in model.state_dict().items() if not equal(tensor, other.state_dict()[name])}
    assert names == set(different)


def equal(a, b):
    return a.shape == b.shape and torch.equal(a, b)


TABLE = "y_embedder.embedding_table.weight"


def test_the_same_arguments_give_the_same_weights_ready_to_train(source):
    folder, model = source
    loaded = create(folder)
    same_but(loaded, model)
    assert loaded.training
    assert loaded.blocks[0].attn.qkv.weight.requires_grad
    assert not loaded.pos_embed.requires_grad


def test_another_number_of_classes_keeps_the_null_row_last(source):
    folder, model = source
    fitted = create(folder, num_classes=4)
    same_but(fitted, model, TABLE)
    table, old = fitted.state_dict()[TABLE], model.state_dict()[TABLE]
    assert table.shape == (5, 24)
    assert torch.equal(table[-1], old[-1])
    assert not any(torch.equal(row, other) for row in table[:-1] for other in old)


def test_rows_of_shared_class_names_are_carried_over(source):
    folder, model = source
    fitted = create(folder, num_classes=3, id2label={0: "fox", 1: "yak", 2: "dog"})
    table, old = fitted.state_dict()[TABLE], model.state_dict()[TABLE]
    assert torch.equal(table[0], old[NAMES.index("fox")])
    assert torch.equal(table[2], old[NAMES.index("Dog")])
    assert not any(torch.equal(table[1], row) for row in old)
    assert torch.equal(table[3], old[-1])


def test_without_names_the_same_number_of_classes_keeps_its_rows(source):
    folder, model = source
    fitted = create(folder, num_classes=10, input_size=4)
    assert torch.equal(fitted.state_dict()[TABLE], model.state_dict()[TABLE])


def test_what_a_variant_says_of_the_latents_is_the_weights_own_here(tmp_path):
    small = {"hidden_size": 24, "depth": 2, "num_heads": 3}
    model = random_model("lightningdit_ti_2", **small, input_size=8, in_channels=4, num_classes=10)
    save_weights(model.state_dict(), tmp_path, "model")
    description = ModelDescription(name="lightningdit_ti_2", arguments=model.arguments)
    config = FolderConfig(model=description, process={"name": "flow"}, latents=None, sampling={})
    weights = Located(tmp_path, config, [tmp_path / "model.safetensors"])
    fitted = fit(weights, "lightningdit_ti_2", {**small, "num_classes": 3})
    assert arguments_of("lightningdit_ti_2").in_channels == 32
    assert fitted.arguments == model.arguments.model_copy(update={"num_classes": 3})


def test_new_rows_depend_on_the_seed_alone(source):
    folder, _ = source
    assert equal(create(folder, num_classes=4).state_dict()[TABLE], create(folder, num_classes=4).state_dict()[TABLE])


def test_another_size_rebuilds_the_positions(source):
    folder, model = source
    fitted = create(folder, input_size=(4, 12))
    same_but(fitted, model, "pos_embed")
    fresh = random_model(**TINY | {"input_size": (4, 12)})
    assert torch.equal(fitted.pos_embed, fresh.pos_embed)


def test_repeated_channels_give_the_same_output_for_repeated_input(source):
    folder, model = source
    fitted = create(folder, in_channels=8)
    x, t, y = torch.randn(3, 4, 8, 8), torch.tensor([0.0, 5.0, 900.0]), torch.tensor([0, 9, 10])
    with torch.no_grad():
        expected = model(x, t, y)
        torch.testing.assert_close(fitted(x.repeat(1, 2, 1, 1), t, y), expected.repeat(1, 2, 1, 1))


def test_repeated_channels_keep_the_halves_of_the_output_apart(tmp_path, mnist_codec):
    folder, model = write_source(tmp_path, mnist_codec, learn_sigma=True)
    fitted = create(folder, in_channels=8, learn_sigma=True)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([0.0, 5.0]), torch.tensor([0, 9])
    with torch.no_grad():
        eps, variance = model(x, t, y).chunk(2, dim=1)
        expected = torch.cat([eps, eps, variance, variance], dim=1)
        torch.testing.assert_close(fitted(x.repeat(1, 2, 1, 1), t, y), expected)


@pytest.mark.parametrize("channels", [3, 6, 2])
def test_channels_that_are_no_multiple_are_refused_with_the_reason(source, channels):
    with pytest.raises(ConfigError, match=f"weights are for 4 channels, asked for {channels}; only a multiple"):
        create(source[0], in_channels=channels)


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_the_variance_half_is_dropped_or_starts_at_zero(tmp_path, mnist_codec, learn_sigma):
    folder, model = write_source(tmp_path, mnist_codec, learn_sigma=not learn_sigma)
    fitted = create(folder, learn_sigma=learn_sigma)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([0.0, 5.0]), torch.tensor([0, 9])
    with torch.no_grad():
        torch.testing.assert_close(fitted(x, t, y)[:, :4], model(x, t, y)[:, :4])
        assert fitted(x, t, y).shape[1] == (8 if learn_sigma else 4)
        assert not fitted(x, t, y)[:, 4:].any()


def test_a_null_row_that_the_weights_lack_starts_anew(tmp_path, mnist_codec):
    folder, model = write_source(tmp_path, mnist_codec, class_dropout_prob=0.0)
    fitted = create(folder, class_dropout_prob=0.1)
    assert torch.equal(fitted.state_dict()[TABLE][:10], model.state_dict()[TABLE])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depth": 3}, "model.depth: the weights of out have 2, asked for 3"),
        ({"num_heads": 4}, "model.num_heads: the weights of out have 3, asked for 4"),
        ({"patch_size": 4}, "model.patch_size: the weights of out have 2, asked for 4"),
        ({"hidden_sizes": 4}, "model.hidden_sizes: unknown key. Did you mean 'hidden_size'"),
        ({"id2label": {10: "x"}}, "id2label: expected ids from 0 to 9, found 10"),
    ],
)
def test_another_architecture_is_refused_with_both_values(source, overrides, message):
    with pytest.raises(ConfigError) as caught:
        create(source[0], **overrides)
    assert message in str(caught.value)


def test_without_weights_a_tag_gives_its_arguments():
    model = create_model("dit_s_2.in256_flow", depth=1)
    assert model.arguments.input_size == (32, 32)
    assert create_model("dit_ti_2", depth=1, num_classes=3).arguments.num_classes == 3


def test_k7_unknown_names_are_refused_with_near_ones():
    with pytest.raises(ConfigError, match=r"unknown name 'dit_xl_2\.in265'.* Did you mean 'dit_xl_2\.in256'"):
        create_model("dit_xl_2.in265", pretrained=True)
    with pytest.raises(ConfigError, match=r"unknown name 'dit_lx_2'.*Did you mean"):
        create_model("dit_lx_2")
    with pytest.raises(ConfigError, match=r"needs a tag, 'dit_b_2\.in256_flow'"):
        create_model("dit_b_2", pretrained=True)
    with pytest.raises(ConfigError, match="which this architecture has none of"):
        create_model("dit_b_8", pretrained=True)


def test_names_are_listed_by_pattern():
    assert list_models() == list(variants())
    assert list_models("dit_xl_2.*", pretrained=True) == [name for name in entries() if name.startswith("dit_xl_2.")]
    assert dit.list_models is list_models
    assert dit.create_model is create_model


def test_a_flow_becomes_averages_of_which_each_is_its_velocity(source):
    """Whatever the earlier time: the second time adds zero at first, and learns."""
    folder, model = source
    fitted = create_model("meanflow_ti_2", pretrained=folder, **SAME)
    x, t, y = torch.randn(2, 4, 8, 8), torch.tensor([300.0, 900.0]), torch.tensor([0, 10])
    velocity = model(x, t, y).chunk(2, dim=1)[0] if model.arguments.learn_sigma else model(x, t, y)
    for r in (t, 0 * t):
        assert torch.equal(fitted(x, t, y, r=r), velocity)
    fitted(x, t, y, r=0 * t).square().sum().backward()
    assert fitted.r_embedder.mlp[2].weight.grad.abs().max() > 0
    described = ModelDescription(name="dit_ti_2", arguments=TINY | {"qk_norm": True})
    other = FolderConfig(model=described, process={"name": "flow"}, latents=None, sampling={})
    with pytest.raises(ConfigError, match=r"model\.qk_norm: the weights of .* have True, asked for False"):
        fit(Located(folder, other, []), "meanflow_ti_2", SAME)
    with pytest.raises(ConfigError, match="are a dit_ti_2's, asked for imf_ti_2"):
        create_model("imf_ti_2", pretrained=folder)

"""What every network of the table keeps, whatever its family: one that joins gets these tests for free."""

import pytest
import torch

from dit.errors import ConfigError
from dit.models import create_model, list_models, register_family
from dit.models.families import FAMILIES, arguments_of, variants
from dit.models.family import Arguments, Family
from dit.models.network import (
    CanFit,
    CanPrepare,
    CanShowTokens,
    block_names,
    cast_blocks,
    compile_blocks,
    hidden_matrices,
)
from dit.models.registry import build
from dit.zoo.folder.config import ModelDescription
from dit.zoo.folder.weights import empty_model, fill, save_weights
from dit.zoo.layouts.architecture import describe_network
from dit.zoo.layouts.table import from_native, recognise, to_native
from tests.goldens import assert_close

SMALL = [name for name, family in variants().items() if name == next(iter(family.variants))]
"""The smallest variant of each family."""


def random_network(name, **overrides):
    """A small network of a family in which no trained parameter is left at zero, with 4 x 4 tokens."""
    torch.manual_seed(0)
    size = 4 * getattr(arguments_of(name), "patch_size", 1)
    network = create_model(name, **{"num_classes": 5, "input_size": size} | overrides).eval()
    for parameter in network.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return network.requires_grad_(False)


def inputs(network, batch=3):
    arguments = network.arguments
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, arguments.in_channels, *arguments.input_size, generator=generator)
    return x, torch.rand(batch, generator=generator), torch.arange(batch) % max(1, arguments.num_classes)


def told(network, t):
    """What a network is told besides time and class, following the time: end of the step, guidance, its interval."""
    return {name: 0.5 * t + (name == "guidance") for name in network.condition_names}


def call(network, x, t, y):
    return network(x, t, y, **told(network, t))


@pytest.fixture(scope="module", params=SMALL)
def network(request):
    return random_network(request.param)


@pytest.mark.parametrize("name", list_models())
def test_every_variant_by_name(name):
    family = variants()[name]
    assert name.startswith(f"{family.name}_")
    arguments = arguments_of(name)
    assert isinstance(arguments, family.arguments)
    assert family.arguments.fitted <= family.arguments.model_fields.keys()
    assert arguments == arguments_of(name, **arguments.model_dump())
    assert arguments == arguments_of(name, **arguments.model_dump(mode="json"))
    assert all(field.description for field in family.arguments.model_fields.values())


@pytest.mark.parametrize("name", SMALL)
def test_the_smallest_variant_is_small_and_built_without_memory(name):
    with torch.device("meta"):
        network = create_model(name)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert 1e6 < sum(parameter.numel() for parameter in network.parameters()) < 8e6


def test_outputs_have_the_shape_of_the_inputs_in_train_mode_too(network):
    x, t, y = inputs(network)
    output = call(network, x, t, y)
    assert output.shape[0] == len(x)
    assert output.shape[2:] == x.shape[2:]
    assert output.shape[1] in (x.shape[1], 2 * x.shape[1])
    assert output.isfinite().all()
    assert torch.equal(call(network.train(), x, t, y), output)  # no randomness: labels are dropped by the training loop
    network.eval()


def test_time_label_and_input_matter(network):
    x, t, y = inputs(network)
    output = call(network, x, t, y)
    for other in ((x + 1, t, y), (x, t * 0.5 + 0.1, y), (x, t, y + 1)):
        assert not torch.allclose(call(network, *other), output)


def test_a_network_is_told_what_it_asks_for_and_nothing_else(network):
    x, t, y = inputs(network)
    for name in network.condition_names[:1]:  # the others are inputs of guidance, which may be left out
        with pytest.raises(ConfigError, match=f"^{name}: expected .* besides t, as in model.*, found none$"):
            network(x, t, y)
    with pytest.raises((ConfigError, TypeError), match="other"):
        network(x, t, y, other=t, **told(network, t))


def test_samples_do_not_see_each_other(network):
    x, t, y = inputs(network)
    output, order = call(network, x, t, y), torch.tensor([1, 2, 0])
    # Products of other sizes may sum in another order: 5e-6 is some 80 roundings, which random modulations multiply.
    assert_close(call(network, x[order], t[order], y[order]), output[order], 5e-6)
    assert_close(torch.cat([call(network, x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)]), output, 5e-6)


@pytest.mark.parametrize("name", SMALL)
def test_an_oblong_input_comes_back_patch_by_patch(name):
    """Where tokens don't see each other, one pixel decides its own patch of the output, all of it and nothing else."""
    p = getattr(arguments_of(name), "patch_size", 1)
    try:
        network = random_network(name, input_size=(2 * p, 3 * p))
    except ConfigError as error:
        assert "input_size: expected a square" in str(error)  # noqa: PT017
        return
    for path, module in network.named_modules():
        if path.endswith(("attn.proj", "attn.out_proj")):
            torch.nn.init.zeros_(module.weight)
        if getattr(module, "padding", (0, 0)) != (0, 0):  # a convolution over the whole image at the end
            torch.nn.init.dirac_(module.weight)
    x, t, y = inputs(network, batch=1)
    changed = torch.zeros(x.shape[2:], dtype=torch.bool)
    changed[:p, 2 * p :] = True
    other = x.clone()
    other[..., 0, 2 * p] += 1
    assert torch.equal((call(network, other, t, y) != call(network, x, t, y)).any(1)[0], changed)


def test_a_prepared_step_is_the_plain_call(network):
    if not isinstance(network, CanPrepare):
        pytest.skip("it prepares nothing")
    x, _, y = inputs(network)
    times = torch.tensor([0.9, 0.5, 0.1])
    both = torch.cat([y, torch.full_like(y, 1 if network.null_class is None else network.null_class)])
    step = network.prepare(times, both, **told(network, times))
    for i in (0, 2, 1):
        t = times[i].expand(len(x))
        plain = torch.cat([call(network, x, t, y), call(network, x, t, both[3:])])
        assert_close(step(x, i), plain, 5e-6)
        assert_close(step(x, i, slice(3, None)), plain[3:], 5e-6)


def test_tokens_between_the_blocks(network):
    if not isinstance(network, CanShowTokens):
        pytest.skip("it shows none")
    x, t, y = inputs(network)
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, tokens: seen.append(tokens)) for block in network.block_list()]
    output, tokens = network.forward_intermediates(x, t, y, after=[2, 1], **told(network, t))
    for hook in hooks:
        hook.remove()
    assert torch.equal(output, call(network, x, t, y))
    assert torch.equal(tokens[0], seen[1])
    assert torch.equal(tokens[1], seen[0])


def test_hidden_matrices_are_the_blocks_without_modulations(network):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [names[id(matrix)] for matrix in hidden_matrices(network)]
    assert len(found) == len(set(found)) >= 4 * len(network.block_list()) - 4
    of_blocks = {name for name in block_names(network) if network.state_dict()[name].ndim == 2}
    assert set(found) <= of_blocks
    others = of_blocks - set(found)
    assert all("modulation" in name or "relative_position_bias_table" in name for name in others), others


def test_the_blocks_are_most_of_the_network_and_can_be_cast(network):
    names = block_names(network)
    state = network.state_dict()
    sizes = {name: tensor.numel() for name, tensor in state.items()}
    assert names <= sizes.keys()
    assert sum(sizes[name] for name in names) > 0.7 * sum(sizes.values())
    x, t, y = inputs(network)
    output = call(network, x, t, y)
    other = cast_blocks(build(SMALL_OF[type(network)], network.arguments), torch.bfloat16)
    assert {name for name, tensor in other.state_dict().items() if tensor.dtype == torch.bfloat16} == names
    other.load_state_dict(state)
    in_bf16 = call(other.eval(), x, t, y)
    assert in_bf16.dtype == torch.float32
    # bfloat16 keeps 8 bits: a relative 0.4% a rounding, which a few blocks of random weights multiply.
    assert_close(in_bf16, output, 0.2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch warns of its own doings while it compiles
def test_compiled_blocks_are_the_blocks(network):
    x, t, y = inputs(network)
    other = build(SMALL_OF[type(network)], network.arguments).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        # Fused operations round less often, and products sum in another order.
        assert_close(call(compile_blocks(other), x, t, y), call(network, x, t, y), 5e-6)


def test_fitting_to_the_same_classes_changes_nothing(network):
    if not isinstance(network, CanFit):
        pytest.skip("it can't be fitted")
    new = build(SMALL_OF[type(network)], network.arguments)
    known = [label for label in (*range(5), network.null_class) if label is not None]
    new.load_state_dict(new.fit(network.state_dict(), network.arguments, {label: label for label in known}))
    x, t, y = inputs(network)
    assert torch.equal(call(new.eval(), x, t, y), call(network, x, t, y))


def test_fitting_moves_the_rows_of_labels(network):
    if not isinstance(network, CanFit):
        pytest.skip("it can't be fitted")
    new = random_network(SMALL_OF[type(network)], num_classes=3)
    new.load_state_dict(new.fit(network.state_dict(), network.arguments, {0: 4, 2: 1}))
    x, t, _ = inputs(network, batch=2)
    assert torch.equal(call(new, x, t, torch.tensor([0, 2])), call(network, x, t, torch.tensor([4, 1])))


def test_fitting_to_another_size_keeps_what_becomes_of_a_patch(network):
    """Where tokens don't see each other: positions count from the corner, and a family that learned them refuses."""
    height, width = network.arguments.input_size
    old, new = (build(SMALL_OF[type(network)], arguments).eval() for arguments in (
        network.arguments, network.arguments.model_copy(update={"input_size": (2 * height, 2 * width)})
    ))  # fmt: skip
    weights = network.state_dict()
    for name in weights:
        if name.endswith(("attn.proj.weight", "attn.out_proj.weight")):
            weights[name] = torch.zeros_like(weights[name])
    old.load_state_dict(weights)
    known = {label: label for label in (*range(5), network.null_class) if label is not None}
    if any(parameter.requires_grad for name, parameter in old.named_parameters() if "pos_embed" in name):
        with pytest.raises(ConfigError, match=r"model.input_size: expected .* learned and fit no other size, found"):
            new.fit(weights, network.arguments, known)
        return
    new.load_state_dict(new.fit(weights, network.arguments, known))
    x, t, y = inputs(new)
    found = call(new, x, t, y)[..., :height, :width]
    # Products of other sizes may sum in another order: 5e-6 is some 80 roundings, which random modulations multiply.
    assert_close(found, call(old, x[..., :height, :width], t, y), 5e-6)


def test_fitting_to_more_channels_repeats_them(network):
    name, channels = SMALL_OF[type(network)], network.arguments.in_channels
    new = build(name, network.arguments.model_copy(update={"in_channels": 2 * channels})).eval()
    known = {label: label for label in (*range(5), network.null_class) if label is not None}
    new.load_state_dict(new.fit(network.state_dict(), network.arguments, known))
    x, t, y = inputs(network)
    halves = call(network, x, t, y).unflatten(1, (-1, channels))  # (B, parts, C, H, W)
    # The sum over twice as many channels rounds in another order.
    assert_close(call(new, x.repeat(1, 2, 1, 1), t, y), halves.repeat(1, 1, 2, 1, 1).flatten(1, 2), 5e-6)


def test_weights_are_saved_and_loaded_again(network, tmp_path):
    save_weights(network.state_dict(), tmp_path, "model")
    description = ModelDescription(name=SMALL_OF[type(network)], arguments=network.arguments)
    assert ModelDescription.model_validate_json(description.model_dump_json()) == description
    loaded = fill(empty_model(description), [tmp_path / "model.safetensors"])
    assert torch.equal(call(loaded, *inputs(network)), call(network, *inputs(network)))


@pytest.mark.parametrize("name", [name for name in list_models() if variants()[name].layouts])
def test_published_names_tell_the_family_and_shapes_the_arguments(name):
    """Under the names of the first layout; where variants have the same shapes, the name decides."""
    family, description = variants()[name], ModelDescription.of(name)
    state = empty_model(description).state_dict()
    foreign = from_native(state, family.layouts[0])
    found, layout = recognise(foreign)
    assert found is family
    native, left_out = to_native(foreign, layout)
    assert (native.keys(), left_out) == (state.keys(), [])
    shapes = {key: tuple(tensor.shape) for key, tensor in native.items()}
    given = {"name": name, "input_size": description.arguments.input_size}  # not told where there are no positions
    assert describe_network(family, shapes, given) == description


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"class_dropout_prob": 1.5}, "model.class_dropout_prob: expected a value less than 1, found 1.5"),
        ({"input_size": "32"}, r"model.input_size: expected one number or \[height, width\], found '32'"),
        ({"input_size": (8, 8, 8)}, r"model.input_size: expected one number or \[height, width\], found \[8, 8, 8\]"),
        ({"num_classes": -1}, "model.num_classes: expected a value greater than or equal to 0, found -1"),
        ({"in_channels": 2.5}, "model.in_channels: expected an integer, found 2.5"),
        ({"class_dropout": 0.1}, "model.class_dropout: unknown key. Did you mean 'class_dropout_prob'"),
    ],
)
@pytest.mark.parametrize("name", SMALL)
def test_arguments_of_all_families_that_no_network_has(name, overrides, message):
    with pytest.raises(ConfigError, match=f"^{message}") as error:
        create_model(name, **overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("dit", "dit_new_2", "expected a new name, found 'dit'"),
        ("other", "dit_ti_2", "expected a new name, found 'dit_ti_2'"),
        ("other", "mine_2", "expected names that begin with other_, found 'mine_2'"),
        ("other", "other_2.a", "expected names that begin with other_, found 'other_2.a'"),
    ],
)
def test_names_that_a_new_family_can_not_have(name, variant, message):
    before = dict(FAMILIES)
    with pytest.raises(ConfigError, match=f"register_family: {message}"):
        register_family(Family(name=name, arguments=Arguments, network="x:X", variants={variant: {}}))
    assert before == FAMILIES


SMALL_OF = {type(create_model(name)): name for name in SMALL}

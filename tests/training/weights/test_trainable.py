"""What is trained: exact resume, any number of processes, what frozen parameters cost, every family, refusals."""

import json

import pytest
import torch

from dit import checkpoint
from dit.errors import ConfigError
from dit.models.families import FAMILIES
from dit.models.registry import create_model
from dit.training.config import EmaConfig, LoraConfig, OptimConfig
from dit.training.weights.ema import Ema
from dit.training.weights.optim import create_optimizer
from dit.training.weights.trainable import choose_trained, count_trained
from dit.validation import validate
from tests.training.fakes import make_parts, make_recipe
from tests.training.test_loop import assert_same_end, compared, rows, torchrun, train, train_until

PATTERNS = ["blocks.1.*", "y_embedder.*"]
CHOICES = {
    "patterns": {"optim.trainable": PATTERNS},
    "lora": {"optim.trainable": {"name": "lora", "rank": 2, "also": ["y_embedder.*"]}},
}


def chosen(value):
    return validate(OptimConfig, {"trainable": value}, origin="recipe").trainable


@pytest.fixture(scope="module", params=CHOICES)
def trained(request, tmp_path_factory):
    """Name of a choice and an uninterrupted run with it."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    train(output, **CHOICES[request.param])
    return request.param, output


def begun(name):
    """The network as the run of a choice begins with it."""
    recipe = make_recipe(**CHOICES[name])
    model = make_parts(recipe)[0]
    choose_trained(model, recipe.optim.trainable, recipe.train.seed)
    return model


def test_what_is_trained_changes_and_nothing_else(trained):
    name, output = trained
    saved = checkpoint.load_newest(output / "checkpoints")
    model, found = begun(name), saved.tensors("model")
    kept = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert {key for key, value in model.state_dict().items() if not torch.equal(found[key], value)} == kept
    alphas = {key for key in found if key.endswith(".alpha")}
    assert saved.tensors("ema").keys() == kept | alphas
    assert {key.partition(".")[2] for key in saved.tensors("optimizer")} == kept


def test_exact_resume(trained, tmp_path):
    name, output = trained
    train_until(3, tmp_path / "run", **CHOICES[name])
    train(tmp_path / "run", resume=True, **CHOICES[name])
    assert_same_end(tmp_path / "run", output)
    assert compared(tmp_path / "run") == compared(output)


def test_two_processes_equal_one(trained, tmp_path):
    name, output = trained
    done = torchrun(tmp_path / "run", **CHOICES[name], **{"train.gradient_accumulation": 2})
    assert done.returncode == 0, done.stderr
    # Sums of float32 in another order, over six steps of a learning rate of 1e-2.
    for key in ("loss", "grad_norm"):
        found, expected = ([row[key] for row in rows(run)] for run in (tmp_path / "run", output))
        assert found == pytest.approx(expected, rel=1e-4), key


def test_another_choice_does_not_continue_a_run(trained):
    _, output = trained
    with pytest.raises(ConfigError, match=r"optim\.trainable\.name: the run has '(patterns|lora)', found 'all'"):
        train(output, resume=True, **{"train.max_steps": 7})


@pytest.mark.parametrize("name", CHOICES)
def test_frozen_parameters_have_no_gradient_no_state_and_no_copy(name):
    model = begun(name)
    ema, optimizer = Ema(model, EmaConfig(), whole=False), create_optimizer(model, OptimConfig())
    x = torch.randn(2, 2, 4, 4)
    model(x, torch.ones(2), torch.tensor([0, 1])).square().mean().backward()
    optimizer.step()
    for key, parameter in model.named_parameters():
        shares = ema.network.get_parameter(key).data_ptr() == parameter.data_ptr()
        found = (parameter.grad is None, bool(optimizer.state.get(parameter)), shares)
        assert found == ((False, True, False) if parameter.requires_grad else (True, False, True)), key


def tiny(family):
    """A network of a family, of two or three narrow blocks."""
    name = next(name for name in FAMILIES[family].variants if "_ti_" in name)
    fields = FAMILIES[family].arguments.model_fields
    narrow = {"hidden_size": 24, "num_heads": 2, "head_size": 24, "decoder_size": 24, "num_classes": 3}
    return create_model(name, **{field: value for field, value in narrow.items() if field in fields})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_by_lora(family):
    torch.manual_seed(0)
    model = tiny(family)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    total, arguments = sum(p.numel() for p in model.parameters()), model.arguments
    x = torch.randn(2, arguments.in_channels, *arguments.input_size)
    inputs = x, torch.full((2,), 0.5), torch.tensor([0, 1])
    conditions = {name: torch.full((2,), 0.25) for name in model.condition_names}
    before = model(*inputs, **conditions)
    choose_trained(model, LoraConfig(rank=1), seed=0)
    assert torch.equal(model(*inputs, **conditions), before)  # B is zero
    optimizer = create_optimizer(model, OptimConfig(lr=1e-3))
    losses = []
    for _ in range(10):
        loss = (model(*inputs, **conditions) - before.detach() - 0.1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert 0 < count_trained(model) < 0.1 * total


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"name": "lora", "targets": ["*.atn.*"]},
            r"trainable\.targets: .*linear layer of the network's blocks \(bloc",
        ),
        ({"name": "lora", "targets": ["y_embedder.*"]}, r"trainable\.targets: .*found 'y_embedder\.\*', which matches"),
        (
            {"name": "lora", "also": ["nothing"]},
            r"trainable\.also: expected patterns of names of a parameter .*'nothing'",
        ),
        (["final_layer.*", "nothing"], r"trainable\.patterns: .*found 'nothing', which matches none"),
        (["pos_embed"], r"trainable\.patterns: .*found 'pos_embed', which matches none"),
    ],
)
def test_what_matches_nothing_is_refused_before_a_folder_is_made(tmp_path, value, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", **{"optim.trainable": value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("some", r"optim\.trainable: expected 'all' or 'patterns' or 'lora', found 'some'"),
        ([], r"optim\.trainable: expected at least 1 values, found \[\]"),
        ({"name": "lora", "rank": 0}, r"optim\.trainable\.rank: expected a value greater"),
        ({"name": "lora", "ranks": 1}, r"optim\.trainable\.ranks: unknown key.* 'optim\.trainable\.rank'"),
        (3, r"optim\.trainable: expected a name or a mapping with one, found 3"),
    ],
)
def test_a_wrong_choice_is_one_line(value, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(**{"optim.trainable": value})


def test_a_list_is_short_for_patterns_and_is_read_back():
    found = make_recipe(**{"optim.trainable": PATTERNS}).optim.trainable
    assert found.model_dump() == {"name": "patterns", "patterns": tuple(PATTERNS)}
    assert chosen(json.loads(found.model_dump_json())) == found
    assert chosen("lora") == LoraConfig()

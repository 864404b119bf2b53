"""Training files of others: weights, average and AdamW's state by our names, and a run that goes on from them."""

from dataclasses import replace

import pytest
import torch

from dit import checkpoint
from dit.errors import ConfigError, DitError
from dit.models.dit.layouts import LAYOUTS
from dit.training.loop import run
from dit.training.trainer import Start
from dit.zoo.create import create_model
from dit.zoo.layouts.training_file import read_moments, read_training_file
from dit.zoo.source import Located
from tests.training.fakes import make_parts, make_recipe
from tests.training.test_loop import assert_same_end, compared, rows, stop_at, train, train_until

HEADS = {"num_heads": 2}
PROJECTORS = {"projectors.0.0.weight": torch.ones(5, 7), "projectors.0.0.bias": torch.ones(5)}


def numbered(model, state, **group):
    """The state dict of torch's optimizer over all of a model's parameters: `state` has tensors `<key>.<name>`."""
    names = [name for name, _ in model.named_parameters()]
    entries = {}
    for number, name in enumerate(names):
        found = {key: state[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in state}
        if found:
            entries[number] = found
    return {"state": entries, "param_groups": [{"lr": 1e-4, "params": list(range(len(names))), **group}]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    output = tmp_path_factory.mktemp("whole") / "run"
    train(output)
    return output


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that died after step 3 of 6."""
    output = tmp_path_factory.mktemp("stopped") / "run"
    train_until(3, output)
    return output


@pytest.fixture
def content(stopped):
    """What another program would have written after its step 3."""
    saved = checkpoint.load_newest(stopped / "checkpoints")
    model, *_ = make_parts(make_recipe())
    state = numbered(model, saved.tensors("optimizer"))
    weights = saved.tensors("model")  # of which a module's state dict has another order than a file
    return {
        "model": {name: weights[name] for name in model.state_dict()},
        "ema": saved.tensors("ema"),
        "opt": state,
        "steps": 3,
    }


@pytest.fixture
def go_on(content, tmp_path):
    """Write the file with what differs, and go on from it in a run."""

    def act(output=tmp_path / "run", changes=(), **overrides):
        torch.save(content | dict(changes), tmp_path / "last.pt")
        found = read_training_file(tmp_path / "last.pt", HEADS)
        recipe = make_recipe(**overrides)
        _, *parts = make_parts(recipe)
        located = Located(tmp_path / "last.pt", found.model.config, [], found.model.tensors)
        model = create_model(recipe.model.name, pretrained=located, **recipe.model.overrides())
        start = Start(str(tmp_path / "last.pt"), found.average, found.moments, found.step)
        return run(recipe, model, *parts, output, start=start)

    return act


def test_a_run_goes_on_as_the_one_that_wrote_it(go_on, whole, tmp_path):
    """To the last bit: weights, average, both moments and the steps that correct their bias."""
    go_on()
    assert_same_end(tmp_path / "run", whole)
    assert compared(tmp_path / "run") == compared(whole)[3:]


def test_it_resumes_from_its_own_checkpoints(go_on, whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            go_on(**{"train.checkpoint_every": 1})
    train(tmp_path / "run", resume=True, **{"train.checkpoint_every": 1})
    assert [row["step"] for row in rows(tmp_path / "run")] == [4, 5, 6]
    assert compared(tmp_path / "run") == compared(whole)[3:]


def test_heads_and_tables_among_the_parameters_are_told_apart(content, tmp_path, go_on, whole):
    """REPA's file has projectors in the weights, their numbers in the optimizer, and prefixes of a wrapped network."""
    weights = {f"module.{name}": tensor for name, tensor in (content["model"] | PROJECTORS).items()}
    count = len(content["opt"]["param_groups"][0]["params"])
    entries = dict(content["opt"]["state"])
    for number, tensor in enumerate(PROJECTORS.values(), start=count):
        entries[number] = {"step": torch.tensor(3.0), "exp_avg": tensor, "exp_avg_sq": tensor}
    groups = [{"params": list(range(count + 2))}]
    go_on(changes={"model": weights, "opt": {"state": entries, "param_groups": groups}})
    assert_same_end(tmp_path / "run", whole)


def test_what_has_no_number_is_left_out(content):
    """With a table that has no number, as a rotary embedding's."""
    layout = next(layout for layout in LAYOUTS if layout.name == "DiT or SiT")
    expected = read_moments(content["opt"], content["model"], layout)
    assert {label.partition(".")[0] for label in expected} == {"step", "exp_avg", "exp_avg_sq"}
    table = {"pos_table": torch.zeros(3)}
    dropping = replace(layout, dropped=("projectors.*", "pos_table"))
    assert read_moments(content["opt"], table | content["model"], dropping).keys() == expected.keys()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state["state"].clear(),
        lambda state: [entry.update(max_exp_avg_sq=entry["exp_avg"]) for entry in state["state"].values()],
        lambda state: [entry.pop("exp_avg") for entry in state["state"].values()],
        lambda state: state["param_groups"][0]["params"].reverse(),
        lambda state: state["param_groups"][0]["params"].pop(),
    ],
    ids=["empty", "amsgrad", "momentum", "order", "number"],
)
def test_the_state_of_another_optimizer_begins_anew_and_that_is_said(content, go_on, tmp_path, capsys, spoil):
    spoil(content["opt"])
    go_on(**{"train.max_steps": 4})
    assert "the state of the optimizer begins anew, for the file's is none of AdamW's" in capsys.readouterr().err
    assert rows(tmp_path / "run")[0]["step"] == 4


def test_another_optimizer_of_ours_begins_anew(go_on, capsys):
    go_on(**{"train.max_steps": 4, "optim.name": "muon"})
    assert "the state of the optimizer begins anew, for optim.name is muon" in capsys.readouterr().err


def test_without_a_number_of_steps_the_optimizer_tells_it(content, tmp_path):
    del content["steps"]
    torch.save(content, tmp_path / "last.pt")
    assert read_training_file(tmp_path / "last.pt", HEADS).step == 3


def test_the_process_is_the_files_where_it_tells_it(content, tmp_path):
    for told, given, expected in ((None, "flow", "flow"), (None, None, "gaussian"), ("SiT-S/2", "gaussian", "flow")):
        args = {} if told is None else {"args": {"model": told}}
        torch.save(content | args, tmp_path / "last.pt")
        assert read_training_file(tmp_path / "last.pt", HEADS, given).model.config.process.name == expected


def test_what_can_not_go_on_is_refused(content, go_on, tmp_path):
    with pytest.raises(ConfigError, match=r"train\.max_steps: expected more than the 3 of .*last\.pt, found 3"):
        go_on(**{"train.max_steps": 3})
    with pytest.raises(ConfigError, match=r"from_file: expected no further_decays or sigma_rels"):
        make_recipe(**{"ema.from_file": True, "ema.further_decays": [0.5]})
    with pytest.raises(DitError, match=r"steps: expected a whole number, found 'three'"):
        go_on(changes={"steps": "three"})
    torch.save(content["ema"], tmp_path / "flat.pt")
    for name, found in (("flat.pt", "without them"), ("no.pt", "no file")):
        with pytest.raises(ConfigError, match=rf"ema\.from_file: expected a training file with .*{found}"):
            read_training_file(tmp_path / name, HEADS)

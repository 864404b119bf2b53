"""Runs with auxiliary losses: exact resume, any number of processes, columns, checkpoints, refusals."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from dit import checkpoint
from dit.config import check_recipe
from dit.diffusion.config import AverageVelocityConfig, FlowConfig, GaussianConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError, DitError
from dit.models.network import Network
from dit.models.registry import network_class
from dit.training.objectives.auxiliary import AuxiliaryLoss
from dit.training.objectives.config import AUXILIARY, AuxiliaryConfig
from dit.training.objectives.create import check_objective
from dit.training.objectives.dispersive import Dispersive
from tests.goldens import load_tensors
from tests.training.fakes import make_recipe
from tests.training.test_loop import assert_same_end, compared, rows, torchrun, train, train_until

METHODS = {
    "alignment": {"block": 1, "head_width": 8, "until_step": 5},
    "velocity_direction": {"weight": 0.5},
    "self_alignment": {"block": 1, "teacher_block": 2},
    "dispersive": {"block": 1, "group": 2},
    "contrastive_flow": {"group": 2},
    "masked_side": {},
    "masked_reconstruction": {"schedule": "falling"},
}
"""Fields of each loss in a run of 8 images."""
OTHERS = {
    "alignment": {"latents.encode": "while_training"},
    "masked_side": {"model.name": "mdt_ti_2", "model.decode_layers": 1},
    "masked_reconstruction": {"model.name": "maskdit_ti_2", "model.learn_sigma": None, "process.name": "edm"},
}


def switched_on(name):
    return {"objective.auxiliary": [{"name": name, **METHODS[name]}], **OTHERS.get(name, {})}


@pytest.fixture(scope="module", autouse=True)
def _encoder(tmp_path_factory):
    """A small DINOv2 with registers and random weights, as a folder."""
    folder, prefix, golden = tmp_path_factory.mktemp("encoder"), "state.encoder.", load_tensors("families/rae_encoder")
    tensors = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"num_attention_heads": 2}')
    METHODS["alignment"]["encoder"] = str(folder)


def test_every_loss_is_tested():
    assert set(METHODS) == set(AUXILIARY)


@pytest.fixture(scope="module", params=METHODS)
def trained(request, tmp_path_factory):
    """Name of a loss and an uninterrupted run with it."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    train(output, **switched_on(request.param))
    return request.param, output


def test_the_loss_has_its_column_and_reaches_the_weights(trained, tmp_path):
    name, output = trained
    found = [row[f"loss_{name}"] for row in rows(output)]
    assert len(set(found)) == 6
    train(tmp_path / "plain", **OTHERS.get(name, {}), **{"train.max_steps": 1})
    first, plain = rows(output)[0], rows(tmp_path / "plain")[0]
    assert first["grad_norm"] != pytest.approx(plain["grad_norm"], rel=1e-4)
    if not AUXILIARY[name].hides_tokens:
        assert first["loss"] == pytest.approx(plain["loss"], rel=1e-6)  # the process's own, alone


def test_exact_resume(trained, tmp_path):
    name, output = trained
    train_until(3, tmp_path / "run", **switched_on(name))
    train(tmp_path / "run", resume=True, **switched_on(name))
    assert_same_end(tmp_path / "run", output)
    assert compared(tmp_path / "run") == compared(output)


def test_two_processes_equal_one(trained, tmp_path):
    name, output = trained
    done = torchrun(tmp_path / "run", **switched_on(name), **{"train.gradient_accumulation": 2})
    assert done.returncode == 0, done.stderr
    # Sums of float32 in another order, over six steps of a learning rate of 1e-2.
    for key in ("loss", f"loss_{name}", "grad_norm"):
        found, expected = ([row[key] for row in rows(run)] for run in (tmp_path / "run", output))
        assert found == pytest.approx(expected, rel=1e-4), key


def test_all_at_once(tmp_path):
    names = METHODS.keys() - {"masked_reconstruction"}  # it leaves tokens out that others want
    several = {"objective.auxiliary": [{"name": name, **METHODS[name]} for name in sorted(names)]}
    train(tmp_path / "run", **OTHERS["masked_side"], **OTHERS["alignment"], **several, **{"train.max_steps": 2})
    assert {f"loss_{name}" for name in names} <= set(rows(tmp_path / "run")[-1])


PLAIN = {key: value for key, value in OTHERS["masked_side"].items() if key.startswith("model.")}


def test_without_a_masked_pass_what_it_alone_uses_is_left_alone(tmp_path):
    """In any number of processes, and over a resumption."""
    train_until(3, tmp_path / "run", **PLAIN)
    before = checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors("model")["mask_token"]
    done = torchrun(tmp_path / "run", "--resume", **PLAIN)
    assert done.returncode == 0, done.stderr
    assert torch.equal(checkpoint.load_newest(tmp_path / "run" / "checkpoints").tensors("model")["mask_token"], before)


class Pulled(AuxiliaryLoss):
    """The mean square of a head's output, in the first four steps."""

    block, until_step = 2, 4

    def __init__(self, config, surroundings):
        super().__init__(config, surroundings)
        self.head = torch.nn.Linear(surroundings.arguments.hidden_size, 5)

    def __call__(self, seen):
        return seen.tokens.square().mean((1, 2))


@pytest.fixture
def pulled(monkeypatch):
    """A loss with a head, registered while a test runs, for `auxiliary`."""

    class PulledConfig(AuxiliaryConfig):
        """A head's output becomes small."""

        loss = f"{__name__}:Pulled"
        name: str = "pulled"
        """Which loss."""
        weight: float = 1.0
        """Its weight."""

    monkeypatch.setitem(AUXILIARY, "pulled", PulledConfig)
    return {"objective.auxiliary": ["pulled"], "train.max_steps": 6}


def test_heads_are_trained_and_saved_beside_the_network(pulled, tmp_path, whole):
    train(tmp_path / "run", **pulled)
    folder = checkpoint.load_newest(tmp_path / "run" / "checkpoints")
    assert set(folder.tensors("heads")) == {"pulled.weight", "pulled.bias"}
    for name in ("model", "ema"):
        plain = checkpoint.load_newest(whole / "checkpoints").tensors(name)
        assert set(folder.tensors(name)) == set(plain)
    assert any(folder.tensors("heads")["pulled.bias"] != 0)
    column = [row["loss_pulled"] for row in rows(tmp_path / "run")]
    assert column[4:] == [0, 0]
    assert column[3] < column[0] / 2


def test_a_run_with_a_head_resumes_exactly_also_after_its_last_step(pulled, tmp_path):
    train(tmp_path / "whole", **pulled)
    for step in (3, 5):
        overrides = pulled | {"train.checkpoint_every": step}
        train_until(step, tmp_path / str(step), **overrides)
        train(tmp_path / str(step), resume=True, **overrides)
        assert_same_end(tmp_path / str(step), tmp_path / "whole")


def test_lost_heads_are_missed(pulled, tmp_path):
    train(tmp_path / "run", **pulled)
    for saved in (tmp_path / "run" / "checkpoints").iterdir():
        manifest = json.loads((saved / "manifest.json").read_text())
        del manifest["files"]["heads.safetensors"]
        (saved / "manifest.json").write_text(json.dumps(manifest))
        (saved / "heads.safetensors").unlink()
    with pytest.raises(DitError, match="expected the tensors of 'heads'"):
        train(tmp_path / "run", resume=True, **pulled | {"train.max_steps": 7})


def test_a_loss_that_is_not_finite_is_named(tmp_path, monkeypatch):
    plain = Dispersive.__call__
    monkeypatch.setattr(Dispersive, "__call__", lambda self, seen: plain(self, seen) / (seen.step != 1))
    with pytest.raises(DitError, match=r"step 2: found a loss \(dispersive\) that is not finite in 8 samples"):
        train(tmp_path / "run", **switched_on("dispersive"))
    (dump,) = (tmp_path / "run").glob("bad-step*.json")
    samples = json.loads(dump.read_text())["samples"]
    assert len(samples) == 8
    assert all(isinstance(row["loss"], float) and isinstance(row["loss_dispersive"], str) for row in samples)


class Opaque(Network):
    """A network without capabilities."""


@pytest.mark.parametrize(
    ("loss", "process", "message"),
    [
        (
            "dispersive",
            FlowConfig(),
            r"dispersive: expected a network that can show its tokens between blocks, found Opaque",
        ),
        (
            "velocity_direction",
            GaussianConfig(),
            r"velocity_direction: expected a process with prediction velocity, found ga",
        ),
        ("dispersive", AverageVelocityConfig(), r"dispersive: expected process flow or gaussian or edm, found average"),
    ],
)
def test_what_network_or_process_have_nothing_for_is_refused(loss, process, message):
    with pytest.raises(ConfigError, match=rf"^objective\.auxiliary: {message}"):
        check_objective(make_recipe(**switched_on(loss)).objective, Opaque, create_process(process))


def test_tokens_are_not_taken_where_some_are_left_out():
    both = ["masked_reconstruction", {"name": "dispersive", "block": 1}]
    recipe = make_recipe(**OTHERS["masked_reconstruction"], **{"objective.auxiliary": both})
    with pytest.raises(ConfigError, match=r"dispersive: expected all tokens, found masked_reconstruction beside it"):
        check_objective(recipe.objective, network_class(recipe.model.name), create_process(recipe.process))


def test_images_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"latents\.encode: expected while_training, since a loss .*, found ahead"):
        make_recipe(**{"objective.auxiliary": [{"name": "alignment", **METHODS["alignment"]}]})


def test_the_examples_of_the_manual_are_recipes():
    manual = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    names = set()
    for example in re.findall(r"```yaml\n(.*?)```", manual, re.DOTALL):
        recipe = check_recipe(yaml.safe_load(example))
        check_objective(recipe.objective, network_class(recipe.model.name), create_process(recipe.process))
        names |= {section.name for section in recipe.objective.auxiliary}
    assert names == set(AUXILIARY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block": 3, "group": 2}, r"0\.block: dispersive: expected a block of the network's 2, found 3"),
        ({"block": 1, "group": 3}, r"0\.group: dispersive: expected a divisor of the 8 images .* at a time, found 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, fields, message):
    with pytest.raises(ConfigError, match=rf"^objective\.auxiliary\.{message}"):
        train(tmp_path / "run", **{"objective.auxiliary": [{"name": "dispersive", **fields}]})


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"name": "dispersve"}], r"0: expected name .*, found 'dispersve'\. Did you mean 'dispersive'\?"),
        ([{"name": "dispersive"}], r"0\.block: expected a value, found none"),
        (
            ["velocity_direction", {"name": "dispersive", "block": 1, "wieght": 2}],
            r"1\.wieght: unknown key\. Did you mean 'objective\.auxiliary\.1\.weight'\?",
        ),
        (["velocity_direction"] * 2, r"expected every loss once, found velocity_direction 2 times"),
    ],
)
def test_wrong_lists_are_refused(items, message):
    with pytest.raises(ConfigError, match=rf"objective\.auxiliary(\.|: ){message}"):
        make_recipe(**{"objective.auxiliary": items})

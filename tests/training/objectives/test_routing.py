"""Runs in which tokens skip blocks: the tokens of a batch, exact resume, any number of processes, refusals."""

import pytest
import torch

from dit.diffusion.config import AverageVelocityConfig, FlowConfig
from dit.diffusion.create import create_process
from dit.errors import ConfigError
from dit.models.registry import network_class
from dit.rng import Purpose, StepDraws
from dit.training.objectives.auxiliary import Surroundings
from dit.training.objectives.config import VelocityDirectionConfig
from dit.training.objectives.create import check_objective
from dit.training.objectives.objective import Objective, WithHeads
from dit.training.objectives.velocity_direction import VelocityDirection
from tests.training.fakes import make_parts, make_recipe
from tests.training.objectives.passes import make_batch
from tests.training.test_loop import assert_same_end, compared, rows, torchrun, train, train_until

ROUTED = {
    "model.depth": 4,
    "objective.routing": {"leave_after": 1, "rejoin_after": 3, "ratio": 0.5},
    # Composed with losses of the same pass, whose tokens are taken where all are there.
    "objective.auxiliary": ["velocity_direction", {"name": "dispersive", "block": 3, "group": 2}],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An uninterrupted run."""
    output = tmp_path_factory.mktemp("routed") / "run"
    train(output, **ROUTED)
    return output


def test_the_loss_is_that_of_the_routed_network():
    recipe = make_recipe(**{**ROUTED, "objective.auxiliary": []})
    network, process, *_ = make_parts(recipe)
    routing = recipe.objective.routing
    trained = WithHeads(network, {}, routing)
    drawn = [torch.randn(5, 2, 4, 4) for _ in range(2)]
    batch = make_batch(drawn[0], torch.tensor([0, 1, 2, 3, 0]), drawn[1], torch.rand(5).double())
    found = Objective(process, trained, trained, {}, routing).losses(batch, 0)
    # What the law of blocks draws for these rows: half of the four tokens.
    keep = StepDraws(0, 0, 5, range(5)).normal(Purpose.ROUTE, (4,)).argsort(1)[:, :2]

    def routed(x_t, t, y):
        return network.forward_routed(x_t, t, y, keep, leave_after=1, rejoin_after=3)[0]

    others = {"noise": batch.noise, "u": batch.u}
    expected = process.losses(routed, batch.x_0, batch.y, **others)
    assert torch.equal(found.loss, expected.loss)
    assert not torch.allclose(found.loss, process.losses(network, batch.x_0, batch.y, **others).loss, rtol=1e-3)


def test_without_a_loss_that_looks_at_it_the_pass_is_the_same():
    recipe = make_recipe(**{**ROUTED, "objective.auxiliary": []})
    network, process, *_ = make_parts(recipe)
    batch = make_batch(torch.randn(4, 2, 4, 4), torch.zeros(4).long(), torch.randn(4, 2, 4, 4), torch.rand(4).double())
    surroundings = Surroundings(network.arguments, network, None, 0, 6)
    losses = {"velocity_direction": VelocityDirection(VelocityDirectionConfig(), surroundings)}
    found = []
    for auxiliary in ({}, losses):
        trained = WithHeads(network, auxiliary, recipe.objective.routing)
        found.append(Objective(process, trained, trained, auxiliary, recipe.objective.routing).losses(batch, 0).loss)
    assert torch.equal(*found)


def test_exact_resume(trained, tmp_path):
    train_until(3, tmp_path / "run", **ROUTED)
    train(tmp_path / "run", resume=True, **ROUTED)
    assert_same_end(tmp_path / "run", trained)
    assert compared(tmp_path / "run") == compared(trained)


def test_another_route_is_another_run(trained):
    other = {**ROUTED, "objective.routing": {**ROUTED["objective.routing"], "ratio": 0.25}, "train.max_steps": 7}
    with pytest.raises(ConfigError, match=r"objective\.routing\.ratio: the run has 0\.5, found 0\.25"):
        train(trained, resume=True, **other)


def test_two_processes_equal_one(trained, tmp_path):
    done = torchrun(tmp_path / "run", **ROUTED, **{"train.gradient_accumulation": 2})
    assert done.returncode == 0, done.stderr
    # Sums of float32 in another order, over six steps of a learning rate of 1e-2.
    for key in ("loss", "loss_velocity_direction", "loss_dispersive", "grad_norm"):
        found, expected = ([row[key] for row in rows(run)] for run in (tmp_path / "run", trained))
        assert found == pytest.approx(expected, rel=1e-4), key


@pytest.mark.parametrize(
    ("model", "process", "message"),
    [
        ("uvit_ti_2", FlowConfig(), "expected a network whose blocks are one plain sequence .*, found UViT, whose are"),
        ("maskdit_ti_2", FlowConfig(), "expected a network whose blocks are one plain .*, found MaskDiT, whose are"),
        ("meanflow_ti_2", AverageVelocityConfig(), "expected process flow or gaussian or edm, found average_velocity"),
    ],
)
def test_what_has_no_route_is_refused(model, process, message):
    objective = make_recipe(**{"objective.routing": {"rejoin_after": 3}}).objective
    with pytest.raises(ConfigError, match=rf"^objective\.routing: {message}"):
        check_objective(objective, network_class(model), create_process(process))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.depth": 2}, r"routing\.rejoin_after: expected a block of the network's 2, found 3"),
        (
            {"objective.auxiliary": [{"name": "dispersive", "block": 2, "group": 2}]},
            r"auxiliary\.0\.block: dispersive: expected a block after which all tokens .* up to 1 or from 3 on .* 2",
        ),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=rf"^objective\.{message}"):
        train(tmp_path / "run", **{**ROUTED, **changes})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rejoin_after": 2}, r"routing\.leave_after: expected a block before 2, found 2"),
        ({"rejoin_after": 3, "ratio": 1.0}, r"routing\.ratio: expected a value less than 1, found 1\.0"),
        ({}, r"routing\.rejoin_after: expected a value, found none"),
    ],
)
def test_wrong_routes_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(**{"objective.routing": fields})

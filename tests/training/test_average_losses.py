"""Losses of average velocities in whole runs: resumed bit for bit, the same in any split of the batch."""

import pytest

from dit.errors import Preempted
from tests.training.test_loop import assert_same_end, losses, rows, torchrun, train

SHARED = {"model.learn_sigma": None, "process.name": "average_velocity", "sampling.steps": 1, "train.validate_every": 6}
MEANFLOW = {"name": "meanflow", "guidance": 2.0, "guidance_mix": 0.5, "guidance_interval": [0.1, 0.9]}
METHODS = {
    "meanflow": SHARED | {"model.name": "meanflow_ti_2", "process.loss": MEANFLOW},
    "imf": SHARED
    | {"model.name": "imf_ti_2", "model.head_depth": 1, "model.velocity_head": True, "process.condition": "h"}
    | {"process.loss": {"name": "imf"}},
}


@pytest.fixture(scope="module", params=METHODS)
def whole(request, tmp_path_factory):
    """An uninterrupted run in one process, and its recipe."""
    output = tmp_path_factory.mktemp(request.param) / "run"
    train(output, **METHODS[request.param])
    return output, METHODS[request.param]


def test_rows_hold_the_square_errors_that_the_weight_hides(whole):
    output, recipe = whole
    terms = {"loss_mse"} | ({"loss_mse_velocity"} if recipe["model.name"] == "imf_ti_2" else set())
    for row in rows(output):
        assert {key for key in row if key.startswith("loss_m")} == terms
        assert row["loss"] == pytest.approx(len(terms), rel=0.02)  # L / (L + 0.01), and L is a sum over 32 values
        assert all(row[term] > 0.1 for term in terms)
    assert rows(output)[-1]["val_loss"] > 0.1


def test_a_stopped_run_goes_on_exactly(whole, tmp_path):
    output, recipe = whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIT_FAILPOINT", "step-3-rank-0-micro-0:signal=TERM")
        with pytest.raises(Preempted, match="after step 4"):
            train(tmp_path / "run", **recipe)
    train(tmp_path / "run", resume=True, **recipe)
    assert_same_end(tmp_path / "run", output)


def test_two_processes_with_micro_batches_equal_one(whole, tmp_path):
    output, recipe = whole
    done = torchrun(tmp_path / "run", **recipe | {"train.gradient_accumulation": 2})
    assert done.returncode == 0, done.stderr
    found, expected = rows(tmp_path / "run"), rows(output)
    assert losses(tmp_path / "run") == pytest.approx(losses(output), rel=1e-5)
    # A weighted square's gradient falls with its size, so that float32 shows in the norm before it does in the loss.
    assert [row["grad_norm"] for row in found] == pytest.approx([row["grad_norm"] for row in expected], rel=1e-3)
    assert found[-1]["val_loss"] == pytest.approx(expected[-1]["val_loss"], rel=1e-4)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of RMSNorm under autocast
def test_in_bfloat16_all_but_the_derivative_is_rounded(whole, tmp_path):
    output, recipe = whole
    train(tmp_path / "run", **recipe | {"train.mixed_precision": "bf16"})
    for name in ("loss_mse", "grad_norm"):
        found, expected = ([row[name] for row in rows(run)] for run in (tmp_path / "run", output))
        assert found != expected
        assert found == pytest.approx(expected, rel=0.1)

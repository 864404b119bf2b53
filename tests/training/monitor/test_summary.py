"""What is said of a run in a few sentences."""

import pytest

from dit.files import write_json
from dit.training.monitor.summary import summary


def rows(*losses, step=100, **newest):
    seconds = {"train": 90.0, "data": 0.5}
    made = [
        {"step": step * number, "loss": 1.0, "val_loss": loss, "images_seen": 3200 * number, "images_per_second": 35.6}
        | {"seconds": seconds, "spikes": 0}
        for number, loss in enumerate(losses, start=1)
    ]
    return [*made[:-1], made[-1] | newest]


def test_a_finished_run_that_learns_and_has_no_trouble(tmp_path):
    write_json(tmp_path / "status.json", {"state": "done", "max_steps": 300})
    assert summary(tmp_path, rows(0.5, 0.4, 0.3)) == [
        "Finished: step 300 of 300, 9,600 images in 0:01:30, 36 a second.",
        "Validation loss 0.3000, 25.0% lower than at step 200.",
        "Nothing unusual: no spikes, no waits.",
    ]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((0.5, 0.3, 0.2999), "Validation loss 0.2999, as at step 200."),
        ((0.5, 0.3, 0.33), "Validation loss 0.3300, 10% above its lowest at step 200: it may have begun to overfit."),
        ((0.5,), "Validation loss 0.5000."),
        ((None, None), "Loss 1.0000; no validation."),
    ],
)
def test_the_loss_is_said_to_fall_to_stay_or_to_rise(tmp_path, losses, said):
    assert summary(tmp_path, rows(*losses))[1] == said


def test_the_best_samples_and_what_to_look_at_are_named(tmp_path):
    write_json(tmp_path / "status.json", {"state": "failed", "max_steps": 900, "message": "loss is nan at step 301"})
    told = rows(0.5, 0.4, seconds={"train": 80.0, "data": 20.0}, spikes=2, eval_frechet_distance=9.0)
    told[0] |= {"eval_frechet_distance": 4.2, "eval_accuracy": 0.975}
    assert summary(tmp_path, told) == [
        "Failed: step 200 of 900, 6,400 images in 0:01:40, 36 a second.",
        "It says: loss is nan at step 301",
        "Validation loss 0.4000, 20.0% lower than at step 100.",
        "Best samples at step 100: Frechet distance 4.20, 97.5% as asked.",
        "To look at: 2 spikes of the loss; 20% of the time waits for data (more data.num_workers, or encoded latents).",
    ]


def test_an_export_has_no_state(tmp_path):
    assert summary(tmp_path, rows(0.5))[0].startswith("Metrics: step 100, 3,200 images")

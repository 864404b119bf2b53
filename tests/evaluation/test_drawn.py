"""Samples that are made while they are measured."""

import json

import pytest
import torch

from dit.errors import ConfigError, DitError
from dit.evaluation.drawn import NUM_CALLS, SETTINGS_NAME, Drawn
from dit.launcher import Share

LABELS = torch.arange(7) % 3


class Sampler:
    """Draws grey images that tell label and position, three calls a batch."""

    def __init__(self, size=4):
        self.num_calls, self.size, self.asked = 0, size, []

    def __call__(self, labels, positions):
        self.num_calls += 3
        self.asked.append((labels.tolist(), positions))
        grey = 10 * labels + torch.tensor(positions)
        return grey.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, self.size, self.size)


def describe(images):
    return {"grey": images[:, :, 0, 0].float()}


def drawn(folder, sampler=None, **about):
    return Drawn(LABELS, (4, 4), sampler or Sampler(), {"seed": 0, **about}, 3, folder / "parts")


def test_batches_are_full_and_features_in_the_order_of_positions(tmp_path):
    found = drawn(tmp_path)
    found.write(describe, "grey")
    assert found.sampler.asked[-1] == ([0, 0, 0], [6, 7, 8])
    features = found.read()
    assert features.rows("grey").flatten().tolist() == [10 * label + i for i, label in enumerate(LABELS.tolist())]
    assert features.rows(NUM_CALLS).tolist() == [3.0] * 7
    assert features.labels.tolist() == LABELS.tolist()
    found.remove()
    assert list(tmp_path.iterdir()) == []


def test_every_process_makes_its_turns_and_what_is_there_is_kept(tmp_path):
    first, second = Sampler(), Sampler()
    drawn(tmp_path, second).write(describe, "grey", share=Share(1, 2))
    assert [positions for _, positions in second.asked] == [[3, 4, 5]]
    drawn(tmp_path, first).write(describe, "grey")
    assert [positions[0] for _, positions in first.asked] == [0, 6]
    drawn(tmp_path / "alone").write(describe, "grey")
    ours, theirs = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "parts", tmp_path / "alone" / "parts")
    )
    assert ours == theirs


def test_parts_of_other_samples_or_other_features_are_refused(tmp_path):
    drawn(tmp_path).write(describe, "grey")
    settings = json.loads((tmp_path / "parts" / SETTINGS_NAME).read_text())
    assert settings == {"seed": 0, "described_by": "grey", "labels": LABELS.tolist()}
    for other, described_by, words in (
        (drawn(tmp_path, seed=1), "grey", "seed"),
        (drawn(tmp_path), "x", "described_by"),
    ):
        with pytest.raises(ConfigError, match=rf"settings\.json: {words} is .* there and .* now; go on with the same"):
            other.write(describe, described_by)


def test_images_of_another_size_stop_before_anything_is_written(tmp_path):
    with pytest.raises(DitError, match="expected 4 x 4 pixels as the reference images, found 5 x 5"):
        drawn(tmp_path, Sampler(5)).write(describe, "grey")
    assert not list(tmp_path.rglob("*.safetensors"))

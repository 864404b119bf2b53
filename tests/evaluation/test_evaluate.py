import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from rich.console import Console

from dit.errors import ConfigError, DitError
from dit.evaluation.config import EvaluationConfig
from dit.evaluation.evaluate import Evaluated, balanced_labels, draw_share, evaluate, matched_indices
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.failures import Failures
from dit.evaluation.metrics.frechet import frechet_distance
from dit.evaluation.result import print_evaluation
from dit.launcher import Share

CLASS_NAMES = ["ant", "bee", "cat"]


class Images:
    """An image source in memory: each class has its own grey value in every pixel, with noise."""

    fingerprint = "in-memory"

    def __init__(self, counts, *, size=8, channels=1, seed=0, class_names=CLASS_NAMES):
        self.class_names = list(class_names)
        self.labels = np.repeat(np.arange(len(counts)), counts)
        self.images = images_of(torch.from_numpy(self.labels), size=size, channels=channels, seed=seed)

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        return self.images[index].permute(1, 2, 0).numpy()


def images_of(labels, *, size=8, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(-20, 21, (len(labels), channels, size, size), generator=generator)
    return (noise + 40 + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8)  # (N, C, size, size)


class Sampler:
    """Draws what was asked, seeded by position, and counts its calls."""

    def __init__(self, *, size=8, confuse=None):
        self.num_calls = 0
        self.asked = []
        self.size, self.confuse = size, confuse or {}

    def __call__(self, labels, positions):
        self.num_calls += 25
        self.asked += zip(positions, labels.tolist(), strict=True)
        drawn = torch.tensor([self.confuse.get(label, label) for label in labels.tolist()])
        rows = zip(drawn, positions, strict=True)
        return torch.cat([images_of(label.view(1), size=self.size, seed=position) for label, position in rows])


def mean_and_deviation(class_names=("cat", "ant", "bee")):
    """An extractor with two features whose logits find the class of `Images`, in another order of the classes."""

    def network(images):
        values = images.float().flatten(1)
        brightness = torch.tensor([200.0, 40.0, 120.0])
        features = torch.stack([values.mean(dim=1), values.std(dim=1)], dim=1)
        return features, -(features[:, :1] - brightness).abs()

    return FeatureExtractor("mean-and-deviation", 2, network, "abc", torch.device("cpu"), class_names)


def what(sampler=None, *, num=30, batch_size=8, **overrides):
    arguments = {
        "extractor": mean_and_deviation(),
        "class_names": CLASS_NAMES,
        "reference": Images([10, 10, 10], seed=1),
        "training": Images([40, 40, 40], seed=2),
        **overrides,
    }
    return Evaluated(sampler or Sampler(), EvaluationConfig(num=num, batch_size=batch_size), **arguments)


def run(*arguments, failures=None, **options):
    with TemporaryDirectory() as folder:
        return evaluate(what(*arguments, **options), Path(folder) / "parts", failures=failures)


def digest(images):
    """Hash of the hashes of the pixels of images (N, 1, H, W) as RGB."""
    pixels = images.permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy()
    return hashlib.sha256(b"".join(hashlib.sha256(image.tobytes()).digest() for image in pixels)).hexdigest()


def test_figures_equal_those_computed_at_once():
    evaluation = run()
    labels = torch.arange(30) % 3
    samples = torch.cat([images_of(label.view(1), seed=position) for position, label in enumerate(labels)])
    reference = Images([10, 10, 10], seed=1)
    described = [mean_and_deviation()(images).features for images in (samples, reference.images)]
    (mean_1, cov_1), (mean_2, cov_2) = [(features.mean(dim=0), torch.cov(features.T)) for features in described]
    assert evaluation.frechet_distance == pytest.approx(frechet_distance(mean_1, cov_1, mean_2, cov_2), rel=1e-9)
    assert 0 < evaluation.frechet_standard_error < evaluation.frechet_distance
    distances = torch.cdist(*described)
    radii = [torch.cdist(features, features).sort().values[:, 3] for features in described]  # column 0: each itself
    assert evaluation.precision == (distances <= radii[1]).any(dim=1).double().mean() < 1
    assert evaluation.recall == (distances <= radii[0][:, None]).any(dim=0).double().mean() < 1
    assert evaluation.recall_standard_error == pytest.approx((evaluation.recall * (1 - evaluation.recall) / 30) ** 0.5)
    assert run(num=3).precision is None  # no third neighbour
    assert run(num=2).frechet_standard_error is None
    assert evaluation.accuracy == evaluation.accuracy_reference == 1.0
    assert evaluation.num_per_class == (10, 10)
    assert evaluation.samples_sha256 == digest(samples)
    assert evaluation.reference.sha256 == digest(reference.images)


def test_figures_do_not_depend_on_the_batch_size():
    one, other = run(batch_size=1), run(batch_size=30)
    assert one.samples_sha256 == other.samples_sha256
    assert one.reference == other.reference
    assert one.frechet_distance == pytest.approx(other.frechet_distance, rel=1e-6)


def test_accuracy_falls_by_the_confused_class_and_names_it():
    evaluation = run(Sampler(confuse={1: 2}))
    assert evaluation.accuracy == pytest.approx(2 / 3)
    assert evaluation.accuracy_by_class == {"ant": 1.0, "bee": 0.0, "cat": 1.0}
    assert evaluation.accuracy_standard_error == pytest.approx((2 / 9 / 30) ** 0.5)
    assert evaluation.frechet_distance > 10 * run().frechet_distance


def test_floor_is_of_training_images_in_the_samples_number_and_balance():
    evaluation = run(training=Images([50, 5, 20], seed=2), num=12)
    assert evaluation.floor is not None
    assert evaluation.floor.num == 12
    perfect = run(training=Images([10, 10, 10], seed=1), num=30)
    assert perfect.frechet_floor == pytest.approx(0.0, abs=1e-9)
    assert perfect.floor == perfect.reference


def test_matched_indices_take_as_many_of_each_class():
    source = Images([50, 5, 20])
    indices = matched_indices(source, balanced_labels(30, 3), CLASS_NAMES)
    assert np.bincount(source.labels[indices]).tolist() == [10, 5, 10]
    assert len(set(indices.tolist())) == 25
    assert indices.tolist() == matched_indices(source, balanced_labels(30, 3), CLASS_NAMES).tolist()
    assert indices.tolist() != np.concatenate([np.arange(10), np.arange(50, 65)]).tolist()


def test_matched_indices_of_other_classes_are_a_random_share():
    source = Images([50, 5, 20])
    indices = matched_indices(source, balanced_labels(30, 2), ["dog", "eel"])
    assert len(set(indices.tolist())) == 30
    assert indices.max() > 55


def test_without_training_images_there_is_no_floor():
    evaluation = run(training=None)
    assert evaluation.frechet_floor is None
    assert evaluation.floor is None
    assert run(training=Images([1])).floor is None


def test_classes_that_the_classifier_does_not_know_have_no_accuracy():
    evaluation = run(extractor=mean_and_deviation(class_names=("dog", "ant", "bee")))
    assert evaluation.accuracy is None
    assert evaluation.accuracy_by_class is None
    assert evaluation.frechet_distance > 0


def test_unconditional_samples_have_the_null_class_and_no_accuracy():
    sampler = Sampler()
    evaluation = run(sampler, class_names=[], num=6)
    assert {label for _, label in sampler.asked} == {0}
    assert evaluation.accuracy is None
    assert evaluation.num_classes == 0
    assert evaluation.floor.num == 6


def test_failures_are_the_samples_that_are_taken_for_something_else():
    failures = Failures(CLASS_NAMES)
    run(Sampler(confuse={1: 2}), failures=failures)
    assert [label for label, _ in failures.images] == [1] * 10
    torch.testing.assert_close(failures.images[0][1], images_of(torch.tensor([2]), seed=1)[0])


def test_what_a_kill_left_is_not_drawn_again_by_any_number_of_processes(tmp_path):
    expected = run().to_dict()
    draw_share(what(), tmp_path / "parts", Share(1, 3))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    draw_share(what(), tmp_path / "parts", Share(2, 3))
    sampler = Sampler()
    assert evaluate(what(sampler), tmp_path / "parts").to_dict() == expected
    assert {position // 8 for position, _ in sampler.asked} == {0, 3}
    other = replace(what(), config=EvaluationConfig(num=30, batch_size=8, seed=1))
    with pytest.raises(ConfigError, match=r"settings\.json: seed is 0 there and 1 now"):
        evaluate(other, tmp_path / "parts")


def test_e1_too_few_samples_for_the_features_are_marked():
    assert any("2 samples for 2 features" in warning for warning in run(num=2).warnings)
    assert any("2 held-out images for 2 features" in warning for warning in run(reference=Images([1, 1])).warnings)


def test_e1_fewer_than_two_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        EvaluationConfig(num=1)
    with pytest.raises(ConfigError, match="at least 2 held-out images to evaluate against, found 1"):
        run(reference=Images([1]))


def test_e2_reference_of_another_resolution_is_refused():
    sampler = Sampler(size=16)
    with pytest.raises(DitError, match="expected 8 x 8 pixels as the reference images, found 16 x 16"):
        run(sampler)
    assert len(sampler.asked) == 8  # the first batch


def test_e3_an_image_that_cannot_be_read_stops_the_evaluation():
    class Broken(Images):
        def read(self, index):
            if index == 7:
                raise DitError("bee/3.jpg: expected an image, found a truncated file")
            return super().read(index)

    sampler = Sampler()
    with pytest.raises(DitError, match=r"bee/3\.jpg"):
        run(sampler, reference=Broken([10, 10, 10]))
    assert sampler.asked == []


def test_a_sampler_that_returns_too_few_images_is_refused():
    class Short(Sampler):
        def __call__(self, labels, positions):
            return super().__call__(labels, positions)[1:]

    with pytest.raises(DitError, match="expected 8 images, found 7"):
        run(Short())


def test_result_is_json_with_all_that_is_needed_to_repeat_it():
    evaluation = run(sampling={"solver": "heun", "steps": 25}, subject={"source": "runs/digits"})
    found = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert found == evaluation.to_dict()
    assert found["format_version"] == 1
    assert found["num_calls"] == 25
    assert found["sampling"] == {"solver": "heun", "steps": 25}
    assert found["subject"] == {"source": "runs/digits"}
    assert found["seed"] == 0
    assert found["features"] == "mean-and-deviation"
    assert found["features_sha256"] == "abc"
    reference = found["reference"]
    assert (reference["num"], reference["size"], reference["fingerprint"]) == (30, [8, 8], "in-memory")
    assert found["versions"].keys() >= {"python", "dit", "torch", "numpy"}
    assert evaluation.seconds_per_image > 0
    assert "seconds_per_image" not in found  # a time is no property of the samples


def test_table_shows_figures_floor_and_warnings():
    text = io.StringIO()
    print_evaluation(run(Sampler(confuse={1: 2}), training=Images([4, 4, 4])), Console(file=text, width=120))
    shown = text.getvalue()
    assert "class accuracy" in shown
    assert "66.7%" in shown
    assert "its floor" in shown
    assert "warning: the floor is of 12 training images" in shown


@pytest.mark.parametrize(
    ("features", "source", "expected"),
    [(None, "mnist", "mnist"), (None, "photos/", None), ("timm/x", "mnist", "timm/x")],
)
def test_features_follow_the_data_unless_named(features, source, expected):
    assert EvaluationConfig(features=features).features_for(source) == expected

import pytest
import torch

from dit.errors import ConfigError
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.metrics.accuracy import ClassAccuracy


def logits(predicted):
    """Logits of the classes 0 to 3 that are highest at the predicted ones."""
    return torch.eye(4)[predicted]


@pytest.mark.parametrize(
    ("class_names", "labels", "message"),
    [
        (["ant", "bee"], None, "accuracy: expected the class of every sample .*, found none"),
        (["ant", "cow"], [0, 1], "accuracy: expected a classifier that knows the samples' classes, found one of 2"),
        (["ant", "bee"], [0, 2], "accuracy: expected labels from 0 to 1, .*, found 0 to 2"),
        (["ant", "bee"], [-1, 1], "accuracy: expected labels from 0 to 1, .*, found -1 to 1"),
    ],
)
def test_labels_that_nothing_can_be_said_of_are_refused(class_names, labels, message):
    with pytest.raises(ConfigError, match=message):
        ClassAccuracy(["bee", "ant"], class_names).check(None if labels is None else torch.tensor(labels))


def test_counts_by_class_in_the_classifiers_order():
    """Labels 0, 1, 2 are the classifier's classes 1, 0, 3; its class c is nobody's."""
    accuracy, images = ClassAccuracy(["a", "b", "c", "d"], ["b", "a", "d"]), FeatureSet()
    assert accuracy.of(images) is None
    assert accuracy.measure(images, images) == {}
    images.add({"logits": logits([1, 1, 2])}, torch.tensor([0, 0, 0]))
    images.add({"logits": logits([0, 2])}, torch.tensor([1, 2]))
    found = accuracy.of(images)
    assert found.by_class == {"a": 1.0, "b": pytest.approx(2 / 3), "d": 0.0}
    assert list(found.by_class) == ["a", "b", "d"]
    assert found.standard_error == pytest.approx((0.6 * 0.4 / 5) ** 0.5)
    figure = accuracy.measure(images, images)["accuracy"]
    assert (figure.value, figure.standard_error) == (found.overall, found.standard_error)
    assert figure.value == pytest.approx(0.6)
    assert accuracy.verdicts(images).tolist() == [True, True, False, True, False]

import pytest
import torch

from dit.evaluation.extractors import Features
from dit.evaluation.metrics.accuracy import ClassAccuracy


def described(predicted):
    """Logits of the classes 0 to 3 that are highest at the predicted ones."""
    return Features(torch.zeros(len(predicted), 2), torch.eye(4)[predicted])


def test_counts_by_class_in_the_classifiers_order():
    """Labels 0, 1, 2 are the classifier's classes 1, 0, 3; its class c is nobody's."""
    accuracy = ClassAccuracy(["a", "b", "c", "d"], ["b", "a", "d"])
    assert accuracy.accuracy is accuracy.value(accuracy) is None
    accuracy.update(described([1, 1, 2]), torch.tensor([0, 0, 0]))
    accuracy.update(described([0, 2]), torch.tensor([1, 2]))
    found = accuracy.accuracy
    assert accuracy.value(accuracy) == found.overall == pytest.approx(0.6)
    assert found.by_class == {"a": 1.0, "b": pytest.approx(2 / 3), "d": 0.0}
    assert list(found.by_class) == ["a", "b", "d"]
    assert found.standard_error == pytest.approx((0.6 * 0.4 / 5) ** 0.5)
    assert accuracy.judge(described([0, 1]), torch.tensor([0, 0])).tolist() == [False, True]

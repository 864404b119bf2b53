import re

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from dit.data.config import DataConfig
from dit.data.labels import read_labels
from dit.errors import ConfigError, DitError


def table(values, feature) -> Dataset:
    return Dataset.from_dict({"label": values}, features=Features({"label": feature}))


@pytest.mark.parametrize(
    ("values", "feature", "class_names", "numbers"),
    [
        ([1, 0, 1], ClassLabel(names=["cat", "dog", "never seen"]), ("cat", "dog", "never seen"), [1, 0, 1]),
        (["dog", "cat", "dog"], Value("string"), ("cat", "dog"), [1, 0, 1]),
        ([3, 0, 1], Value("int32"), ("0", "1", "2", "3"), [3, 0, 1]),
        ([3, 0, 1], Value("uint8"), ("0", "1", "2", "3"), [3, 0, 1]),
    ],
)
def test_names_and_numbers_become_classes(values, feature, class_names, numbers):
    labels = read_labels(table(values, feature), DataConfig(), "train")
    assert labels.class_names == class_names
    assert labels.values.tolist() == numbers
    assert labels.rows.tolist() == [0, 1, 2]


def test_held_out_labels_are_numbered_as_in_training():
    """The held-out split declares the same names in another order, and lacks one."""
    labels = read_labels(
        table([0, 1], ClassLabel(names=["dog", "cat"])), DataConfig(), "test", class_names=("bird", "cat", "dog")
    )
    assert labels.values.tolist() == [2, 1]
    assert labels.class_names == ("bird", "cat", "dog")


@pytest.mark.parametrize(
    ("values", "feature", "found"),
    [
        ([0, None, 1], Value("int64"), "None"),
        (["a", "b", None], Value("string"), "None"),
        ([0, -1, 1], ClassLabel(names=["a", "b"]), "-1"),
        ([0, -1, 1], Value("int64"), "-1"),
        ([0, 10**12, 1], Value("int64"), "1000000000000"),
    ],
)
def test_a_label_missing_or_out_of_range_names_record_and_range(values, feature, found):
    """D4."""
    row = 2 if values[2] is None else 1
    with pytest.raises(
        DitError, match=rf"sets/x split train record {row}: label: expected .*2 classes .*found {found}$"
    ):
        read_labels(table(values, feature), DataConfig(source="sets/x"), "train")


def test_a_class_that_training_does_not_have_is_refused():
    with pytest.raises(DitError, match=re.escape("record 1: label: expected one of the 1 classes cat, found 'dog'")):
        read_labels(table(["cat", "dog"], Value("string")), DataConfig(), "test", class_names=("cat",))


def test_bad_labels_are_skipped_and_listed_on_request():
    labels = read_labels(table(["b", None, "a"], Value("string")), DataConfig(on_error="skip"), "train")
    assert labels.values.tolist() == [1, 0]
    assert labels.rows.tolist() == [0, 2]
    assert len(labels.rejected) == 1
    assert "record 1" in labels.rejected[0]


def test_a_field_of_a_column_is_found_by_path_and_alone():
    rows = Dataset.from_dict({"json": [{"label": "cat", "age": 3}, {"label": "dog", "age": 4}], "cls": [1, 0]})
    for column, values in (("json.label", [0, 1]), ("label", [0, 1]), ("json.age", [3, 4]), ("cls", [1, 0])):
        assert read_labels(rows, DataConfig(label_column=column), "train").values.tolist() == values
    assert read_labels(rows.remove_columns("json"), DataConfig(), "train").values.tolist() == [1, 0]
    with pytest.raises(ConfigError, match=r"expected one of the columns json\.label, json\.age, cls, found 'json'"):
        read_labels(rows, DataConfig(label_column="json"), "train")


def test_columns_are_checked():
    with pytest.raises(ConfigError, match=r"found 'lable'; name the column .* Did you mean 'label'"):
        read_labels(table([0], Value("int64")), DataConfig(label_column="lable"), "train")
    with pytest.raises(ConfigError, match="expected class names or whole numbers, found float32"):
        read_labels(table([0.5], Value("float32")), DataConfig(), "train")

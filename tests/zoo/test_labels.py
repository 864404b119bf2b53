"""Classes by id and by name: row S1 of the fault matrix."""

import pytest

from dit.data.imagenet import imagenet_classes
from dit.errors import ConfigError
from dit.zoo.labels import parse_classes

DIGITS = [str(i) for i in range(10)]
BIRDS = ["crane, bird", "tench, Tinca tinca", "crane, machine", "10"]


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (3, DIGITS, [3]),
        ("3", DIGITS, [3]),
        ("1, 2,3", DIGITS, [1, 2, 3]),
        ([3, "4"], DIGITS, [3, 4]),
        ("golden retriever,volcano", imagenet_classes(), [207, 980]),
        (["Golden Retriever", 980], imagenet_classes(), [207, 980]),
        ("tinca tinca", BIRDS, [1]),
        ("tench, Tinca tinca", BIRDS, [1]),
        ("bird", BIRDS, [0]),
        ("3", BIRDS, [3]),
    ],
)
def test_ids_and_names_are_interchangeable(classes, names, expected):
    assert parse_classes(classes, names) == expected


@pytest.mark.parametrize("wanted", [10, -1, "10", "-1", "1,99"])
def test_s1_an_id_out_of_range_is_refused_with_the_range(wanted):
    with pytest.raises(ConfigError, match=r"classes: expected an id from 0 to 9, found (10|-1|99)$"):
        parse_classes(wanted, DIGITS)


@pytest.mark.parametrize(
    ("wanted", "names", "message"),
    [
        ("golden retreiver", imagenet_classes(), "Did you mean 'golden retriever'"),
        ("tinca tinka", BIRDS, "Did you mean 'Tinca tinca'"),
        ("crane", BIRDS, "is the name of 2 classes, 0, 2; use the id"),
        (True, DIGITS, "no class is named 'True'"),
        (1.5, DIGITS, "no class is named '1.5'"),
        ("", DIGITS, "no class is named ''"),
        ([], DIGITS, "at least one"),
    ],
)
def test_unknown_and_ambiguous_names_are_explained(wanted, names, message):
    with pytest.raises(ConfigError, match=message):
        parse_classes(wanted, names)

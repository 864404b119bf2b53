"""What readers are shown of a report: values never alone."""

import pytest

from dit.errors import DitError
from dit.figures import plus_minus, read_figures
from dit.files import write_json
from dit.markdown import markdown_table

HELD_OUT = {
    "num": 1000,
    "features": "mnist",
    "frechet_distance": 4.9246,
    "frechet_standard_error": 0.4717,
    "frechet_floor": 0.66152,
    "accuracy": 0.978,
    "reference": {"num": 1000},
}
PUBLISHED = {
    "protocol": "adm",
    "num": 50000,
    "figures": {
        "fid": {"value": 2.2713, "standard_error": 0.0137, "floor": 1.1},
        "precision": {"value": 0.83, "standard_error": 0.0017},
    },
    "reference": {"name": "VIRTUAL_imagenet256_labeled.npz"},
}


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (4.9246, 0.4717, "4.92 ± 0.47"),
        (215.837, 1.52, "215.8 ± 1.5"),
        (12345.6, 234.5, "12,346 ± 234"),
        (0.978, 0.00464, "0.9780 ± 0.0046"),
        (1.0, 0.0, "1.0000 ± 0.0000"),
        (2.27, None, "2.27 ± unknown"),
    ],
)
def test_a_value_has_the_digits_of_its_error(value, error, text):
    assert plus_minus(value, error) == text


def test_both_reports_are_rows_with_number_and_protocol(tmp_path):
    write_json(tmp_path / "eval.json", HELD_OUT)
    accuracy, distance = read_figures(tmp_path).measured
    assert accuracy.cells == {
        "figure": "class accuracy",
        "value": "0.978 ± unknown",
        "floor": "-",
        "samples": "1,000",
        "measured by": "mnist classifier",
    }
    assert list(distance.cells.values()) == [
        "Frechet distance (mnist)", "4.92 ± 0.47", "0.6615", "1,000", "mnist features, 1,000 held-out images",
    ]  # fmt: skip
    write_json(tmp_path / "samples.npz.adm.json", PUBLISHED)
    fid, precision = read_figures(tmp_path / "samples.npz.adm.json").measured
    protocol = "protocol adm against VIRTUAL_imagenet256_labeled.npz"
    assert list(fid.cells.values()) == ["FID", "2.271 ± 0.014", "1.1", "50,000", protocol]
    assert list(precision.cells.values()) == ["precision", "0.8300 ± 0.0017", "-", "50,000", protocol]


def test_network_calls_of_both_reports(tmp_path):
    for report in (HELD_OUT | {"num_calls": 24.0}, PUBLISHED | {"samples": {"num_calls": 24.0}}):
        write_json(tmp_path / "eval.json", report)
        assert read_figures(tmp_path).network_calls == 24
    write_json(tmp_path / "eval.json", PUBLISHED)
    assert read_figures(tmp_path).network_calls is None


def test_inceptions_distance_is_an_fid(tmp_path):
    write_json(tmp_path / "eval.json", HELD_OUT | {"features": "inception-v3-compat"})
    assert [figure.title for figure in read_figures(tmp_path).measured] == ["class accuracy", "FID"]


def test_nothing_measured_and_damage_are_told_apart(tmp_path):
    assert read_figures(tmp_path) is None
    write_json(tmp_path / "eval.json", {"likelihood": {"nats": 1.0}})
    assert read_figures(tmp_path).measured == []
    write_json(tmp_path / "eval.json", PUBLISHED | {"figures": {"fid": 2.27}})
    with pytest.raises(DitError, match=r"eval\.json: figures\.fid: expected"):
        read_figures(tmp_path)


def test_tables_have_the_columns_of_all_rows():
    table = markdown_table([{"name": "a", "x": "1"}, {"name": "b", "y": "2"}], code=["name"])
    assert table == "| name | x | y |\n| --- | --- | --- |\n| `a` | 1 |  |\n| `b` |  | 2 |"

import pytest
import torch

from dit.evaluation.metrics.neighbours import EXACT
from dit.evaluation.metrics.precision_recall import PrecisionRecall
from tests.evaluation.metrics.pairs import FIGURES, NAMES, feature_set, load_pair, normal


@pytest.mark.parametrize("name", NAMES)
def test_equals_adm_in_its_float16_and_exactly_in_float64(name):
    samples, reference = load_pair(name)
    expected = FIGURES[name]["precision_recall"]
    exact = PrecisionRecall(EXACT).measure(samples, reference)
    assert [figure.value for figure in exact.values()] == [expected["precision_exact"], expected["recall_exact"]]
    adm = PrecisionRecall().measure(samples, reference)
    assert adm["precision"].value == pytest.approx(expected["precision"], abs=2 / samples.num)  # rows that tie
    assert adm["recall"].value == pytest.approx(expected["recall"], abs=2 / reference.num)


def test_float16_is_told_from_exact():
    """The pair on which the two differ: else the test above could not tell them apart."""
    found = [PrecisionRecall(*given).measure(*load_pair("mixture"))["precision"].value for given in ((), (EXACT,))]
    assert found[0] < found[1]


def test_equals_torch_fidelity():
    metric_prc = pytest.importorskip("torch_fidelity.metric_prc")
    samples, reference = normal(300, 16, seed=1).float(), (1.2 * normal(250, 16, seed=2)).float()
    options = {"prc_neighborhood": 3, "prc_batch_size": 100, "save_cpu_ram": True, "verbose": False}
    theirs = metric_prc.prc_features_to_metric(samples, reference, **options)
    ours = PrecisionRecall(EXACT).measure(feature_set("pool", samples), feature_set("pool", reference))
    assert {name: figure.value for name, figure in ours.items()} == pytest.approx(
        {name: theirs[name] for name in ours}, rel=1e-6
    )


def test_disjoint_sets_have_neither_and_errors_are_binomial():
    samples, reference = feature_set("pool", normal(40, 4)), feature_set("pool", normal(50, 4, seed=1) + 100)
    assert [figure.value for figure in PrecisionRecall().measure(samples, reference).values()] == [0, 0]
    half = feature_set("pool", torch.cat([normal(20, 4), normal(20, 4) + 1000]))
    precision = PrecisionRecall().measure(half, feature_set("pool", normal(400, 4, seed=2)))["precision"]
    assert precision.value == pytest.approx(0.5, abs=0.05)
    assert precision.standard_error == pytest.approx((0.25 / 40) ** 0.5, rel=0.01)

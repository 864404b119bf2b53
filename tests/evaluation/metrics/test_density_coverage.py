import pytest

from dit.evaluation.metrics.density_coverage import DensityCoverage
from tests.evaluation.metrics.pairs import FIGURES, NAMES, load_pair


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_original(name, k):
    found = DensityCoverage(k=k).measure(*load_pair(name))
    expected = FIGURES[name][f"prdc_k{k}"]
    assert found["density"].value == pytest.approx(expected["density"], rel=1e-12)
    assert found["coverage"].value == expected["coverage"]
    assert all(figure.standard_error is not None for figure in found.values())

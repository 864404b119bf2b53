"""How options say that samples are made; see also tests/verbs/test_sample.py."""

import pytest

from dit.errors import ConfigError
from dit.making import Making, label_order
from dit.sampling.config import Published


@pytest.mark.parametrize(
    ("published", "options", "order"),
    [
        (None, {}, "drawn"),
        (None, {"balanced": True}, "balanced"),
        ("balanced", {}, "balanced"),
        ("balanced", {"drawn": True}, "drawn"),
        ("drawn", {}, "drawn"),
        ("drawn", {"balanced": True}, "balanced"),
        (None, {"classes": "1,2"}, "given"),
        ("balanced", {"classes": "1,2"}, "given"),
    ],
)
def test_labels_are_chosen_by_options_before_the_published_setting(published, options, order):
    setting = None if published is None else Published(labels=published)
    assert label_order(setting, **{"balanced": False, "drawn": False, **options}) == order


def test_rounding_given_beside_the_published_one_wins():
    assert Making().load("dit_ti_2.mnist", "cpu").codec.rounding == "nearest"
    assert Making(rounding="down").load("dit_ti_2.mnist", "cpu").codec.rounding == "down"


def test_a_setting_that_the_model_can_not_take_is_refused_before_it_is_loaded():
    with pytest.raises(ConfigError, match=r"^--published: expected weights with a published setting"):
        Making(published=True).locate("dit_ti_2.mnist")
    with pytest.raises(ConfigError, match="eta"):
        Making({"solver.eta": 0.5}).locate("dit_ti_2.mnist")

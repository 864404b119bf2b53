import pytest

from dit.errors import ConfigError
from dit.evaluation.protocols import DINOV2, PROTOCOLS


def test_every_metric_finds_its_features():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        for metric in protocol.metrics:
            assert protocol.width(metric.features) > 0


def test_a_choice_of_figures_takes_what_it_needs():
    chosen = PROTOCOLS["edm2"].choose(["fd_dinov2"])
    assert [metric.names for metric in chosen.metrics] == [("fd_dinov2",)]
    assert chosen.networks == (DINOV2,)
    assert [metric.names for metric in PROTOCOLS["adm"].choose(["recall"]).metrics] == [("precision", "recall")]
    assert PROTOCOLS["adm"].choose(None) == PROTOCOLS["adm"]
    with pytest.raises(ConfigError, match=r"--metrics: expected figures of protocol adm, fid, .*'sfidd'.*Did you mean"):
        PROTOCOLS["adm"].choose(["fid", "sfidd"])

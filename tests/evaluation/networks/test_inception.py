import pytest
import torch

from dit.evaluation.networks import inception
from dit.evaluation.networks.inception import SIZE, WIDTHS, build_inception, forward, load_inception
from dit.evaluation.networks.network import MetricNetwork, describe
from dit.evaluation.networks.resize import tensorflow_bilinear
from tests.evaluation.networks.golden_images import golden_images, inception_state
from tests.goldens import assert_close, load_tensors

theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights, as the download would leave it."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        model = build_inception("untrained", folder / "empty.pth")
    torch.save(inception_state({name: tuple(v.shape) for name, v in model.state_dict().items()}), folder / "w.pth")
    return folder / "w.pth"


@pytest.mark.parametrize("number", [0, 1])
def test_equals_the_golden_network(number, weights, monkeypatch):
    monkeypatch.setattr(inception, "inception_weights", lambda: weights)
    network = MetricNetwork("inception", WIDTHS, SIZE, tensorflow_bilinear, load_inception)
    loaded = load_inception(torch.device("cpu"))
    found, goldens = describe(network, loaded, golden_images(number)), load_tensors("evaluation")
    assert {name: values.shape[1] for name, values in found.items()} == WIDTHS
    for name, key in {"pool": "pool", "spatial": "spatial", "logits": "logits_without_bias"}.items():
        assert_close(found[name], goldens[f"inception/{number}/{key}"], 1e-5)


def test_equals_torch_fidelitys_own_forward(weights):
    model = build_inception("inception", weights)
    own = theirs.FeatureExtractorInceptionV3("own", ["2048", "logits_unbiased"], str(weights))
    images = golden_images(0)[:1]
    pool, logits = own(images)
    found = forward(model, tensorflow_bilinear(images, SIZE))
    torch.testing.assert_close(found["pool"], pool, rtol=0, atol=0)
    assert_close(found["logits"], logits, 1e-6)

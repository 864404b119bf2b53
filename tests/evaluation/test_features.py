import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

import dit.evaluation.extractors as extractors_module
import dit.evaluation.features as features_module
import dit.evaluation.networks.inception as inception_module
from dit.data.imagenet import imagenet_classes
from dit.data.mnist import mnist_images
from dit.errors import ConfigError, DitError
from dit.evaluation.described import DescribedImages
from dit.evaluation.extractors import FeatureExtractor
from dit.evaluation.features import list_features, load_features, register_features
from dit.evaluation.networks.inception import WEIGHTS_SHA256


@pytest.fixture(scope="module")
def mnist():
    return load_features("mnist")


@pytest.fixture(scope="module")
def held_out():
    images, labels = mnist_images("val")
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels)


@pytest.fixture
def untrained(monkeypatch):
    """Let timm give networks with random weights: pretrained ones need a network connection."""
    create_model, options = timm.create_model, {"seed": 0}

    def create(name, *, pretrained):
        assert pretrained
        torch.manual_seed(options["seed"])
        return create_model(name, pretrained=False)

    monkeypatch.setattr(timm, "create_model", create)
    return options


def random_images(num=3, channels=3, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, channels, size, size), generator=generator, dtype=torch.uint8)


def test_embedded_features_are_float64_and_independent_of_the_batch(mnist, held_out):
    images = held_out[0][:8]
    described = mnist(images)
    assert described.features.shape == (8, mnist.num_features)
    assert described.features.dtype == described.logits.dtype == torch.float64
    torch.testing.assert_close(mnist(images[5:6]).features, described.features[5:6], rtol=1e-4, atol=1e-4)


def test_embedded_classifiers_card_states_its_hash_and_accuracy(mnist, held_out):
    folder = Path(features_module.__file__).parents[1] / "assets" / "classifier" / "mnist"
    card = (folder / "README.md").read_text()
    images, labels = held_out
    accuracy = (mnist(images).logits.argmax(dim=1) == labels).double().mean().item()
    assert (mnist.class_names, accuracy >= 0.98) == (tuple("0123456789"), True)
    assert mnist.weights_sha256 in card
    assert f"1,000 held-out images | {100 * accuracy:.2f}%" in card
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 1_000_000
    assert weights.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("images", [random_images(channels=3), random_images(channels=1, size=28)])
def test_embedded_classifier_refuses_other_images(mnist, images):
    with pytest.raises(DitError, match=r"expected grey images \(1, 32, 32\), found"):
        mnist(images)


def test_embedded_classifier_takes_grey_images_as_rgb(mnist, held_out):
    images = held_out[0][:8]
    assert mnist(images.expand(-1, 3, -1, -1)).logits.equal(mnist(images).logits)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 32, 32), random_images(channels=1)[0]], ids=["float", "one"])
def test_refuses_what_is_no_batch_of_bytes(mnist, images):
    with pytest.raises(DitError, match=r"expected uint8 \(B, C, H, W\), found"):
        mnist(images)


def constant_extractor(value, logit=0.0):
    def network(images):
        return torch.full((len(images), 2), value), torch.full((len(images), 2), logit)

    return FeatureExtractor("constant", 2, network, "0", torch.device("cpu"))


@pytest.mark.parametrize(("value", "logit"), [(float("nan"), 0.0), (float("inf"), 0.0), (0.0, float("nan"))])
def test_e4_features_that_are_not_finite_are_an_error(value, logit):
    with pytest.raises(DitError, match="expected finite numbers"):
        constant_extractor(value, logit)(random_images())
    assert constant_extractor(1.0)(random_images()).features.tolist() == [[1.0, 1.0]] * 3


def test_registered_extractors_are_found_by_name_and_by_prefix(monkeypatch):
    monkeypatch.setattr(features_module, "_FACTORIES", dict(features_module._FACTORIES))
    register_features("plain")(lambda name, device: (name, device.type))
    register_features("family/")(lambda name, device: (name, device.type))
    assert load_features("plain") == ("plain", "cpu")
    assert load_features("family/member/deep", device="meta") == ("family/member/deep", "meta")
    assert {"plain", "family/", "mnist"} <= set(list_features())


@pytest.mark.parametrize("name", ["mnits", None, "family"])
def test_unknown_names_are_told_what_to_type(name):
    with pytest.raises(ConfigError, match="expected one of inception-v3-compat, mnist, timm/MODEL") as caught:
        load_features(name)
    assert ("Did you mean 'mnist'?" in str(caught.value)) == (name == "mnits")


def test_timm_features_are_those_before_the_head(untrained):
    extractor = load_features("timm/resnet10t")
    described = extractor(random_images())
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=True).eval()
    assert described.features.shape == (3, extractor.num_features)
    with torch.inference_mode():
        logits = model.fc(described.features.float()).double()
    torch.testing.assert_close(described.logits, logits, rtol=1e-4, atol=1e-5)


def test_a_timm_classifier_of_a_thousand_classes_judges_imagenets(untrained, monkeypatch):
    extractor = load_features("timm/resnet10t")
    described = DescribedImages(extractor, imagenet_classes())
    images = random_images()
    taken_for = extractor(images).logits.argmax(dim=1)
    described.update(images, torch.tensor([taken_for[0], taken_for[1], (taken_for[2] + 1) % 1000]))
    assert described.accuracy.overall == pytest.approx(2 / 3)
    monkeypatch.setattr(extractors_module, "imagenet_classes", lambda: ["a network of", "other classes"])
    assert load_features("timm/resnet10t").class_names is None


def test_timm_sees_normalised_images_of_its_own_size(untrained, monkeypatch):
    extractor = load_features("timm/resnet10t")
    seen = []
    create_model = timm.create_model

    def spy(name, *, pretrained):
        model = create_model(name, pretrained=pretrained)
        forward = model.forward_features
        model.forward_features = lambda x: (seen.append(x), forward(x))[1]
        return model

    monkeypatch.setattr(timm, "create_model", spy)
    extractor = load_features("timm/resnet10t")
    extractor(torch.full((1, 1, 50, 50), 51, dtype=torch.uint8))
    config = timm.get_pretrained_cfg("resnet10t")
    grey = (0.2 - torch.tensor(config.mean)) / torch.tensor(config.std)
    torch.testing.assert_close(seen[0], grey.view(1, 3, 1, 1).expand(1, *config.input_size), rtol=1e-5, atol=1e-5)


def test_timm_weights_hash_names_the_weights(untrained):
    one, again = load_features("timm/resnet10t"), load_features("timm/resnet10t")
    untrained["seed"] = 1
    assert one.weights_sha256 == again.weights_sha256 != load_features("timm/resnet10t").weights_sha256


def test_unknown_timm_model_is_told_what_to_type():
    with pytest.raises(ConfigError, match=r"no timm model 'resnet_50'.*Did you mean"):
        load_features("timm/resnet_50")


def test_timm_weights_out_of_reach_are_one_line(monkeypatch):
    def unreachable(name, *, pretrained):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(DitError, match=r"^timm/resnet10t: expected its weights.*OSError: no route to host$"):
        load_features("timm/resnet10t")


def test_inception_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(inception_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"expected the package torch-fidelity, found none; run: pip install"):
        load_features("inception-v3-compat")


def test_inception_weights_out_of_reach_are_one_line(monkeypatch, tmp_path):
    def unreachable(url, path, **options):
        raise OSError("no route to host\nsecond line")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(DitError, match=r"expected its weights from https://.*OSError: no route to host$"):
        load_features("inception-v3-compat")


def test_inception_weights_with_other_bytes_are_never_unpickled(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    path = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    path.parent.mkdir()
    path.write_bytes(b"something else")
    with pytest.raises(DitError, match=rf"expected sha256 {WEIGHTS_SHA256}, found"):
        load_features("inception-v3-compat")


def test_inception_features_pass_through(monkeypatch):
    """The network is torch-fidelity's; here a double that shows which input it gets and which outputs are used."""

    class Double(torch.nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path):
            super().__init__()
            assert (name, features_list) == ("inception-v3-compat", ["2048", "logits"])
            assert feature_extractor_weights_path == "weights"

        def forward(self, images):
            assert images.dtype == torch.uint8
            return images.float().mean(dim=(2, 3)).repeat(1, 683)[:, :2048], torch.zeros(len(images), 1008)

    monkeypatch.setitem(
        sys.modules, "torch_fidelity.feature_extractor_inceptionv3", SimpleNamespace(FeatureExtractorInceptionV3=Double)
    )
    monkeypatch.setattr(extractors_module, "inception_weights", lambda: "weights")
    extractor = load_features("inception-v3-compat")
    images = random_images(channels=1)
    described = extractor(images)
    assert described.features.shape == (3, extractor.num_features) == (3, 2048)
    torch.testing.assert_close(described.features[:, 1], images.double().mean(dim=(1, 2, 3)), rtol=1e-6, atol=0)
    assert extractor.weights_sha256 == WEIGHTS_SHA256


@pytest.mark.network
def test_inception_equals_torch_fidelitys_own():
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = random_images(size=64)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])(images)[0]
    torch.testing.assert_close(load_features("inception-v3-compat")(images).features, theirs.double())

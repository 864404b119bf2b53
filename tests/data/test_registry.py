from dataclasses import replace

import numpy as np
import pytest

import dit
from dit.data import registry
from dit.data.config import DataConfig
from dit.data.image_source import images_in_memory
from dit.data.images import open_images
from dit.errors import ConfigError, DitError
from dit.evaluation.config import EvaluationConfig


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


def shades(config, split, channels, argument):
    values = np.arange(int(argument or 4), dtype=np.uint8) + 100 * (split == "val")
    images = np.broadcast_to(values[:, None, None], (len(values), 12, 8)).astype(np.uint8)
    return images_in_memory(images, np.arange(len(values)) % 2, ("even", "odd"), config, channels)


def test_a_users_own_source_is_opened_by_name_and_argument():
    dit.register_data("shades", features="timm/resnet18")(shades)
    config = DataConfig(source="shades:6", image_size=16)
    train, val = open_images(config), open_images(config, "val", channels=3)
    assert train.labels.tolist() == [0, 1] * 3
    np.testing.assert_array_equal(train.read(5), np.full((16, 16, 1), 5))
    np.testing.assert_array_equal(val.read(5), np.full((16, 16, 3), 105))
    assert train.fingerprint != open_images(config.model_copy(update={"source": "shades:5"})).fingerprint
    assert EvaluationConfig().features_for("shades:6") == "timm/resnet18"
    assert EvaluationConfig().features_for("mnist") == "mnist"
    assert EvaluationConfig(features="mnist").features_for("shades") == "mnist"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"labels": np.array([0, 2])}, r"in 0\.\.1 .*, found int64 \(2,\) in 0\.\.2 and"),
        ({"labels": np.array([0.0, 1.0])}, "of whole numbers .*, found float64"),
        ({"channels": 4}, r"\(16, 16, 4\) of 1 or 3 channels"),
        ({"read": lambda _: np.zeros((16, 16), np.uint8)}, r"uint8 \(16, 16, 1\) .*and uint8 \(16, 16\)$"),
    ],
)
def test_what_a_factory_returns_is_held_to_the_contract(changed, problem):
    dit.register_data("faulty")(lambda *arguments: replace(shades(*arguments), **changed))
    with pytest.raises(DitError, match=f"^data.source 'faulty': expected .*{problem}"):
        open_images(DataConfig(source="faulty", image_size=16))


def test_a_folder_goes_before_a_name_and_unknown_names_list_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"expected mnist, an existing folder or file, .* found 'shades:6'"):
        open_images(DataConfig(source="shades:6"))
    with pytest.raises(ConfigError, match="takes no argument, found 'mnist:5'"):
        open_images(DataConfig(source="mnist:5"))
    (tmp_path / "mnist").mkdir()
    with pytest.raises(ConfigError, match="expected a folder with images, found nothing"):
        open_images(DataConfig(source="mnist"))
    with pytest.raises(ValueError, match="found 'a:b'"):
        dit.register_data("a:b")

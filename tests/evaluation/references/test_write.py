from dataclasses import replace

import numpy as np
import pytest
import torch

from dit.data.config import DataConfig
from dit.data.image_source import images_in_memory
from dit.errors import DitError
from dit.evaluation.feature_parts import load_networks
from dit.evaluation.networks.network import describe
from dit.evaluation.references.reference import open_reference
from dit.evaluation.references.write import write_reference
from tests.evaluation.small_network import SMALL

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (25, 8, 8, 3), dtype=np.uint8)
SOURCE = images_in_memory(PIXELS, np.zeros(25, np.int64), (), DataConfig(image_size=8), 3)


def write(path, source=SOURCE):
    networks = load_networks((SMALL,), CPU)
    facts = {"protocol": "adm"}
    write_reference(source, path, networks, num_kept=10, device=CPU, batch_size=7, facts=facts)


def test_statistics_are_of_all_images_and_some_are_kept(tmp_path):
    write(tmp_path / "x.npz")
    found = open_reference(tmp_path / "x.npz")
    features = describe(SMALL, SMALL.load(CPU), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    for name, gaussian in found.gaussians.items():
        # Features are float32, and in other batches here.
        torch.testing.assert_close(gaussian.covariance, torch.cov(features[name].double().T), rtol=1e-5, atol=1e-6)
        assert gaussian.num == 25
    assert found.gaussians.keys() == {"pool", "spatial"}
    assert found.about["preprocessing"]["pool"] == SMALL.preprocessing
    assert (found.about["crop"], found.about["resolution"], found.about["protocol"]) == ("adm", 8, "adm")
    (kept,) = found.images.batches(100)
    np.testing.assert_array_equal(kept, PIXELS[np.arange(10) * 25 // 10])
    with np.load(tmp_path / "x.npz") as theirs:  # as ADM's evaluator opens it
        assert {"mu", "sigma", "mu_s", "sigma_s", "arr_0"} <= set(theirs.files)


def test_a_broken_image_leaves_no_file(tmp_path):
    def read(index):
        if index == 20:
            raise DitError("20.png: broken")
        return PIXELS[index]

    with pytest.raises(DitError, match=r"20\.png"):
        write(tmp_path / "x.npz", replace(SOURCE, read=read))
    assert list(tmp_path.iterdir()) == []

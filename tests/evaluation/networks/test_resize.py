import numpy as np
import pytest
import torch

from dit.evaluation.networks.resize import pillow_bicubic, pillow_bicubic_float, tensorflow_bilinear, torch_bicubic
from tests.evaluation.networks.golden_images import golden_images
from tests.goldens import load_tensors


@pytest.fixture(scope="module")
def goldens():
    return load_tensors("evaluation")


@pytest.mark.parametrize("number", [0, 1])
def test_equals_the_originals(number, goldens):
    """Every one is told from the others: kernels differ by whole levels."""
    images, key = golden_images(number)[:1], f"resize/{number}/"
    found = {
        "tf1_bilinear_299": tensorflow_bilinear(images, 299)[0].permute(1, 2, 0)[::23],
        "dgm_eval_pil_bicubic_224_uint8": pillow_bicubic(images, 224)[0].permute(1, 2, 0)[::16].to(torch.uint8),
        "edm2_torch_bicubic_antialias_224": torch_bicubic(images, 224)[0][:, ::32],
        "clean_fid_pil_bicubic_299_float": pillow_bicubic_float(images, 299)[0].permute(1, 2, 0)[::46],
    }
    for name, values in found.items():
        tolerance = 0 if "uint8" in name or name.startswith("tf1") else 1e-3  # of 255: the order of float32 sums
        torch.testing.assert_close(values, goldens[key + name], rtol=0, atol=tolerance)
    half_pixel = goldens[f"{key}pytorch_fid_bilinear_299"]
    assert (tensorflow_bilinear(images, 299)[0][:, ::46] - half_pixel).abs().max() > 1


@pytest.mark.parametrize("resize", [tensorflow_bilinear, torch_bicubic, pillow_bicubic, pillow_bicubic_float])
def test_images_of_the_size_come_back(resize):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8))
    assert torch.equal(resize(images, 32), images.float())

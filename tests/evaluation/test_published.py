"""ADM's published samples, measured as a whole: hours on a CPU, minutes on a GPU."""

import urllib.request

import pytest

from dit.device import choose_device
from dit.evaluation.image_files import open_image_files
from dit.evaluation.measure import measure
from dit.evaluation.protocols import PROTOCOLS
from dit.evaluation.references.reference import open_reference

ADDRESS = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256/"
PUBLISHED = {"fid": 3.9426, "sfid": 6.1404, "inception_score": 215.837, "precision": 0.8265, "recall": 0.5309}


@pytest.mark.network
@pytest.mark.slow
def test_adms_samples_have_the_figures_of_its_evaluator(tmp_path):
    """To 0.1%; float16 ties are broken by the order of sums, which moves precision and recall by up to 0.003."""
    paths = {}
    for name in ("VIRTUAL_imagenet256_labeled.npz", "admnet_guided_upsampled_imagenet256.npz"):
        paths[name], _ = urllib.request.urlretrieve(ADDRESS + name, tmp_path / name)
    reference, samples = paths.values()
    found = measure(
        open_image_files(samples),
        open_reference(reference),
        PROTOCOLS["adm"],
        name="admnet_guided_upsampled_imagenet256.npz",
        device=choose_device(),
        batch_size=100,
    )
    for name, value in PUBLISHED.items():
        tolerance = {"abs": 0.003} if name in ("precision", "recall") else {"rel": 1e-3}
        assert found.figures[name].value == pytest.approx(value, **tolerance), name

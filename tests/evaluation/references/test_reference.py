import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from dit.errors import ConfigError, DitError
from dit.evaluation import protocols
from dit.evaluation.references import reference as reference_module
from dit.evaluation.references.reference import open_reference
from dit.files import sha256

# Networks of the published sizes of images, with few features.
INCEPTION, INCEPTION_CLEAN = (
    replace(network, widths={"pool": 3, "spatial": 2, "logits": 4})
    for network in (protocols.INCEPTION, protocols.INCEPTION_CLEAN)
)
DINOV2, DINOV2_PILLOW = (
    replace(network, widths={"class_token": 3}) for network in (protocols.DINOV2, protocols.DINOV2_PILLOW)
)
IMAGES = np.zeros((4, 8, 8, 3), np.uint8)
STATISTICS = {"mu": np.arange(3.0), "sigma": np.eye(3), "mu_s": np.ones(2), "sigma_s": 2 * np.eye(2)}


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_adms_file_has_statistics_of_both_features_and_images(tmp_path):
    path = write(tmp_path / "x.npz", arr_0=IMAGES, **STATISTICS)
    found = open_reference(path)
    assert (found.name, found.sha256, found.images.num) == ("x.npz", sha256(path), 4)
    assert found.gaussians.keys() == {"pool", "spatial"}
    assert found.gaussians["spatial"].covariance.tolist() == [[2, 0], [0, 2]]
    assert found.check([INCEPTION], (8, 8)) == []
    with pytest.raises(ConfigError, match="the 2048 pool features of inception-2015-12-05, found 3"):
        found.check([protocols.INCEPTION], (8, 8))
    with pytest.raises(ConfigError, match=r"expected a reference of 16 x 16 pixels as the samples, found one of 8 x 8"):
        found.check([INCEPTION], (16, 16))


def test_statistics_alone_do_not_tell_their_resolution(tmp_path, monkeypatch):
    path = write(tmp_path / "jit.npz", mu=STATISTICS["mu"], sigma=STATISTICS["sigma"])
    assert "does not tell its resolution" in open_reference(path).check([INCEPTION], (8, 8))[0]
    monkeypatch.setattr(reference_module, "KNOWN", {sha256(path): ("JiT's of ImageNet", 256)})
    known = open_reference(path)
    assert known.about["name"] == "JiT's of ImageNet"
    assert known.check([INCEPTION], (256, 256)) == []
    with pytest.raises(ConfigError, match="found one of 256 x 256"):
        known.check([INCEPTION], (512, 512))


def test_edm2s_pickle(tmp_path):
    statistics = {key: STATISTICS[key] for key in ("mu", "sigma")}
    path = tmp_path / "img512.pkl"
    path.write_bytes(pickle.dumps({"num_images": 9, "fid": statistics, "fd_dinov2": statistics}))
    found = open_reference(path)
    assert found.gaussians.keys() == {"pool", "class_token"}
    assert found.gaussians["class_token"].num == 9
    found.check([INCEPTION, DINOV2, protocols.CLIP], (512, 512))
    for network in (INCEPTION_CLEAN, DINOV2_PILLOW):
        with pytest.raises(ConfigError, match=f"resized by {network.preprocessing}, found"):
            found.check([network], (512, 512))
    path.write_bytes(pickle.dumps({"fid": 3}))
    with pytest.raises(DitError, match="expected EDM2's statistics"):
        open_reference(path)


def test_ones_own_file_tells_how_it_was_made(tmp_path):
    about = {"resolution": 8, "preprocessing": {"pool": INCEPTION_CLEAN.preprocessing}, "num": 50, "crop": "adm"}
    about["weights_sha256"] = {"pool": "a" * 64}
    arrays = {"mu": STATISTICS["mu"], "sigma": STATISTICS["sigma"], "about": np.array(json.dumps(about))}
    found = open_reference(write(tmp_path / "x.npz", **arrays))
    assert (found.about, found.gaussians["pool"].num) == (about, 50)
    assert found.check([INCEPTION_CLEAN], (8, 8)) == []
    found.check_weights({"spatial": "b" * 64})
    found.check_weights({"pool": "a" * 64})
    with pytest.raises(DitError, match="features of the network with weights bbbbbbbb, found those of aaaa"):
        found.check_weights({"pool": "b" * 64})
    with pytest.raises(ConfigError, match="resized by tensorflow_bilinear to 299, found pillow_bicubic_float to 299"):
        found.check([INCEPTION], (8, 8))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"sigma": np.eye(3) + np.eye(3, k=1)}, "expected a symmetric covariance of pool features"),
        (
            {"sigma_s": np.diag([2.0, -1.0])},
            r"x\.npz: covariance of spatial features: expected no negative eigenvalues, found -1 beside 2",
        ),
        ({"sigma": np.full((3, 3), np.nan)}, "expected finite mean and covariance of pool features"),
        ({"sigma": np.eye(4)}, r"covariance \(D, D\) of pool features, found \[\(3,\), \(4, 4\)"),
        ({"mu": np.array([None] * 3)}, "mu holds pickled Python objects"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"found \[\(0,\), \(0, 0\)\]"),
        ({"about": np.array("{")}, "expected about in JSON"),
        ({"about": np.array('{"num": "many"}')}, "about: num: expected an integer"),
        ({"about": np.array('{"num": 1}')}, "expected the number of images, at least 2, found 1"),
        ({"about": np.array('{"preprocessing": 3}')}, "about: preprocessing: expected a mapping, found 3"),
        ({"arr_0": np.zeros((2, 8, 9, 3), np.uint8)}, "expected square images, found 8 x 9"),
    ],
)
def test_what_is_no_reference_is_one_line(tmp_path, arrays, message):
    with pytest.raises(DitError, match=message):
        open_reference(write(tmp_path / "x.npz", **(STATISTICS | arrays)))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DitError, match="expected mu and sigma, or arr_0, found x"):
        open_reference(write(tmp_path / "x.npz", x=np.ones(2)))
    with pytest.raises(ConfigError, match=r"--reference: expected an \.npz or EDM2's \.pkl, found no file"):
        open_reference(tmp_path / "nothing.npz")

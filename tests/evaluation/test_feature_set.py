import pytest
import torch
from safetensors.torch import save_file

from dit.errors import DitError
from dit.evaluation.feature_set import FeatureSet
from dit.evaluation.moments import Gaussian


def test_parts_in_memory_and_in_files_are_one_set(tmp_path):
    rows, path = torch.arange(12.0).view(6, 2), tmp_path / "part.safetensors"
    save_file({"pool": rows[2:5].contiguous()}, path)
    found = FeatureSet(labels=torch.arange(6))
    found.add({"pool": rows[:2].double()})
    found.add_file(path, 3)
    assert found.labels is None  # not those of all rows yet
    found.add({"pool": rows[5:]})
    torch.testing.assert_close(found.rows("pool"), rows, rtol=0, atol=0)
    assert found.labels.tolist() == list(range(6))
    torch.testing.assert_close(found.gaussian("pool").covariance, torch.cov(rows.double().T))
    assert found.gaussian("pool").num == 6


def test_what_is_not_there_is_named(tmp_path):
    known = FeatureSet(gaussians={"pool": Gaussian(torch.zeros(2), torch.eye(2))})
    assert known.gaussian("pool").num is None
    with pytest.raises(DitError, match="expected images to compute pool features of, found mean and covariance alone"):
        known.rows("pool")
    found, path = FeatureSet(), tmp_path / "part.safetensors"
    found.add({"pool": torch.zeros(1, 2)})
    with pytest.raises(DitError, match="expected spatial, found pool"):
        found.rows("spatial")
    save_file({"pool": torch.zeros(1, 2)}, path)
    files = FeatureSet()
    files.add_file(path, 1)
    with pytest.raises(DitError, match=r"part\.safetensors: expected features spatial, found pool"):
        files.rows("spatial")

import os
import pickle

import numpy as np
import pytest

from dit.errors import DitError
from dit.evaluation.references.numpy_pickle import load_numpy_pickle

STATISTICS = {"num_images": 7, "fid": {"mu": np.arange(3.0), "sigma": np.eye(3)}, "scalar": np.float64(2)}


class Runs:
    def __reduce__(self):
        return os.system, ("echo it ran",)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(STATISTICS, protocol=protocol))
    found = load_numpy_pickle(path)
    assert (found["num_images"], found["scalar"]) == (7, 2.0)
    np.testing.assert_array_equal(found["fid"]["sigma"], np.eye(3))
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))  # as older versions of numpy wrote it
    if protocol < 4:  # later ones tell the length of names
        np.testing.assert_array_equal(load_numpy_pickle(path)["fid"]["mu"], np.arange(3.0))


@pytest.mark.parametrize("content", [Runs(), {"fid": [Runs()]}, np.array([Runs()], dtype=object), os.system, dict])
def test_nothing_else_is_built_or_called(tmp_path, capfd, content):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DitError, match=r"x\.pkl: it holds .*(system|dict), which could run code"):
        load_numpy_pickle(tmp_path / "x.pkl")
    assert capfd.readouterr().out == ""


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(STATISTICS)[:-40])
    with pytest.raises(DitError, match=r"x\.pkl: expected a pickle of numpy arrays, found another file \("):
        load_numpy_pickle(tmp_path / "x.pkl")

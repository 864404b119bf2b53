import zipfile

import numpy as np
import pytest

from dit.errors import DitError
from dit.npz import NpzReader, write_npz

ROWS = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(7, 4, 3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote_in_batches_and_whole(tmp_path, save):
    save(tmp_path / "x.npz", ROWS, mu=np.float64(3.5) * np.ones(5), text=np.array("äöü"))
    reader = NpzReader(tmp_path / "x.npz")
    assert reader.names == ["mu", "text", "arr_0"]
    assert reader.header("arr_0") == ((7, 4, 3), False, np.uint8)
    batches = list(reader.rows("arr_0", 3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), ROWS)
    np.testing.assert_array_equal(reader.read("mu"), 3.5 * np.ones(5))
    assert str(reader.read("text")) == "äöü"


def test_numpy_reads_what_is_written(tmp_path):
    path = tmp_path / "x.npz"
    with write_npz(path) as npz:
        with npz.rows("arr_0", ROWS.shape, "uint8") as file:
            for row in ROWS:
                file.write(row.tobytes())
        npz.write("mu", np.ones((2, 2)).T)
        assert not path.exists()
    with np.load(path) as found:
        np.testing.assert_array_equal(found["arr_0"], ROWS)
        np.testing.assert_array_equal(found["mu"], np.ones((2, 2)))


def test_a_fault_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), write_npz(tmp_path / "x.npz") as npz, npz.rows("arr_0", ROWS.shape, "uint8"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_pickled_objects_are_never_opened(tmp_path):
    np.savez(tmp_path / "x.npz", mu=np.array([{}], dtype=object))
    with pytest.raises(DitError, match=r"x\.npz: mu holds pickled Python objects"):
        NpzReader(tmp_path / "x.npz").read("mu")


def test_what_is_cut_short_or_no_npz_is_one_line(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=np.zeros((500, 8, 8, 3), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DitError, match=r"x\.npz: expected a whole \.npz file"):
        NpzReader(path)
    with zipfile.ZipFile(path, "w") as archive:  # a whole archive that holds half an array
        archive.writestr("arr_0.npy", zipfile.ZipFile(_file(tmp_path / "whole.npz", whole)).read("arr_0.npy")[:5000])
    with pytest.raises(DitError, match="expected a whole array arr_0, found it cut short"):
        list(NpzReader(path).rows("arr_0", 100))
    with pytest.raises(DitError, match="expected an array mu, found arr_0"):
        NpzReader(path).read("mu")
    with pytest.raises(DitError, match="found nothing there"):
        NpzReader(tmp_path / "y.npz")


def _file(path, content):
    path.write_bytes(content)
    return path


def test_fortran_order_is_read_whole_but_not_by_rows(tmp_path):
    np.savez(tmp_path / "x.npz", arr_0=np.asfortranarray(ROWS))
    np.testing.assert_array_equal(NpzReader(tmp_path / "x.npz").read("arr_0"), ROWS)
    with pytest.raises(DitError, match="expected arr_0 in C order"):
        list(NpzReader(tmp_path / "x.npz").rows("arr_0", 2))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_some_batches_are_read_without_the_others(tmp_path, save):
    save(tmp_path / "x.npz", ROWS)
    batches = list(NpzReader(tmp_path / "x.npz").rows("arr_0", 3, starts=[3, 6]))
    np.testing.assert_array_equal(np.concatenate(batches), ROWS[3:])


def test_a_mapping_in_json_is_read_and_something_else_refused(tmp_path):
    np.savez(tmp_path / "x.npz", about=np.array('{"a": 1}'), other=np.array("[1]"))
    reader = NpzReader(tmp_path / "x.npz")
    assert reader.read_json("about") == {"a": 1}
    assert reader.read_json("nothing") == {}
    with pytest.raises(DitError, match="expected other in JSON"):
        reader.read_json("other")

import os
import shutil

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from dit.data.config import DataConfig
from dit.data.images import open_images
from dit.data.sources import open_splits
from dit.errors import ConfigError, DitError
from tests.data.pictures import encoded, noise, write_folder


def lengths(source, **fields) -> dict[str, int]:
    splits = open_splits(DataConfig(source=str(source), **fields))
    return {name: len(table) for name, table in splits.tables.items()}


def table(num: int = 6) -> Dataset:
    columns = {"image": [{"bytes": encoded(noise(9, 9, seed=i), "PNG"), "path": None} for i in range(num)]}
    columns["label"] = [i % 2 for i in range(num)]
    return Dataset.from_dict(columns, features=Features({"image": Image(), "label": ClassLabel(names=["no", "yes"])}))


def test_sub_folders_are_classes(tmp_path):
    write_folder(tmp_path, {"b [1]": 3, "a": 2})
    (tmp_path / "a" / "deeper").mkdir()
    shutil.copy(tmp_path / "a" / "000.jpg", tmp_path / "a" / "deeper" / "x.JPEG")
    train = open_splits(DataConfig(source=str(tmp_path))).tables["train"]
    assert train.features["label"].names == ["a", "b [1]"]
    assert train["label"][:] == [0, 0, 0, 1, 1, 1]
    assert [value["path"].rpartition("/")[2] for value in train["image"]][:3] == ["000.jpg", "001.jpg", "x.JPEG"]


@pytest.mark.parametrize(
    ("train", "held_out", "fields"),
    [
        ("train", "val", {}),
        ("train", "test", {}),
        ("fit", "check", {"train_split": "fit", "val_split": "check"}),
    ],
)
def test_split_sub_folders_are_used_as_such(tmp_path, train, held_out, fields):
    write_folder(tmp_path / train, {"a": 2, "b": 3})
    write_folder(tmp_path / held_out, {"a": 1})
    assert lengths(tmp_path, **fields) == {train: 5, held_out: 1}


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path, {"train": 2, "test": 3, "car": 1})
    assert lengths(tmp_path) == {"train": 6}


def test_images_without_classes(tmp_path):
    write_folder(tmp_path, {".": 3})
    assert lengths(tmp_path, label_column=None) == {"train": 3}
    assert open_images(DataConfig(source=str(tmp_path), label_column=None)).class_names == ()
    with pytest.raises(ConfigError, match=r"one sub-folder per class.*found the image 000\.jpg directly in it"):
        lengths(tmp_path)
    write_folder(tmp_path / "x" / "train", {".": 2})
    write_folder(tmp_path / "x" / "val", {".": 1})
    assert lengths(tmp_path / "x", label_column=None) == {"train": 2, "val": 1}


def test_other_files_and_empty_classes_are_named(tmp_path, capsys):
    write_folder(tmp_path, {"a": 2, "b": 0, "c": 1})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / ".hidden").write_text("x")
    assert open_images(DataConfig(source=str(tmp_path), val_fraction=0)).class_names == ("a", "c")
    message = capsys.readouterr().err
    assert "ignored 1 files (.txt)" in message
    assert "1 folders without images are no classes (b)" in message


def test_links_to_nowhere_and_folders_in_a_circle(tmp_path):
    write_folder(tmp_path, {"a": 2})
    os.symlink(tmp_path, tmp_path / "a" / "again")
    assert lengths(tmp_path) == {"train": 2}
    os.symlink("gone", tmp_path / "a" / "link.png")
    with pytest.raises(DitError, match=r"a/link\.png: expected a file that can be read, found No such file"):
        lengths(tmp_path)


def test_images_beside_archives_are_refused(tmp_path):
    write_folder(tmp_path, {"a": 2})
    table().to_parquet(tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=r"archives of one kind, found 2 images and 1 \.parquet files in .*; name"):
        lengths(tmp_path)


@pytest.mark.parametrize("value", [{"bytes": b"", "path": None}, b""])
def test_parquet_that_another_program_wrote(tmp_path, value):
    """Bytes, alone or beside a path, without the metadata by which `datasets` knows images."""
    import pyarrow
    from pyarrow.parquet import write_table

    data = encoded(noise(9, 9), "PNG")
    images = [data if value == b"" else value | {"bytes": data}] * 2
    write_table(pyarrow.table({"x": images, "label": [0, 1], "size": [9, 9]}), tmp_path / "x.parquet")
    config = DataConfig(source=str(tmp_path / "x.parquet"), image_size=9, val_fraction=0)
    np.testing.assert_array_equal(open_images(config).read(1), np.asarray(noise(9, 9)))
    with pytest.raises(ConfigError, match=r"data\.image_column 'size': expected images, bytes or paths .* found int64"):
        open_images(config.model_copy(update={"image_column": "size"}))


def test_nothing_there(tmp_path):
    """D7."""
    with pytest.raises(ConfigError, match="expected a folder with images, found nothing"):
        lengths(tmp_path)
    (tmp_path / "x.heic").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"expected a folder with images, found \.heic"):
        lengths(tmp_path)
    with pytest.raises(ConfigError, match="an existing folder or file, or a Hub id"):
        lengths(tmp_path / "missing")
    with pytest.raises(ConfigError, match="found the file"):
        lengths(tmp_path / "x.heic")


def test_hub_that_can_not_be_reached():
    with pytest.raises(DitError, match=r"^data\.source 'org/name': no such file or folder here; on the Hub: .*$"):
        lengths("org/name")


@pytest.mark.parametrize("kind", ["file", "folder", "saved", "saved splits"])
def test_parquet_and_saved_sets_recognised_by_content(tmp_path, kind):
    source, splits = tmp_path / "no_suffix", {"train": table(), "test": table(2)}
    if kind == "file":
        table().to_parquet(source)
    elif kind == "folder":
        for name, split in splits.items():
            split.to_parquet(source / "data" / f"{name}-00000-of-00001.parquet")
    else:
        (table() if kind == "saved" else DatasetDict(splits)).save_to_disk(str(source))
    assert lengths(source) == ({"train": 6} if kind in ("file", "saved") else {"train": 6, "test": 2})
    images = open_images(DataConfig(source=str(source), image_size=9, val_fraction=0))
    assert images.class_names == ("no", "yes")
    assert images.labels.tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(images.read(4), np.asarray(noise(9, 9, seed=4)))


def test_a_damaged_parquet_file_is_named(tmp_path):
    table().to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes((tmp_path / "x.parquet").read_bytes()[:100])
    with pytest.raises(DitError, match=r"x\.parquet': .*Parquet"):
        lengths(tmp_path / "x.parquet")


def test_splits_that_are_not_there(tmp_path):
    write_folder(tmp_path, {"a": 4})
    with pytest.raises(ConfigError, match=r"data\.val_split: expected one of the splits train, found 'held'"):
        open_images(DataConfig(source=str(tmp_path), val_split="held"))
    table().to_parquet(tmp_path / "x.parquet")
    with pytest.raises(
        ConfigError, match=r"data\.train_split: expected one of the splits train, found 'trian'.*'train'"
    ):
        open_images(DataConfig(source=str(tmp_path / "x.parquet"), train_split="trian"))


def test_columns_of_images(tmp_path):
    columns = {"a": [str(write_folder(tmp_path, {"c": 1}) / "c" / "000.jpg")] * 2, "b": ["x", "y"]}
    two = Dataset.from_dict(columns | {"c": columns["a"]}, Features({"a": Image(), "b": Value("string"), "c": Image()}))
    two.save_to_disk(str(tmp_path / "two"))
    fields = {"source": str(tmp_path / "two"), "label_column": "b", "image_size": 16, "val_fraction": 0.0}
    with pytest.raises(ConfigError, match=r"data\.image_column: expected one column of images, found a, c; name it"):
        open_images(DataConfig(**fields))
    assert open_images(DataConfig(**fields, image_column="c")).read(0).shape == (16, 16, 3)
    with pytest.raises(ConfigError, match=r"data\.image_column: expected one of a, b, c, found 'd'"):
        open_images(DataConfig(**fields, image_column="d"))

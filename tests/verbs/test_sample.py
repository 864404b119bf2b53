import pytest
from PIL import Image

from tests.command import fails, runs


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "0", "--steps: expected a value greater than or equal to 1, found 0"),
        ("guidance", "nan", "--guidance: expected a finite number, found nan"),
        ("guidance", "-1", "--guidance: expected a value greater than or equal to 0, found -1.0"),
        ("solver", "hein", "--solver: expected 'ddpm'"),
        ("out", "x.txt", "--out: expected a file ending in .png"),
    ],
)
def test_s2_a_wrong_sampling_option_is_named(option, value, words, capsys):
    assert fails(capsys, "sample", "nothing", f"--{option}", value).startswith(words)


def test_an_export_is_sampled_into_a_grid_with_a_column_per_class(trained, tmp_path, capsys):
    out = tmp_path / "deep" / "grid.png"
    assert runs(capsys, "sample", trained / "export", "--classes", "1,2,3", "--num", "6", "--out", out) == [str(out)]
    with Image.open(out) as image:
        assert image.mode == "L"
        assert image.width > image.height  # three columns, two rows


def test_the_seed_decides_the_picture_and_the_batch_size_does_not(trained, tmp_path, capsys):
    def pixels(name, *options):
        runs(capsys, "sample", trained, "--num", "3", "--out", tmp_path / name, *options)
        return (tmp_path / name).read_bytes()

    assert pixels("a.png", "--seed", "1") == pixels("b.png", "--seed", "1", "--batch_size", "2")
    assert pixels("a.png", "--seed", "1") != pixels("c.png", "--seed", "2")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("classes", "10", "classes: expected an id from 0 to 9, found 10"),
        ("classes", "zero", "classes: no class is named 'zero'"),
        ("num", "0", "num: expected a whole number of at least 1, found 0"),
        ("seed", "-1", "seed: expected a whole number of at least 0, found -1"),
        ("device", "nothing", "--device: expected a device of this machine, found 'nothing'"),
    ],
)
def test_s1_s2_a_value_out_of_range_names_the_valid_ones(option, value, words, trained, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert fails(capsys, "sample", trained, f"--{option}", value, "--out", out).startswith(words)
    assert not out.exists()


def test_a_source_that_is_not_there_is_named(capsys):
    assert fails(capsys, "sample", "nothing").startswith("nothing: ")

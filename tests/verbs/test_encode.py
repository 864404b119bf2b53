from tests.command import fails, runs


def test_a_training_finds_what_was_encoded(tmp_path, capsys):
    argv = ["encode", "--data", "mnist", "--vae", "mnist", "--image_size", "32", "--out", tmp_path]
    lines = runs(capsys, *argv)
    assert [line.split()[:5] for line in lines] == [
        ["train", "4,000", "images,", "10", "classes"],
        ["val", "1,000", "images,", "10", "classes"],
    ]
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert files
    assert runs(capsys, *argv) == lines
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_a_wrong_option_is_named(tmp_path, capsys):
    argv = ["encode", "--data", "mnist", "--vae", "mnist", "--out", tmp_path]
    assert fails(capsys, *argv, "--image_size", "3").startswith("--image_size: expected a value greater than")
    assert fails(capsys, *argv, "--storage", "int4").startswith("--storage: expected 'float32' or 'float16'")

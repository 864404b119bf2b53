import numpy as np
import pytest

from tests.command import fails, runs
from tests.data.pictures import write_folder


@pytest.mark.usefixtures("small_protocols")
def test_a_reference_of_ones_own_measures_samples(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "images", {"a": 30, "b": 30}, size=32)
    reference, samples = tmp_path / "reference.npz", tmp_path / "samples.npz"
    options = ["--image_size", "16", "--images", "20", "--data.val_fraction", "0"]
    assert runs(capsys, "reference", tmp_path / "images", "--out", reference, *options) == [str(reference)]
    rng = np.random.default_rng(0)
    np.savez(samples, rng.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8))
    lines = runs(capsys, "evaluate", samples, "--protocol", "adm", "--reference", reference)
    text = "\n".join(lines)
    for words in ("50 samples by protocol adm against reference.npz", "precision", "standard error", "don't compare"):
        assert words in text
    assert lines[-1] == str(tmp_path / "samples.npz.adm.json")
    assert (tmp_path / "results.csv").read_text().count("\n") == 2
    other = fails(capsys, "evaluate", samples, "--protocol", "clean", "--reference", reference, "--metrics", "fid")
    assert "expected pool features of images resized by pillow_bicubic_float" in other


def test_wrong_options_are_refused_before_the_work(tmp_path, trained, capsys):
    samples = tmp_path / "samples.npz"
    np.savez(samples, np.zeros((2, 8, 8, 3), np.uint8))
    assert fails(capsys, "evaluate", samples).startswith("--protocol: expected how the images in")
    by = ("--protocol", "adm")
    assert fails(capsys, "evaluate", samples, *by, "--seed", "0").startswith("--seed: it is for samples of a model")
    assert fails(capsys, "evaluate", samples, *by, "--sampling.steps", "2").startswith("--sampling.steps: it is for")
    assert fails(capsys, "evaluate", samples, *by, "--offload").startswith("--offload: it is for samples of a model")
    assert "expected figures of protocol adm" in fails(capsys, "evaluate", samples, *by, "--metrics", "kid")
    assert fails(capsys, "evaluate", "nothing", *by).startswith("nothing: expected a zoo name, a folder, a")
    assert fails(capsys, "evaluate", "dit_ti_2.mnist", "--metrics", "fid").startswith("--metrics: it is for samples by")
    assert fails(capsys, "evaluate", "dit_ti_2.mnist", "--drawn").startswith("--drawn: it is for samples by --protocol")
    assert fails(capsys, "evaluate", "dit_ti_2.mnist", *by, "--allow_jpeg").startswith(
        "--allow_jpeg: it is for samples"
    )
    assert fails(capsys, "evaluate", "dit_ti_2.mnist", *by, "--data", "x").startswith(
        "--data: it is for samples without"
    )
    assert "expected an .npz file" in fails(capsys, "reference", "mnist", "--out", tmp_path / "x.npy")
    assert "expected at least 1, found 0" in fails(capsys, "reference", "mnist", "--out", samples, "--images", "0")
    assert "data.image_size" in fails(capsys, "reference", "mnist", "--out", samples, "--image_size", "1")

import csv
import json

import numpy as np
import pytest
import torch

from dit.errors import ConfigError, DitError
from dit.evaluation.image_files import open_image_files
from dit.evaluation.measure import by_memory, measure
from dit.evaluation.metrics.frechet import frechet_distance
from dit.evaluation.moments import Moments
from dit.evaluation.networks.network import describe
from dit.evaluation.references.reference import open_reference
from dit.evaluation.results_table import COLUMNS, append_result, row_of_measurement
from tests.evaluation.small_network import SMALL, small_protocol

CPU = torch.device("cpu")
ABOUT = np.array(json.dumps({"preprocessing": dict.fromkeys(SMALL.widths, SMALL.preprocessing)}))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIT_CACHE", str(tmp_path / "cache"))


def pixels(num, *, seed, size=20):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num, 5, 5, 3)) * rng.random((num, 1, 1, 3))
    return coarse.astype(np.uint8).repeat(size // 5, axis=1).repeat(size // 5, axis=2)


def features(images):
    return describe(SMALL, SMALL.load(CPU), torch.from_numpy(images).permute(0, 3, 1, 2))


def statistics(images):
    found = {}
    for name, suffix in {"pool": "", "spatial": "_s"}.items():
        moments = Moments(SMALL.widths[name])
        moments.update(features(images)[name])
        found |= {f"mu{suffix}": moments.mean.numpy(), f"sigma{suffix}": moments.covariance.numpy()}
    return found


@pytest.fixture
def files(tmp_path):
    """60 samples, and a reference of 500 images that keeps 40 of them."""
    training = pixels(500, seed=1)
    np.savez(tmp_path / "samples.npz", arr_0=pixels(60, seed=2), arr_1=np.arange(60) % 3)
    np.savez(tmp_path / "reference.npz", arr_0=training[:40], **statistics(training), about=ABOUT)
    return tmp_path


def run(files, protocol=None, reference="reference.npz", samples="samples.npz"):
    return measure(
        open_image_files(files / samples),
        None if reference is None else open_reference(files / reference),
        protocol or small_protocol(),
        name=samples,
        device=CPU,
        batch_size=16,
    )


def test_distances_are_from_all_training_images_and_the_report_says_what_of(files):
    found = run(files)
    assert list(found.figures) == ["fid", "sfid", "inception_score", "precision", "recall"]
    sides = [statistics(images) for images in (pixels(60, seed=2), pixels(500, seed=1))]
    for name, suffix in {"fid": "", "sfid": "_s"}.items():
        arguments = [torch.from_numpy(side[key + suffix]) for side in sides for key in ("mu", "sigma")]
        assert found.figures[name].value == pytest.approx(frechet_distance(*arguments), rel=1e-5)  # other batches
        assert found.figures[name].standard_error > 0
    report = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert report["samples"] | {"sha256": None, "pixels_sha256": None} == {
        "name": "samples.npz", "sha256": None, "pixels_sha256": None, "size": [20, 20], "num_classes": 3,
        "num_per_class": [20, 20], "is_sorted_by_class": False,
    }  # fmt: skip
    assert report["reference"]["resolution"] == 20
    assert report["networks"] == {"small": {"preprocessing": SMALL.preprocessing, "weights_sha256": "0" * 64}}
    assert report["metrics"]["precision"] == {"arithmetic": "Adm", "features": "pool", "k": 3}
    assert report["figures"]["fid"].keys() == {"value", "standard_error", "floor"}
    assert "figures of 60 samples don't compare with those of 50000" in report["warnings"][0]


def test_what_holds_most_is_measured_before_covariances_are_held():
    assert [metric.names[0] for metric in by_memory(small_protocol().metrics)] == [
        *("precision", "fid", "sfid", "inception_score")
    ]


def test_a_reference_without_statistics_is_described_itself(files):
    np.savez(files / "images.npz", pixels(500, seed=1))
    found, expected = run(files, reference="images.npz"), run(files)
    assert found.figures["fid"].value == pytest.approx(expected.figures["fid"].value, rel=1e-5)


@pytest.mark.parametrize(
    ("names", "reference", "message"),
    [
        (
            ["fid"],
            None,
            "fid: expected a reference, found none; name one by --reference, or leave it out",
        ),
        (
            ["precision"],
            "stats.npz",
            r"recall: expected a reference with images in arr_0, found stats\.npz",
        ),
        (["recall"], "three.npz", "precision and recall: expected at least 4 reference images, found 3"),
    ],
)
def test_what_a_metric_lacks_is_told_before_the_work(files, monkeypatch, names, reference, message):
    np.savez(files / "stats.npz", **statistics(pixels(100, seed=1)), about=ABOUT)
    np.savez(files / "three.npz", pixels(3, seed=1))
    with pytest.raises(ConfigError, match=message):
        run(files, small_protocol().choose(names), reference)
    assert not (files / "cache").exists()


def test_too_few_samples_and_another_size_are_refused(files):
    np.savez(files / "few.npz", pixels(6, seed=3))
    np.savez(files / "large.npz", pixels(60, seed=3, size=40))
    with pytest.raises(ConfigError, match="fid: expected at least 7 samples, found 6"):
        run(files, samples="few.npz")
    with pytest.raises(ConfigError, match="kid: expected at least 1000 samples, found 60"):
        run(files, small_protocol("torch-fidelity"))
    with pytest.raises(ConfigError, match="a reference of 40 x 40 pixels as the samples, found one of 20 x 20"):
        run(files, samples="large.npz")


def test_the_score_needs_no_reference(files):
    found = run(files, small_protocol().choose(["inception_score"]), None)
    assert found.reference is None
    assert found.figures["inception_score"].value > 1


def test_a_row_per_measurement_and_never_among_other_columns(files):
    table = files / "results.csv"
    for _ in range(2):
        append_result(table, row_of_measurement(run(files)))
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 2
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[1]["fid"]) == run(files).figures["fid"].value
    assert (rows[0]["num"], rows[0]["protocol"], rows[0]["kid"]) == ("60", "adm", "")
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DitError, match=r"results\.csv: expected the columns of this version, found others"):
        append_result(table, row_of_measurement(run(files)))
    assert table.read_text() == "a,b\n1,2\n"

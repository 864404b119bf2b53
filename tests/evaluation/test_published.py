"""ADM's published samples, measured by the commands of docs/evaluation.md: hours on a CPU, minutes on a GPU."""

import json
import urllib.request

import pytest

from tests.command import ROOT, runs

ADDRESS = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet/256"
REFERENCE, SAMPLES = "VIRTUAL_imagenet256_labeled.npz", "admnet_guided_upsampled_imagenet256.npz"
PUBLISHED = {"fid": 3.9426, "sfid": 6.1404, "inception_score": 215.837, "precision": 0.8265, "recall": 0.5309}


@pytest.mark.network  # and not slow: the scheduled job should not fetch it
def test_adms_samples_have_the_figures_of_its_evaluator(tmp_path, monkeypatch, capsys):
    """To 0.1%; float16 ties are broken by the order of sums, which moves precision and recall by up to 0.003."""
    monkeypatch.chdir(tmp_path)
    for name in (REFERENCE, SAMPLES):
        urllib.request.urlretrieve(f"{ADDRESS}/{name}", name)
    lines = runs(capsys, "evaluate", SAMPLES, "--protocol", "adm", "--reference", REFERENCE)
    report = json.loads((tmp_path / f"{SAMPLES}.adm.json").read_text())
    assert lines[-1].endswith(f"{SAMPLES}.adm.json")
    for name, value in PUBLISHED.items():
        tolerance = {"abs": 0.003} if name in ("precision", "recall") else {"rel": 1e-3}
        assert report["figures"][name]["value"] == pytest.approx(value, **tolerance), name


def test_the_document_has_the_same_commands_and_figures():
    text = (ROOT / "docs" / "evaluation.md").read_text()
    assert f"BASE={ADDRESS}\ncurl -O $BASE/{REFERENCE}\n" in text
    assert f"curl -O $BASE/{SAMPLES}\ndit evaluate {SAMPLES} --protocol adm --reference {REFERENCE}\n" in text
    for figure in ("FID 3.9426", "sFID 6.1404", "score 215.84", "precision 0.8265", "recall 0.5309"):
        assert figure in text

"""Published figures beside measured ones."""

import csv
import json
import multiprocessing

import pytest

from dit import launcher
from dit.figures import Measured
from dit.files import cache_folder
from dit.measuring import reproduce as module
from dit.measuring.reproduce import Claim, Comparison, claims_of, published_reference, reproduce
from dit.zoo.entries import entries
from tests.command import fails, runs

CLAIM = Claim("fid", "FID-50K", 2.27, 50_000, "its authors", "250 steps")


def compared(value, standard_error=0.01, num=50_000):
    return Comparison(CLAIM, Measured("fid", "FID", value, standard_error, None, num, "protocol adm"))


@pytest.mark.parametrize(
    ("value", "standard_error", "verdict"),
    [
        (2.27 * 1.02 + 0.019, 0.01, "agrees"),
        (2.27 * 1.02 + 0.021, 0.01, "differs"),
        (2.27 * 0.98 - 0.019, 0.01, "agrees"),
        (2.27 * 0.98 - 0.021, 0.01, "differs"),  # better is another figure too
        (2.31, None, "agrees"),
        (2.32, None, "differs"),
        (2.40, 0.06, "agrees"),
    ],
)
def test_figures_agree_within_two_standard_errors_and_two_percent(value, standard_error, verdict):
    assert compared(value, standard_error).verdict == verdict


def test_there_is_no_verdict_below_the_published_number_of_images():
    assert compared(2.27, num=49_999).verdict == "none: of 49,999 images, not 50,000"
    assert compared(2.27, num=50_001).verdict == "agrees"


def test_every_entry_with_a_published_setting_has_a_claim_that_can_be_measured():
    from dit.evaluation.protocols import PROTOCOLS

    claimed = {name: claims_of(name) for name in entries()}
    assert [claim.value for claim in claimed["dit_xl_2.in256"]] == [2.27]
    for name, entry in entries().items():
        assert bool(claimed[name]) == (module.is_embedded(entry) or entry.published is not None), name
        if not module.is_embedded(entry):
            for claim in claimed[name]:
                protocol = PROTOCOLS[entry.reported[0].protocol]
                assert claim.figure in [figure for metric in protocol.metrics for figure in metric.names]
                assert claim.num == protocol.num
    assert {entry.reported[0].protocol for name, entry in entries().items() if name.startswith("jit_")} == {
        "torch-fidelity"
    }
    assert [claim.figure for claim in claimed["dit_ti_2.mnist"]] == [
        "accuracy",
        "frechet_distance",
        "precision",
        "recall",
    ]


def test_a_few_images_of_an_embedded_model_are_measured_without_a_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "dit_ti_2.mnist", "--num", "70", "--batch_size", "20"]
    lines = runs(capsys, *command)
    assert sum("none: of 70 images, not 1,000" in line for line in lines) == 4
    report = json.loads((tmp_path / "dit_ti_2.mnist.reproduced.json").read_text())
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert (row["samples"], row["num"], row["verdict"]) == ("dit_ti_2.mnist", "70", "none: of 70 images, not 1,000")
    assert float(row["frechet_distance"]) == report["frechet_distance"]
    assert row["published"].startswith("accuracy 0.9")
    listed = [line for line in runs(capsys, "reproduce", "dit_*mnist", "--list") if line.startswith("dit_ti_2.mnist ")]
    assert f"{report['frechet_distance']:.1f}"[:3] in listed[1]
    assert "of 70" in listed[0]
    assert "this project" in listed[0]
    before = (tmp_path / "dit_ti_2.mnist.reproduced.json").read_bytes()
    runs(capsys, *command, "--processes", "2", "--out", tmp_path / "two.json")
    assert (tmp_path / "two.json").read_bytes() == before
    assert not list(tmp_path.glob("*.parts"))


def test_a_reproduction_that_was_killed_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "dit_ti_2.mnist", "--num", "70", "--batch_size", "20"]
    runs(capsys, *command, "--out", tmp_path / "whole.json")
    with monkeypatch.context() as patch:
        patch.setenv("DIT_FAILPOINT", "write:00000040.safetensors:kill")
        child = multiprocessing.get_context("fork").Process(target=runs, args=(capsys, *command, "--out", "cut.json"))
        child.start()
        child.join(120)
    assert child.exitcode == -9
    parts = tmp_path / "cut.json.parts"
    assert sorted(path.name for path in parts.glob("*.safetensors")) == ["00000000.safetensors", "00000020.safetensors"]
    runs(capsys, *command, "--out", "cut.json")
    assert (tmp_path / "cut.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in entries().items() if module.is_embedded(entry)])
def test_embedded_models_agree_with_their_cards(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = runs(capsys, "reproduce", name)
    assert sum(line.rstrip().endswith("agrees") for line in lines) == len(claims_of(name)) == 4


def test_a_published_figure_is_measured_by_its_setting_and_protocol(tmp_path, monkeypatch):
    """Nothing is downloaded here: what measures is handed what it should be."""
    asked = {}

    def measured(samples, protocol, reference, metrics, *, columns, **options):
        asked.update(samples=samples, protocol=protocol, reference=reference, metrics=metrics, **options)

    monkeypatch.setattr(module, "measure_by_protocol", measured)
    monkeypatch.setattr(module.Making, "locate", lambda self, source: None)
    monkeypatch.setattr(module, "download_address", lambda address, folder: folder / address)
    assert reproduce("dit_xl_2.in512", out=tmp_path / "x.json") == []
    assert asked["samples"].making.published
    assert (asked["samples"].num, asked["protocol"], asked["metrics"]) == (50_000, "adm", ["fid"])
    assert str(asked["reference"]).endswith("imagenet/512/VIRTUAL_imagenet512.npz")
    reproduce("jit_b_16.in256", reference=tmp_path / "jit.npz", num=100, out=tmp_path / "x.json")
    assert (asked["samples"].num, asked["protocol"], asked["reference"]) == (
        100,
        "torch-fidelity",
        tmp_path / "jit.npz",
    )


def test_a_launchers_first_process_downloads_and_the_others_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("DIT_CACHE", str(tmp_path))
    waited = []
    monkeypatch.setattr(module, "download_address", lambda address, folder: folder / "x")
    monkeypatch.setattr(launcher, "wait_for_files", lambda paths: waited.extend(paths))
    published_reference(entries()["dit_xl_2.in256"], "adm")
    assert waited == []
    monkeypatch.setenv("RANK", "1")
    published_reference(entries()["dit_xl_2.in256"], "adm")
    assert waited == [cache_folder("references") / "VIRTUAL_imagenet256_labeled.npz"]


def test_a_figure_that_differs_is_told_and_its_exit_code_is_not_zero(tmp_path, monkeypatch, capsys):
    from dit.measuring import reproduce as module

    monkeypatch.setattr(module, "reproduce", lambda entry, **options: [compared(2.5)])
    assert fails_with_a_table(capsys, "reproduce", "dit_xl_2.in256") == (
        "dit: dit_xl_2.in256: expected FID-50K within 0.065 of the published 2.27, measured 2.500 ± 0.010; results.csv "
        "says how"
    )


def fails_with_a_table(capsys, *argv):
    from dit.cli import main

    assert main(list(argv)) == 1
    captured = capsys.readouterr()
    assert "differs" in captured.out
    (line,) = captured.err.splitlines()
    return line


def test_what_can_not_be_reproduced_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fails(capsys, "reproduce").startswith("dit reproduce: expected ENTRY, a zoo name, found none")
    assert "Did you mean 'dit_ti_2.mnist'" in fails(capsys, "reproduce", "dit_ti_2.mnits")
    message = fails(capsys, "reproduce", "dit_s_2.in256_flow")
    assert message.startswith("dit_s_2.in256_flow: expected a published figure whose setting is known, found none")
    message = fails(capsys, "reproduce", "dit_ti_2.mnist", "--reference", "x.npz")
    assert message.startswith("--reference: expected it left out")
    assert fails(capsys, "reproduce", "dit_ti_2.mnist", "--num", "1").startswith("--evaluation.num: expected")
    assert fails(capsys, "reproduce", "nothing_*", "--list").startswith("nothing_*: expected names of the zoo")
    monkeypatch.setattr(module.Making, "locate", lambda self, source: None)
    message = fails(capsys, "reproduce", "jit_b_16.in256")
    assert message.startswith(
        "--reference: expected the file that figures by protocol torch-fidelity of imagenet-1k at"
    )
    assert list(tmp_path.iterdir()) == []

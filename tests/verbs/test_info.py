import re
import shutil

from dit.cli import main
from tests.command import fails


def test_info_of_an_architecture(capsys):
    assert main(["info", "dit_xl_2"]) == 0
    facts = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["parameters"].strip() == "675,129,632"
    assert facts["cost of a network call"].strip() == "118.62 GMAC"
    assert facts["architecture"].strip() == "dit_xl_2: patch_size 2, hidden_size 1152, depth 28, num_heads 16"


def test_info_of_a_zoo_name_that_is_not_here_asks_nobody(capsys, monkeypatch):
    monkeypatch.setattr("dit.zoo.source.fetch", None)
    assert main(["info", "dit_xl_2.in256"]) == 0
    text = capsys.readouterr().out
    for words in (
        "675,129,632",
        "stabilityai/sd-vae-ft-ema",
        "cc-by-nc-4.0",
        "0 tench",
        "original layout, https://",
        "FID-50K 2.27, guidance 1.5, 250 DDPM steps",
    ):
        assert words in text


def test_info_of_an_export_names_process_autoencoder_and_provenance(trained, capsys):
    assert main(["info", str(trained / "export")]) == 0
    text = capsys.readouterr().out
    for words in (
        "name flow",
        "vae mnist",
        "name dpmpp_2m",
        "0 0, 1 1",
        "provenance: images_seen  24",
        "hidden_size 48",
    ):
        assert re.search(re.sub(" +", " +", words), text), words


def test_info_of_damaged_weights_is_refused(trained, tmp_path, capsys):
    folder = tmp_path / "export"
    shutil.copytree(trained / "export", folder)
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    assert "model.safetensors: " in fails(capsys, "info", folder, code=1)

"""Where reports go, and what follows from them."""

import json
import shutil

from dit.files import ASSETS
from dit.making import Making
from dit.measuring.report import report_path, write_report


def test_a_report_goes_beside_a_model_of_the_users_and_never_into_the_package(tmp_path):
    folder = shutil.copytree(ASSETS / "dit_ti_2.mnist", tmp_path / "model")
    assert report_path(str(folder), Making()) == folder / "eval.json"
    assert report_path(str(folder / "model.safetensors"), Making()) == folder / "eval.json"
    assert str(report_path("dit_ti_2.mnist", Making())) == "eval.json"
    assert str(report_path(str(folder), Making(quantize="int8"))) == "eval.int8.json"


def test_the_card_of_an_exported_folder_shows_the_new_figures(tmp_path, capsys):
    folder = shutil.copytree(ASSETS / "dit_ti_2.mnist", tmp_path / "model")
    report = json.loads((folder / "eval.json").read_text()) | {"frechet_distance": 123.456}
    write_report(folder / "eval.json", report)
    assert "123.46" in (folder / "README.md").read_text()
    captured = capsys.readouterr()
    assert captured.out == f"{folder / 'eval.json'}\n"
    assert "replaced an earlier report in" in captured.err
    write_report(tmp_path / "x.json", {"num": 1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"num": 1}

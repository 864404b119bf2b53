import json
import shutil

from tests.command import fails, runs


def test_figures_are_written_beside_the_model_and_printed(trained, tmp_path, capsys):
    folder = shutil.copytree(trained / "export", tmp_path / "model")
    lines = runs(capsys, "evaluate", folder, "--num", "30", "--steps", "3", "--solver", "euler", "--seed", "5")
    report = json.loads((folder / "eval.json").read_text())
    assert (report["num"], report["seed"]) == (30, 5)
    assert (report["sampling"]["solver"], report["sampling"]["steps"]) == ("euler", 3)
    assert report["subject"]["source"] == "model"  # nothing of the folders of this machine
    assert len(report["subject"]["weights_sha256"]["model.safetensors"]) == 64
    text = "\n".join(lines)
    for words in ("class accuracy", "Frechet distance", "its floor", "30 samples"):
        assert words in text
    assert lines[-1] == str(folder / "eval.json")


def test_the_report_may_go_elsewhere(trained, tmp_path, capsys):
    before = (trained / "export" / "eval.json").read_bytes()
    runs(capsys, "evaluate", trained / "export", "--num", "20", "--out", tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text())["num"] == 20
    assert (trained / "export" / "eval.json").read_bytes() == before


def test_an_export_gives_the_same_figures_again(trained, tmp_path, capsys):
    for name in ("a.json", "b.json"):
        runs(capsys, "evaluate", trained / "export", "--num", "20", "--batch_size", "7", "--out", tmp_path / name)
    reports = [json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json")]
    assert reports[0]["samples_sha256"] == reports[1]["samples_sha256"]
    assert reports[0]["frechet_distance"] == reports[1]["frechet_distance"]


def test_a_folder_without_a_recipe_is_refused(trained, tmp_path, capsys):
    folder = shutil.copytree(trained / "export", tmp_path / "model")
    (folder / "recipe.yaml").unlink()
    assert "expected a recipe.yaml" in fails(capsys, "evaluate", folder)


def test_a_wrong_extractor_or_option_is_named(trained, capsys):
    assert "'mnits'" in fails(capsys, "evaluate", trained / "export", "--features", "mnits")
    assert fails(capsys, "evaluate", trained / "export", "--num", "1").startswith("--evaluation.num: expected")

from dit.recipes import list_recipes
from tests.command import ROOT, runs


def test_recipes_are_listed_with_what_their_header_says(capsys):
    lines = runs(capsys, "recipes")
    assert [line for line in lines if line and line[0] != " "] == list(list_recipes())
    assert "  dit train dit_ti_2_mnist" in lines


def test_the_recipes_of_the_wheel_are_those_of_the_checkout(monkeypatch, tmp_path):
    names = list(list_recipes())
    assert names == sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    monkeypatch.setattr("dit.recipes._PACKAGE", tmp_path)
    (tmp_path / "configs" / "accelerate").mkdir(parents=True)
    (tmp_path / "configs" / "accelerate" / "fsdp.yaml").touch()
    (tmp_path / "configs" / "one.yaml").touch()
    assert list(list_recipes()) == ["one"]
    assert 'configs = "dit/configs"' in (ROOT / "pyproject.toml").read_text().split("force-include]")[1]

import re

import pytest

from dit.cli import main
from dit.recipe_help import recipe_help, type_words
from tests.command import RECIPE


def test_train_help_lists_the_fields_of_the_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", RECIPE, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--optim.lr NUMBER (now: 0.003)" in text
    assert "--train.mixed_precision fp32|bf16|fp16|auto (now: auto)" in text
    assert "--process.betas linear|cosine|scaled_linear (not with this process)" in text
    assert "Peak learning rate." in text


def test_help_shows_what_the_command_line_changes(capsys):
    assert main(["train", "dit_ti_2_mnist", "--optim.lr", "0.5", "--help"]) == 0
    assert "--optim.lr NUMBER (now: 0.5)" in capsys.readouterr().out


def test_every_field_is_listed_once_with_its_default():
    options = re.findall(r"^  --(\S+)", recipe_help(), re.MULTILINE)
    assert len(options) == len(set(options)) > 60
    assert "  --optim.lr NUMBER (now: 0.0001)" in recipe_help()


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "INTEGER|null"),
        (tuple[float, float] | None, "[NUMBER, NUMBER]|null"),
        (tuple[str, ...], "[TEXT, ...]"),
        (int | list[int], "INTEGER|[INTEGER]"),
        (bool, "true|false"),
    ],
)
def test_types_are_named_in_words(annotation, words):
    assert type_words(annotation) == words

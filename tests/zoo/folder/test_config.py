"""The `config.json` of an exported folder: what is wrong with it is said in one line."""

import json

import pytest

from dit.errors import DitError
from dit.zoo.folder.config import is_exported, read_config, write_config

CONFIG = {
    "format_version": 1,
    "model": {"name": "dit_ti_2", "arguments": {"num_classes": 3, "input_size": [8, 8]}},
    "process": {"name": "gaussian"},
    "latents": None,
    "sampling": {"solver": "ddim", "steps": 5},
    "id2label": {"0": "a", "2": "c"},
    "provenance": {"seed": 1},
}


def write(folder, content):
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_what_is_written_is_read_back(tmp_path):
    config = read_config(write(tmp_path, CONFIG))
    assert is_exported(tmp_path)
    assert config.process.name == "gaussian"
    assert config.class_names == ["a", "1", "c"]
    (tmp_path / "again").mkdir()
    write_config(tmp_path / "again", config)
    assert read_config(tmp_path / "again") == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ([], "expected format_version 2, found None"),
        ({"model_type": "bert"}, "expected format_version 2, found None"),
        (CONFIG | {"format_version": 3}, "found 3; a higher number needs a newer version of dit"),
        (CONFIG | {"format_version": "1"}, "found '1'"),
        (CONFIG | {"process": {"name": "score"}}, "process: expected name 'flow' or 'gaussian', found 'score'"),
        (CONFIG | {"sampling": {"steps": 0}}, "sampling.steps: expected a value greater than or equal to 1, found 0"),
        (CONFIG | {"extra": 1}, "extra: unknown key"),
        ({key: value for key, value in CONFIG.items() if key != "model"}, "model: expected a value, found none"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(DitError) as caught:
        read_config(write(tmp_path, content))
    assert str(caught.value).startswith(str(tmp_path / "config.json"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_configuration_of_another_library_is_not_taken_for_ours(tmp_path):
    assert not is_exported(tmp_path)
    assert not is_exported(write(tmp_path, {"_class_name": "DiTTransformer2DModel"}))

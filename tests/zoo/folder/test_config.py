"""The `config.json` of an exported folder: what is wrong with it is said in one line."""

import json

import pytest
import yaml

from dit.config import load_recipe
from dit.errors import DitError
from dit.sampling.config import Published
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

FIRST_FORMAT = {
    "times": None, "t_start": None, "t_end": 0.001, "rho": 7.0, "shift": 3.0,
    "eta": 0.0, "variance": "auto", "diffusion": "sigma", "diffusion_scale": 1.0, "tolerance": 1e-05,
}  # fmt: skip
"""Options of the first format, every one of which its runs wrote out."""


def write(folder, content):
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_what_is_written_is_read_back(tmp_path):
    config = read_config(write(tmp_path, CONFIG))
    assert is_exported(tmp_path)
    assert config.process.name == "gaussian"
    assert config.class_names == ["a", "1", "c"]
    assert config.published is None
    config = config.model_copy(
        update={"published": Published(steps=7, guide="dit_s_2.x", labels="balanced", vae="org/a")}
    )
    (tmp_path / "again").mkdir()
    write_config(tmp_path / "again", config)
    assert read_config(tmp_path / "again") == config


def test_the_first_format_is_read(tmp_path):
    """Options stood beside the solver, of all solvers and grids."""
    flat = {"solver": "ddim", "grid": "shifted", "shift": 2.0, "rho": 5.0, "eta": 0.5, "tolerance": 0.1}
    sampling = read_config(write(tmp_path, CONFIG | {"sampling": flat})).sampling
    assert sampling.model_dump(include={"solver", "grid"}) == {
        "solver": {"name": "ddim", "eta": 0.5},
        "grid": {"name": "shifted", "shift": 2.0, "t_end": 0.0},
    }
    with pytest.raises(DitError, match=r"sampling\.eta: unknown key. Did you mean 'sampling\.solver\.eta'"):
        read_config(write(tmp_path, CONFIG | {"format_version": 2, "sampling": flat}))
    every = FIRST_FORMAT | flat
    folder = read_config(write(tmp_path, CONFIG | {"sampling": every}))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": {"name": "dit_ti_2"}, "sampling": every}))
    assert load_recipe(recipe).sampling == folder.sampling
    assert load_recipe(recipe, {"sampling.solver.eta": 0.25}).sampling.solver.eta == 0.25


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected JSON"),
        ([], "expected format_version 2, found None"),
        ({"model_type": "bert"}, "expected format_version 2, found None"),
        (CONFIG | {"format_version": 3}, "found 3; a higher number needs a newer version of dit"),
        (CONFIG | {"format_version": "1"}, "found '1'"),
        (
            CONFIG | {"process": {"name": "score"}},
            "process: expected name 'flow' or 'gaussian' or 'edm' or",
        ),
        (CONFIG | {"sampling": {"steps": 0}}, "sampling.steps: expected a value greater than or equal to 1, found 0"),
        (CONFIG | {"extra": 1}, "extra: unknown key"),
        (CONFIG | {"model": {"name": "dit_x", "arguments": {}}}, "json: model.name: unknown name 'dit_x'"),
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

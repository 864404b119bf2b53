"""Previews: the samples that `sample` gives, whatever the batch, as a PNG."""

import pytest
import torch
from PIL import Image

from dit.errors import DitError
from dit.sampling.sample import sample
from dit.training.monitor.preview import Preview
from dit.training.ranks.processes import start_processes
from tests.training.fakes import FakeCodec, make_parts, make_recipe


def make_preview(process, recipe, **changes):
    arguments = {
        "process": process,
        "codec": FakeCodec(),
        "sampling": recipe.sampling,
        "num_classes": 3,
        "shape": (2, 4, 4),
        "num_samples": 7,
        "batch_size": 4,
        "seed": 0,
        "processes": start_processes(recipe.train),
    }
    return Preview(**(arguments | changes))


def test_samples_are_those_of_sample(tmp_path):
    recipe = make_recipe()
    model, process, codec, *_ = make_parts(recipe)
    images = make_preview(process, recipe).draw(model)
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    expected = codec.decode(sample(model, process, y, (2, 4, 4), sampling=recipe.sampling, seed=0).latents)
    assert (images.int() - expected.int()).abs().max() <= 1  # arithmetic differs in the last bit between batch sizes


def test_grid_has_a_column_per_class(tmp_path):
    recipe = make_recipe()
    model, process, *_ = make_parts(recipe)
    make_preview(process, recipe).save(model, tmp_path / "samples" / "grid.png")
    with Image.open(tmp_path / "samples" / "grid.png") as picture:
        assert picture.size == (3 * 64 + 2 * 2, 3 * 64 + 2 * 2)


def test_damaged_weights_stop(tmp_path):
    recipe = make_recipe()
    model, process, *_ = make_parts(recipe)
    torch.nn.init.constant_(model.final_layer.linear.bias, float("nan"))
    with pytest.raises(DitError, match="not finite"):
        make_preview(process, recipe).save(model, tmp_path / "grid.png")
    assert not (tmp_path / "grid.png").exists()

"""Previews: the samples that `sample` gives, whatever the batch, as a PNG."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from dit.sampling.sampler import sample
from dit.training.monitor.preview import Preview
from dit.training.ranks.processes import start_processes
from tests.training.fakes import FakeCodec, make_parts, make_recipe
from tests.training.test_batch import make_source


@pytest.fixture
def preview_and_parts():
    recipe = make_recipe()
    model, process, codec, *_ = make_parts(recipe)
    processes = start_processes(recipe.train)
    preview = Preview(process, make_source(), recipe.sampling, num_samples=7, batch_size=4, processes=processes)
    return preview, model, process, codec


def test_samples_are_those_of_sample(preview_and_parts):
    preview, model, process, codec = preview_and_parts
    images = preview.draw(model)
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    expected = codec.decode(sample(model, process, y, (2, 4, 4), sampling=preview.sampling, seed=5).latents)
    assert (images.int() - expected.int()).abs().max() <= 1  # arithmetic differs in the last bit between batch sizes


def test_a_preview_decoder_draws_it(preview_and_parts, monkeypatch):
    preview, model, *_ = preview_and_parts
    decoder = SimpleNamespace(decode=lambda latents: torch.full_like(latents, 7).byte())
    monkeypatch.setattr(FakeCodec, "preview", decoder)
    assert preview.draw(model).unique().tolist() == [7]


def test_grid_has_a_column_per_class(preview_and_parts, tmp_path):
    preview, model, *_ = preview_and_parts
    preview.save(model, tmp_path / "samples" / "grid.png")
    with Image.open(tmp_path / "samples" / "grid.png") as picture:
        assert picture.size == (3 * 64 + 2 * 2, 3 * 64 + 2 * 2)

"""What a job does, and that the command of the page makes the same file, for every kind of picture."""

import functools
import io
import shlex
from dataclasses import replace

import pytest
from PIL import Image

from dit.cli import main
from dit.data.mnist import mnist_images
from dit.demo.form import Form, Settings, request_of
from dit.demo.jobs import Job
from dit.demo.make import MAX_LOOKS, make
from dit.demo.pictures import Pictures
from tests.demo.conftest import MODEL


@pytest.fixture
def settings(models):
    return replace(Settings.of(MODEL, models.config(MODEL), published=False), steps=3)


def digit() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mnist_images("test")[0][0].squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()


def job_of(models, settings, pictures, form):
    request = request_of(models, settings, form)
    image = form.picture and form.picture[1]
    given = {"models": models, "model": settings.model, "request": request, "pictures": pictures, "image": image}
    return Job("a", functools.partial(make, **given))


@pytest.mark.parametrize(
    "form",
    [
        Form("samples", ["7", "3"], num=3, seed=11),
        Form("denoising", ["7"], num=2),
        Form("classes", ["2", "6"]),
        Form("seeds", ["4"], seed=3),
        Form("inversion", ["0"], picture=("my digit.png", digit())),
    ],
    ids=lambda form: form.kind,
)
def test_the_command_makes_the_file_of_the_page(models, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = Pictures()
    own = Settings.of(MODEL, models.config(MODEL), published=False, inverts=form.kind == "inversion")
    settings = replace(own, steps=3)
    job = job_of(models, settings, pictures, form)
    job.run()
    made = job.result
    assert job.state == "done", job.error
    (tmp_path / "my digit.png").write_bytes(digit())
    assert main(shlex.split(made.command)[1:]) == 0
    assert (tmp_path / made.whole.filename).read_bytes() == pictures.get(made.whole.address)


def test_every_image_has_a_file_that_its_command_makes(models, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = Pictures()
    job = job_of(models, settings, pictures, Form("samples", ["7", "3"], num=3))
    job.run()
    made = job.result
    assert [tile.words for tile in made.tiles] == ["7", "3", "7"]
    tile = made.tiles[1]
    assert main([*shlex.split(made.command)[1:], "--only", "1", "--out", tile.filename]) == 0
    assert (tmp_path / tile.filename).read_bytes() == pictures.get(tile.address)


def test_looks_while_it_is_made(models, settings):
    many, looks = replace(settings, steps=40), []
    job = job_of(models, many, Pictures(), Form("samples", ["7"], num=2))
    step = job.step

    def keep(preview=None):
        step(preview)
        looks.append(preview)

    job.step = keep
    job.run()
    seen = [look for look in looks if look is not None]
    assert (job.state, job.done, job.total, len(looks)) == ("done", 40, 40, 40)
    assert 1 <= len(seen) <= MAX_LOOKS
    tiles, columns = seen[0]
    assert (len(tiles), columns) == (2, 2)
    assert tiles[0].address.startswith("data:image/png;base64,")


def test_a_stop_stops_the_network_between_two_blocks(models, settings):
    pipeline = models.load(MODEL, request_of(models, settings, Form()).making)
    blocks, calls = pipeline.model.block_list(), []
    job = job_of(models, settings, Pictures(), Form(num=1))
    hooks = [block.register_forward_hook(lambda *_: calls.append(job.stop())) for block in blocks]
    job.run()
    for hook in hooks:
        hook.remove()
    assert (job.state, len(calls)) == ("stopped", 1)
    assert not any(block._forward_pre_hooks for block in blocks)
    again = job_of(models, settings, Pictures(), Form(num=1))
    again.run()
    assert again.state == "done"


def test_a_broken_picture_is_an_error_of_the_job(models, settings):
    job = job_of(models, settings, Pictures(), Form("inversion", ["0"], picture=("my digit.png", digit()[:100])))
    job.run()
    assert job.state == "failed"
    assert str(job.error).startswith("my digit.png: expected a whole image, found a broken one")

"""The command that a picture's file holds makes the same file again."""

import shlex

import pytest
from PIL import Image

from dit.cli import main
from dit.data.mnist import mnist_images
from dit.drawing import Request, columns, draw, name_of
from dit.making import Making
from dit.png_info import png_texts
from tests.command import fails, runs

MODEL = "dit_ti_2.mnist"


@pytest.mark.parametrize(
    ("making", "fields", "expected"),
    [
        (Making(), {}, f"dit sample {MODEL}"),
        (Making(), {"classes": "3,1", "num": 4, "seed": 7}, f"dit sample {MODEL} --classes 3,1 --num 4 --seed 7"),
        (Making(published=True), {"only": 0}, f"dit sample {MODEL} --only 0 --published"),
        (
            Making({"solver.eta": 0.5, "guidance": 1.5, "solver": "ddim", "guidance_interval": [0.1, 1.0]}),
            {"batch_size": 8},
            f"dit sample {MODEL} --solver ddim --guidance 1.5 --guidance_interval 0.1,1 --sampling.solver.eta 0.5 "
            "--batch_size 8",
        ),
        (
            Making({"guidance": 1 / 3}, rounding="down", quantize="int8"),
            {"interpolate": "seeds"},
            f"dit sample {MODEL} --guidance 0.3333333333333333 --quantize int8 --rounding down --interpolate seeds",
        ),
        (Making(), {"inversion": "my 7.png"}, f"dit sample {MODEL} --inversion 'my 7.png'"),
        (Making(), {"trajectory": True}, f"dit sample {MODEL} --trajectory trajectory.png"),
        (Making({"grid.t_end": None}), {}, f"dit sample {MODEL} --sampling.grid.t_end null"),
    ],
)
def test_the_command_of_a_request(making, fields, expected):
    assert Request(MODEL, making, **fields).command() == expected


def test_a_command_tells_no_folders(tmp_path):
    export = tmp_path / "secret" / "digits" / "export"
    export.mkdir(parents=True)
    assert name_of(export) == "digits/export"
    assert name_of(export.parent) == "digits"
    assert name_of("org/name@main") == "org/name@main"
    command = Request(str(export), Making(guide=str(tmp_path / "secret"))).command(out="x.png")
    assert command == "dit sample digits/export --guide secret --out x.png"


@pytest.mark.parametrize(
    "options",
    [
        ["--classes", "3, 1", "--num", "5", "--seed", "2"],
        ["--num", "3", "--solver", "ddpm", "--guidance_interval", "0.2,0.9", "--only", "2"],
        ["--classes", "2,6", "--interpolate", "classes"],
        ["--classes", "2", "--num", "2", "--interpolate", "seeds", "--sampling.grid", "{name: shifted, shift: 2}"],
        ["--classes", "7", "--inversion", "seven.png"],
    ],
)
def test_the_command_in_a_file_makes_the_file_again(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(mnist_images("test")[0][0].squeeze()).save("seven.png")
    steps = [] if "--inversion" in options else ["--steps", "3"]
    runs(capsys, "sample", MODEL, *steps, *options, "--out", "first.png")
    texts = png_texts((tmp_path / "first.png").read_bytes())
    assert list(texts) == ["Software", "Command", "Settings"]
    verb, *again = shlex.split(texts["Command"])[1:]
    assert main([verb, *again, "--out", "again.png"]) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "first.png").read_bytes()


def test_the_denoising_strip_has_its_own_command_and_the_samples_theirs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = ["sample", MODEL, "--classes", "4", "--steps", "3"]
    runs(capsys, *shown, "--out", "x.png", "--trajectory", "strip.png")
    strip = png_texts((tmp_path / "strip.png").read_bytes())["Command"]
    assert strip == f"dit sample {MODEL} --classes 4 --steps 3 --trajectory trajectory.png"
    runs(capsys, *shown, "--out", "alone.png")
    assert (tmp_path / "alone.png").read_bytes() == (tmp_path / "x.png").read_bytes()


def test_one_of_several_is_a_tile_of_the_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shown = ["sample", MODEL, "--classes", "4,9", "--num", "3", "--steps", "2"]
    runs(capsys, *shown, "--out", "all.png")
    runs(capsys, *shown, "--out", "one.png", "--only", "1")
    one, whole = Image.open("one.png"), Image.open("all.png")
    assert one.size == (64, 64)
    assert whole.crop((66, 0, 130, 64)).tobytes() == one.tobytes()
    assert fails(capsys, *shown, "--only", "3") == "--only: expected an image from 0 to 2, found 3"
    assert fails(capsys, *shown, "--only", "0", "--out", "folder").startswith("--out: expected one picture")
    message = fails(capsys, *shown, "--only", "0", "--interpolate", "seeds")
    assert message == "--only: expected it for samples, found it beside --inversion or --interpolate"


def test_the_callback_sees_the_steps_of_every_kind():
    pipeline, steps = Making().load(MODEL, "cpu"), Making({"steps": 2})
    image = _png(mnist_images("test")[0][0])
    for fields, expected in (
        ({"num": 2}, 2),
        ({"num": 2, "trajectory": True}, 2),
        ({"classes": "1,2", "interpolate": "classes"}, 2),
        ({"classes": "1", "inversion": "x.png"}, 4),
    ):
        seen = []
        request = Request(MODEL, steps, **fields)
        draw(pipeline, request, image=image, callback=lambda k, *_, seen=seen: seen.append(k))
        assert len(seen) == expected, fields


@pytest.mark.parametrize(
    ("num", "num_classes", "expected"), [(10, 10, 10), (40, 10, 10), (7, 1, 3), (1, 1, 1), (9, 1000, 3)]
)
def test_columns(num, num_classes, expected):
    assert columns(num, num_classes) == expected


def _png(pixels):
    import io

    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, format="PNG")
    return buffer.getvalue()

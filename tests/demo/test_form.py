"""Fields of the page, whatever a browser sends in them."""

import dataclasses

import pytest

from dit.demo.form import MAX_NUM, Form, Settings, request_of
from dit.errors import ConfigError
from dit.sampling.config import Published
from tests.demo.conftest import MODEL


@pytest.fixture
def settings(models):
    return Settings.of(MODEL, models.config(MODEL), published=False)


def command(models, settings, **form):
    return request_of(models, settings, Form(**form)).command()


def test_commands_of_the_page(models, settings):
    plain = f"dit sample {MODEL}"
    own = "--steps 12 --solver dpmpp_2m --guidance 2"
    assert command(models, settings) == f"{plain} --num 10 {own}"
    assert (
        command(models, settings, classes=["3", "7"], num=4, seed=5) == f"{plain} --classes 3,7 --num 4 {own} --seed 5"
    )
    assert command(models, settings, kind="denoising", num=2) == f"{plain} --num 2 {own} --trajectory trajectory.png"
    assert command(models, settings, kind="seeds", classes=["1"]) == f"{plain} --classes 1 {own} --interpolate seeds"
    inverts = Settings.of(MODEL, models.config(MODEL), published=False, inverts=True)
    asked = {"kind": "inversion", "classes": ["1"], "picture": ("my 1.png", b"x")}
    back = "--steps 12 --solver heun --guidance 1 --inversion 'my 1.png'"
    assert command(models, inverts, **asked) == f"{plain} --classes 1 {back}"
    more = dataclasses.replace(inverts, steps=99, solver="midpoint")
    assert "--steps 99 --solver midpoint" in command(models, more, **asked)
    acts = dataclasses.replace(settings, low=0.2)
    assert command(models, acts) == f"{plain} --num 10 {own} --guidance_interval 0.2,0.6"


def test_published_settings(models, settings, monkeypatch):
    config = models.config(MODEL)
    published = Published(steps=250, guidance=1.5, guidance_interval=[0.1, 0.9])
    monkeypatch.setitem(models._configs, MODEL, config.model_copy(update={"published": published}))
    begun = Settings.of(MODEL, models.config(MODEL), published=True)
    assert (begun.steps, begun.solver, begun.guidance, begun.low, begun.high) == (250, "heun", 1.5, 0.1, 0.9)
    own = f"dit sample {MODEL} --num 10 --published --steps 250 --solver heun --guidance 1.5"
    assert command(models, begun) == own
    everywhere = dataclasses.replace(begun, low=0, high=1)
    assert command(models, everywhere) == f"{own} --guidance_interval 0,1"


@pytest.mark.parametrize(
    ("changes", "form", "expected"),
    [
        ({"model": "org/name"}, {}, "Model: expected one of broken_digits, "),
        ({"steps": 0}, {}, "Steps: expected a whole number from 1 to 1000, found 0"),
        ({"steps": None}, {}, "Steps: expected a whole number from 1 to 1000, found nothing"),
        ({"steps": 1e9}, {}, "Steps: expected a whole number from 1 to 1000, found 1000000000"),
        ({"steps": True}, {}, "Steps: expected a whole number"),
        ({"steps": "7"}, {}, "Steps: expected a whole number"),
        ({"solver": "magic"}, {}, "--solver: expected 'ddpm' or 'ddim' or"),
        ({"solver": {"name": "ddim"}}, {}, "--solver: expected 'ddpm' or 'ddim' or"),
        ({"guidance": float("nan")}, {}, "Guidance: expected a number from 0 to 100, found nan"),
        ({"guidance": -1}, {}, "Guidance: expected a number from 0 to 100, found -1"),
        ({"low": 0.5, "high": 0.5}, {}, "Guidance from, to: expected a lower and a higher time, found 0.5, 0.5"),
        ({"high": 2}, {}, "Guidance to: expected a number from 0 to 1, found 2"),
        ({}, {"classes": ["eleven"]}, "classes: no class is named 'eleven'"),
        ({}, {"classes": [["3"]]}, "classes: no class is named"),
        ({}, {"classes": ["3"] * (MAX_NUM + 1)}, "Classes: expected at most 32, found 33"),
        ({}, {"num": 33}, "Number of pictures: expected a whole number from 1 to 32, found 33"),
        ({}, {"seed": -1}, "Seed: expected a whole number from 0 to"),
        ({}, {"seed": 0.5}, "Seed: expected a whole number from 0 to 9007199254740991, found 0.5"),
        ({}, {"kind": "denoising", "num": 11}, "Number of pictures: expected at most 10 to be shown step by step"),
        ({}, {"kind": "classes", "classes": ["1"]}, "Classes: expected 2 to 10, a row for each, found 1"),
        ({}, {"kind": "shell"}, "What to make: expected one of the page's choices, found 'shell'"),
        ({}, {"kind": "inversion", "classes": ["1"]}, "Picture: expected an image file, found none; upload one"),
        (
            {},
            {"kind": "inversion", "classes": ["1"], "picture": ("x.png", bytes(10**7 + 1))},
            "Picture: expected at most 10 MB, found 10.0 MB",
        ),
        (
            {},
            {"kind": "inversion", "picture": ("x.png", b"x")},
            "Classes: expected the one class of the picture, found 0",
        ),
    ],
)
def test_what_is_refused(models, settings, changes, form, expected):
    with pytest.raises(ConfigError) as refused:
        request_of(models, dataclasses.replace(settings, **changes), Form(**form))
    assert str(refused.value).startswith(expected)

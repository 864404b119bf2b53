"""Messages tell no paths of this machine."""

import pytest

from dit.demo.messages import message_of
from dit.errors import ConfigError, DitError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DitError("/home/ann/runs/x/model.safetensors: expected a header"), "model.safetensors: expected a header"),
        (DitError("~/runs/x.png: broken, see '/var/tmp/y'"), "x.png: broken, see 'y'"),
        (DitError("C:\\Users\\ann\\x.png: broken"), "x.png: broken"),
        (DitError("see https://huggingface.co/org/name"), "see https://huggingface.co/org/name"),
        (DitError("org/name@main: not found, 3/4 of it"), "org/name@main: not found, 3/4 of it"),
        (ConfigError("--steps: expected 1,\nfound 0"), "Steps: expected 1, found 0"),
        (ConfigError("sampling.guidance: expected 1"), "Guidance: expected 1"),
        (ConfigError("classes: no class is named 'x'"), "Classes: no class is named 'x'"),
        (MemoryError(), "There is not enough memory for that: ask for fewer pictures."),
        (
            KeyError("/home/ann"),
            "That did not work (KeyError); the terminal that runs the page says more.",
        ),
    ],
)
def test_messages(error, expected):
    assert message_of(error) == expected


def test_folders_with_spaces_are_known_by_name():
    folder = "/home/ann/my runs/digits"
    error = DitError(f"{folder}/model.safetensors: cut short")
    assert message_of(error, ("my runs/digits", folder)) == "digits/model.safetensors: cut short"

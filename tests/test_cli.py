import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dit.cli import VERBS, main, split_overrides
from dit.errors import ConfigError, Preempted, UserError
from dit.verbs.recipe_help import recipe_help, type_words

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "configs" / "dit_ti_2_mnist.yaml")


def fails(capsys, *argv, code=2):
    """Run a command that fails and return its one line."""
    assert main(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("dit: ")
    return line.removeprefix("dit: ")


# --- dispatch ---------------------------------------------------------------------------------------------------------


def test_help_lists_every_verb_with_its_sentence(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in VERBS:
        (line,) = [line for line in lines if line.startswith(f"  {verb} ")]
        assert line.endswith(".")


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_has_a_help_text(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    for name in inspect.signature(import_module(f"dit.verbs.{verb}").run).parameters:
        if name == "overrides":
            continue
        (line,) = [line for line in text.splitlines() if re.match(rf"\W*{name}\b(?! \[)", line, re.IGNORECASE)]
        assert re.search(r"[a-z]{2,} [a-z,]{2,} ", line), line
    assert "--overrides" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_started_as_a_file(verb):
    assert f'main(["{verb}", *sys.argv[1:]])' in (ROOT / "tools" / f"{verb}.py").read_text()


def test_an_unknown_verb_names_near_ones(capsys):
    assert fails(capsys, "modls").endswith("found 'modls'. Did you mean 'models'?")


def test_an_unknown_option_names_near_ones(capsys):
    line = fails(capsys, "train", RECIPE, "--dryrun")
    assert line.startswith("dit train: ")
    assert "--dryrun" in line
    assert line.endswith("Did you mean --dry_run?")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train"], "CONFIG"),
        (["train", RECIPE, "extra"], "extra"),
        (["sample", "x", "--seed", "one"], "--seed"),
        (["sample", "x", "--seed"], "--seed"),
        (["models", "--optim.lr", "1"], "--optim.lr"),
    ],
)
def test_wrong_usage_is_one_line(argv, words, capsys):
    assert words in fails(capsys, *argv)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("field: expected a, found b"), 2, "field: expected a, found b"),
        (UserError("file: broken\nin two"), 1, "file: broken in two"),
        (Preempted("stopped"), 75, "stopped"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (KeyboardInterrupt(), 1, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, code, line, capsys, monkeypatch):
    def raises(*_):
        raise error

    monkeypatch.setattr("dit.models.variants.list_models", raises)
    assert fails(capsys, "models", code=code) == line


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("DIT_DEBUG", "1")
    assert main(["models", "nothing"]) == 2
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].startswith("dit: models: no model fits")


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr("dit.models.variants.list_models", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def run_python(*argv, **options):
    return subprocess.run([sys.executable, *argv], stderr=subprocess.PIPE, text=True, timeout=60, **options)


def test_the_process_ends_with_the_exit_code():
    wrong = run_python("-m", "dit", "models", "nothing", stdout=subprocess.PIPE)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    right = run_python(str(ROOT / "tools" / "models.py"), stdout=subprocess.PIPE)
    assert (right.returncode, len(right.stdout.splitlines())) == (0, 13)


def test_a_closed_pipe_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        run = run_python("-m", "dit", "models", stdout=closed)
    assert (run.returncode, run.stderr) == (1, "")


# --- overrides --------------------------------------------------------------------------------------------------------


def test_overrides_are_taken_out_and_read_as_yaml():
    line = "r.yaml --optim.lr 1e-3 --resume --latents.scale null --optim.final-lr-ratio -1 --output a.b --train.seed 1"
    more = "--data.source org/name --train.seed 2 --data.flip=true --latents.cache="
    rest, overrides = split_overrides([*line.split(), *more.split(), "--optim.betas=[0.9, 0.95]"])
    assert rest == ["r.yaml", "--resume", "--output", "a.b"]
    assert overrides == {
        "optim.lr": 1e-3, "optim.betas": [0.9, 0.95], "latents.scale": None, "optim.final_lr_ratio": -1,
        "data.source": "org/name", "train.seed": 2, "data.flip": True, "latents.cache": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--optim.lr"], "--optim.lr: expected a value, found the end"),
        (["--optim.lr", "--resume"], "--optim.lr: expected a value, found --resume"),
        (["--optim.betas", "[0.9"], "--optim.betas:1: not valid YAML"),
        (["--data.source", "!!python/name:os.system x"], "--data.source:1: the tag"),
    ],
)
def test_an_override_without_a_value_is_refused(argv, words):
    with pytest.raises(ConfigError) as error:
        split_overrides(argv)
    assert str(error.value).startswith(words)


# --- models, info -----------------------------------------------------------------------------------------------------


def test_models_lists_thirteen_names_one_a_line(capsys):
    assert main(["models", "dit_*"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 13
    table = {name: (parameters, macs) for name, parameters, macs, *_ in rows}
    assert table["dit_xl_2"] == ("675,129,632", "118.62")
    assert table["dit_s_2"] == ("32,963,360", "6.06")


def test_models_takes_a_pattern(capsys):
    assert main(["models", "dit_*_8"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "dit_s_8", "dit_b_8", "dit_l_8", "dit_xl_8",
    ]  # fmt: skip


def test_models_names_near_ones(capsys):
    assert fails(capsys, "models", "dit_xs_2").startswith("models: no model fits 'dit_xs_2'")


def test_info_of_an_architecture(capsys):
    assert main(["info", "dit_xl_2"]) == 0
    facts = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["parameters"].strip() == "675,129,632"
    assert facts["cost per call"].strip() == "118.6 GMAC"
    assert "depth 28" in facts["architecture"]


# --- train ------------------------------------------------------------------------------------------------------------


def test_k1_an_unknown_key_exits_2_and_names_the_nearest(capsys):
    assert fails(capsys, "train", RECIPE, "--optim.lrr", "1") == "--optim.lrr: unknown key. Did you mean 'optim.lr'?"


def test_k8_an_output_folder_with_files_is_refused(capsys, tmp_path):
    (tmp_path / "notes.txt").touch()
    line = fails(capsys, "train", RECIPE, "--output", str(tmp_path))
    assert str(tmp_path) in line
    assert "--resume" in line
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


def test_train_help_lists_the_fields_of_the_recipe(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["train", RECIPE, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--optim.lr NUMBER (now: 0.001)" in text
    assert "--train.mixed_precision fp32|bf16|fp16|auto (now: auto)" in text
    assert "--process.betas linear|cosine (not with this process)" in text
    assert "Peak learning rate." in text


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


def test_a_dry_run_prints_recipe_and_size_and_touches_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = str(ROOT / "configs" / "dit_xl_2_imagenet256.yaml")
    assert main(["train", recipe, "--dry-run", "--train.max_steps", "10"]) == 0
    out = capsys.readouterr().out
    assert "max_steps: 10\n" in out
    assert "# parameters: 675,129,632, 118.62 GMAC" in out
    assert "# steps: 10 of 256 images, 2,560 images in all" in out
    assert list(tmp_path.iterdir()) == []


# --- sample -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("steps", "0", "--steps: expected a value greater than or equal to 1, found 0"),
        ("guidance", "nan", "--guidance: expected a finite number, found nan"),
        ("guidance", "-1", "--guidance: expected a value greater than or equal to 0, found -1.0"),
        ("solver", "hein", "--solver: expected 'ddpm'"),
        ("out", "x.txt", "--out: expected a file ending in .png"),
    ],
)
def test_s2_a_wrong_sampling_option_is_named(option, value, words, capsys):
    assert fails(capsys, "sample", "nothing", f"--{option}", value).startswith(words)

import inspect
import os
import re
import subprocess
import sys

import pytest

from dit.cli import VERBS, main, options_of, split_overrides
from dit.errors import ConfigError, DitError, Preempted
from dit.models.families import list_models
from tests.command import RECIPE, ROOT, fails

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
    text = capsys.readouterr().out.splitlines()
    parameters = [p for function in options_of(verb) for p in inspect.signature(function).parameters.values()]
    for name in [p.name for p in parameters if p.name != "overrides" and p.kind is not p.VAR_KEYWORD]:
        option = name.rstrip("_")
        (start,) = [i for i, line in enumerate(text) if re.match(rf"\W*--{option} |\W*{name.upper()} ", line)]
        assert re.search(r"[a-z]{2,} [a-z,]{2,} ", " ".join(text[start : start + 2])), text[start]
    assert not [line for line in text if "--overrides" in line]


@pytest.mark.parametrize("verb", ["train", "sample", "evaluate", "encode", "convert", "push", "pull"])
def test_a_verb_can_be_started_as_a_file(verb):
    assert f'main(["{verb}", *sys.argv[1:]])' in (ROOT / "tools" / f"{verb}.py").read_text()


def test_an_unknown_verb_names_near_ones(capsys):
    assert fails(capsys, "modls").endswith("found 'modls'. Did you mean 'models'?")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train"], "train: expected RECIPE, found none"),
        (["ema", "run", "--out", "x"], "ema: expected --sigma_rel, found none"),
        (["train", RECIPE, "extra"], "train: expected no further argument, found 'extra'"),
        (["report", "a", "b", "--Out=x"], "report: unknown option --Out. Did you mean '--out'?"),
        (["models", "-x"], "models: unknown option -x."),
        (["train", RECIPE, "--dryrun"], "train: unknown option --dryrun. Did you mean '--dry_run'?"),
        (["sample", "x", "--num", "2.5"], "sample: --num: expected a whole number, found '2.5'"),
        (["sample", "x", "--seed=one"], "sample: --seed: expected a whole number, found 'one'"),
        (["sample", "x", "--guidance", "w"], "sample: --guidance: expected a number, found 'w'"),
        (["sample", "x", "--cache", "on"], "sample: --cache: expected off or static or taylor or encoder, found 'on'"),
        (["sample", "x", "--seed"], "sample: --seed: expected a value, found none"),
        (["sample", "x", "--seed", "--num"], "sample: --seed: expected a value, found none"),
        (["models", "--optim.lr", "1"], "models: unknown option --optim.lr."),
    ],
)
def test_wrong_usage_is_one_line(argv, line, capsys):
    assert fails(capsys, *argv) == f"dit {line}"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigError("field: expected a, found b"), 2, "field: expected a, found b"),
        (DitError("file: broken\nin two"), 1, "file: broken in two"),
        (Preempted("stopped"), 75, "stopped"),
        (PermissionError(13, "Permission denied", "/x"), 1, "/x: Permission denied"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (KeyboardInterrupt(), 1, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, code, line, capsys, monkeypatch):
    def raises(*_):
        raise error

    monkeypatch.setattr("dit.models.families.list_models", raises)
    assert fails(capsys, "models", code=code) == line


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv("DIT_DEBUG", "1")
    assert main(["models", "nothing"]) == 2
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert error.splitlines()[-1].startswith("dit: models: no model fits")


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr("dit.models.families.list_models", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["models"])


def run_python(*argv, **options):
    return subprocess.run([sys.executable, *argv], stderr=subprocess.PIPE, text=True, timeout=60, **options)


def test_the_process_ends_with_the_exit_code():
    wrong = run_python("-m", "dit", "models", "nothing", stdout=subprocess.PIPE)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    right = run_python("-m", "dit", "models", stdout=subprocess.PIPE)
    assert (right.returncode, len(right.stdout.splitlines())) == (0, len(list_models()))


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


def test_switches_need_no_value():
    assert split_overrides(["x", "--ema.from_file", "--resume"]) == (["x", "--resume"], {"ema.from_file": True})
    assert split_overrides(["--data.flip"]) == ([], {"data.flip": True})
    assert split_overrides(["--process.retrain"]) == ([], {"process.retrain": True})
    assert split_overrides(["--data.flip", "false", "x"]) == (["x"], {"data.flip": False})


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--optim.lr"], "--optim.lr: expected a value, found the end"),
        (["--optim.lr", "--resume"], "--optim.lr: expected a value, found --resume"),
        (["--no.section"], "--no.section: expected a value, found the end"),
        (["--optim.betas", "[0.9"], "--optim.betas:1: not valid YAML"),
        (["--data.source", "!!python/name:os.system x"], "--data.source:1: the tag"),
    ],
)
def test_an_override_without_a_value_is_refused(argv, words):
    with pytest.raises(ConfigError) as error:
        split_overrides(argv)
    assert str(error.value).startswith(words)


def test_a_polite_kill_is_an_interruption():
    program = (
        "import os, signal, sys\nfrom dit import cli\n"
        "cli._run = lambda argv: (os.kill(os.getpid(), signal.SIGTERM), signal.pause())\ncli.entry_point()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (1, "dit: interrupted\n")

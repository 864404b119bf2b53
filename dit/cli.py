"""The command line `dit VERB ...`: finds the verb, reads its options, turns errors into one line and an exit code.

Each verb is a file in `dit/verbs` with a function `run`, whose signature and docstring are its options and help text;
options that several verbs have are those of the functions in SHARED, and reach `run` as keywords.
Nothing is imported here before it is needed: `dit --help` and a configuration error must not pay for torch.
"""

import argparse
import functools
import inspect
import os
import re
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, NoReturn, get_args, get_origin

from dit.errors import ConfigError, DitError, Preempted, did_you_mean

_KINDS = {
    str: ("TEXT", "text"),
    int: ("INTEGER", "a whole number"),
    float: ("NUMBER", "a number"),
    Path: ("PATH", "a path"),
}
"""Kind of an option -> what stands for its value, and what is expected there."""
VERBS = (
    "models",
    "info",
    "recipes",
    "train",
    "encode",
    "sample",
    "demo",
    "evaluate",
    "reproduce",
    "reference",
    "export",
    "convert",
    "push",
    "pull",
    "ema",
    "report",
    "plan",
    "bench",
    "doctor",
    "completion",
)

WITHOUT_PLUGINS = ("recipes", "reproduce", "report", "bench", "doctor", "completion")


def entry_point() -> NoReturn:
    """Run the command that the process was started with, and exit with its code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # training has handlers of its own
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after `dit`; those of the process by default.

    Returns:
        0: done; 1: failed; 2: wrong usage or configuration; 75: stopped by a signal with a resumable checkpoint.
    """
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as stop:  # the help was printed
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DitError, Preempted) as error:
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _report("interrupted", 1)
    except OSError as error:
        return _report(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return 0


def split_overrides(argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Take recipe overrides out of a command line.

    Args:
        argv: arguments, among them `--section.field VALUE` or `--section.field=VALUE`, the value in YAML; of a
            field that is true or false it can be left out, which means true.

    Returns:
        The other arguments; dotted field -> value. Of a field that is given twice the last counts.

    Raises:
        ConfigError: a value is missing or is not YAML.
    """
    from dit.yaml12 import parse_yaml

    rest: list[str] = []
    overrides: dict[str, Any] = {}
    arguments = deque(argv)
    while arguments:
        argument = arguments.popleft()
        match = re.fullmatch(r"--([\w-]+(?:\.[\w-]+)+)(?:=(.*))?", argument, re.DOTALL)
        if match is None:
            rest.append(argument)
            continue
        key = match[1].replace("-", "_")
        if match[2] is None and (not arguments or arguments[0].startswith("--")):
            if not _is_switch(key):
                raise ConfigError(f"--{key}: expected a value, found {arguments[0] if arguments else 'the end'}")
            overrides[key] = True
            continue
        text = arguments.popleft() if match[2] is None else match[2]
        overrides[key] = parse_yaml(text, origin=f"--{key}")
    return rest, overrides


def _is_switch(key: str) -> bool:
    """Tell whether a field of the recipe is true or false."""
    from dit.config import Recipe

    section, _, field = key.partition(".")
    annotation = Recipe.model_fields[section].annotation if section in Recipe.model_fields else None
    several = [getattr(kind, "model_fields", {}) for kind in get_args(annotation) or (annotation,)]
    return any(field in fields and fields[field].annotation is bool for fields in several)


def _run(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return
    if argv[0] == "--version":
        from dit import __version__

        print(__version__)
        return
    verb, *argv = argv
    if verb not in VERBS:
        raise ConfigError(f"dit: expected one of {', '.join(VERBS)}, found {verb!r}.{did_you_mean(verb, VERBS)}")
    if verb not in WITHOUT_PLUGINS:
        plugins = _Parser(f"dit {verb}", add_help=False, allow_abbrev=False)
        plugins.add_argument("--plugin", action="append", type=Path, default=[])
        given, argv = plugins.parse_known_args(argv)
        for plugin in given.plugin:  # before anything is parsed: what they register has options and names
            from dit.plugins import load_plugin

            load_plugin(plugin)
    run = _verb(verb).run
    if "overrides" not in inspect.signature(run).parameters:
        _parse(run, verb, argv)()
        return
    argv, overrides = split_overrides(argv)
    sections = getattr(_verb(verb), "SECTIONS", ())  # of the recipe that this verb's user may change; none named: all
    try:
        call = _parse(run, verb, argv)
    except SystemExit:  # the help was printed; the fields of the recipe belong to it
        from dit.recipe_help import recipe_help
        from dit.recipes import list_recipes

        recipe = next((name for name in argv if name in list_recipes() or name.endswith((".yaml", ".yml"))), None)
        print(recipe_help(recipe, overrides, sections=sections))
        raise
    for key in overrides:
        if sections and key.partition(".")[0] not in sections:
            raise ConfigError(f"--{key}: dit {verb} takes {' and '.join(f'--{section}.FIELD' for section in sections)}")
    call(overrides=overrides)


def _parse(run: Callable[..., None], verb: str, argv: list[str]) -> functools.partial:
    """Bind a verb's options to its function. `overrides` and plugins are no options any more, the help apart."""
    parser = _Parser(f"dit {verb}", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    options = add_options(parser, verb)
    places = [option.dest for option in options if not option.option_strings]
    parser.usage = " ".join([parser.prog, "[OPTIONS]", *map(str.upper, places)])
    known = [name for option in options for name in option.option_strings]
    argv = [re.sub(r"^--[\w-]+", lambda name: "--" + name[0][2:].replace("-", "_"), argument) for argument in argv]
    for name in (argument.partition("=")[0] for argument in argv):
        if re.match(r"-[^\d.]", name) and name not in (*known, "-h", "--help"):
            raise ConfigError(f"{parser.prog}: unknown option {name}.{did_you_mean(name, known)}")
    given, further = parser.parse_known_intermixed_args(argv)
    if further:
        raise ConfigError(f"{parser.prog}: expected no further argument, found {further[0]!r}")
    values = {name: value for name, value in vars(given).items() if name != "plugin"}
    return functools.partial(run, *(values.pop(place) for place in places), **values)


def add_options(parser: argparse.ArgumentParser, verb: str) -> list[argparse.Action]:
    """Give a parser the description and the options of a verb, recipe overrides apart, and return the options."""
    options = []
    for function in options_of(verb):
        description, _, listed = (inspect.getdoc(function) or "").partition("\n\nArgs:\n")
        parser.description = parser.description or description
        helps = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {5}.*)*)", listed, re.MULTILINE))
        options += [
            _add(parser, parameter, helps[name])
            for name, parameter in inspect.signature(function).parameters.items()
            if name != "overrides" and parameter.kind is not parameter.VAR_KEYWORD
        ]
    if verb not in WITHOUT_PLUGINS:
        help_text = "your own Python file with a family, solver, data source or features; may be given several times."
        options.append(parser.add_argument("--plugin", metavar="FILE", help=help_text))
    return options


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if missing := re.fullmatch("the following arguments are required: (.*)", message):
            message = f"expected {missing[1].replace(', ', ' and ')}, found none"
        message = message.replace("expected one argument", "expected a value, found none")
        raise ConfigError(f"{self.prog}: {message.removeprefix('argument ')}")


def _add(parser: argparse.ArgumentParser, parameter: inspect.Parameter, words: str) -> argparse.Action:
    """Give a parser the option of a function's parameter; one that is positional only has its place instead."""
    is_place, is_needed = parameter.kind is parameter.POSITIONAL_ONLY, parameter.default is parameter.empty
    settings: dict[str, Any] = {"help": " ".join(words.replace("%", "%%").split())}
    # X, X | None, list[X], list[X] | None (an option that may be given several times) or a choice of texts
    kinds = [kind for kind in get_args(parameter.annotation) if kind is not NoneType] or [parameter.annotation]
    is_several = list in (get_origin(parameter.annotation), get_origin(kinds[0]))
    if get_origin(kinds[0]) is list:
        kinds = list(get_args(kinds[0]))
        settings |= {} if is_place else {"action": "append"}
    if kinds[0] is bool:
        settings["action"] = "store_true"
    else:
        choices = kinds if isinstance(kinds[0], str) else get_args(kinds[0])
        settings["type"], settings["choices"] = _reader(kinds[0], choices), list(choices) or None
        settings["metavar"] = "{" + ",".join(choices) + "}" if choices else _KINDS[kinds[0]][0]
        if not is_needed:
            settings["default"] = parameter.default
            settings["help"] += "" if parameter.default is None else f" (default: {parameter.default})"
    if is_place:
        settings["metavar"] = parameter.name.upper()
        settings["nargs"] = ("+" if is_needed else "*") if is_several else None if is_needed else "?"
        return parser.add_argument(parameter.name, **settings)
    option = parameter.name.rstrip("_")  # `from` is no name in Python
    return parser.add_argument(f"--{option}", dest=parameter.name, required=is_needed, **settings)


def _reader(kind: Any, choices: Sequence[str]) -> Callable[[str], Any]:
    """Return what makes a value of an option's text."""
    expected = " or ".join(choices) or _KINDS[kind][1]

    def read(text: str) -> Any:
        try:
            return choices[choices.index(text)] if choices else kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}") from None

    return read


def _verb(name: str) -> ModuleType:
    return import_module(f"dit.verbs.{name}")


def options_of(verb: str) -> tuple[Callable[..., Any], ...]:
    """Return the functions whose parameters are a verb's options: its own, and those that it shares with others."""
    return _verb(verb).run, *getattr(_verb(verb), "SHARED", ())


def describe(verb: str) -> str:
    """Return what a verb does, in a sentence."""
    return (inspect.getdoc(_verb(verb).run) or "").splitlines()[0]


def _help() -> str:
    from dit import __version__

    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {describe(verb)}" for verb in VERBS]
    return "\n".join(
        [f"usage: dit VERB ...    (dit-zoo {__version__})", "", *lines, "", "dit VERB --help: its options"]
    )


def _report(message: str, exit_code: int) -> int:
    if os.environ.get("DIT_DEBUG") == "1":
        traceback.print_exc()
    print(f"dit: {' '.join(message.splitlines())}", file=sys.stderr)
    return exit_code

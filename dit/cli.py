"""The command line `dit VERB ...`: finds the verb, reads its options, turns errors into one line and an exit code.

Each verb is a file in `dit/verbs` with a function `run`, whose signature and docstring are its options and help text.
Nothing is imported here before it is needed: `dit --help` and a configuration error must not pay for torch.
"""

import contextlib
import functools
import inspect
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from dit.errors import ConfigError, DitError, Preempted, did_you_mean

_METAVARS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
VERBS = (
    "models",
    "info",
    "recipes",
    "train",
    "encode",
    "sample",
    "evaluate",
    "export",
    "convert",
    "push",
    "pull",
    "ema",
    "report",
    "bench",
)

WITHOUT_PLUGINS = ("recipes", "report", "bench")


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
        argv: arguments, among them `--section.field VALUE` or `--section.field=VALUE`, the value in YAML.

    Returns:
        The other arguments; dotted field -> value. Of a field that is given twice the last counts.

    Raises:
        ConfigError: a value is missing or is not YAML.
    """
    from dit.yaml12 import parse_yaml

    rest: list[str] = []
    overrides: dict[str, Any] = {}
    arguments = iter(argv)
    for argument in arguments:
        match = re.fullmatch(r"--([\w-]+(?:\.[\w-]+)+)(?:=(.*))?", argument, re.DOTALL)
        if match is None:
            rest.append(argument)
            continue
        key = match[1].replace("-", "_")
        text = match[2] if match[2] is not None else next(arguments, None)
        if text is None or (match[2] is None and text.startswith("--")):
            raise ConfigError(f"--{key}: expected a value, found {'the end' if text is None else text}")
        overrides[key] = parse_yaml(text, origin=f"--{key}")
    return rest, overrides


def split_plugins(argv: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Take `--plugin FILE` out of a command line, each time it is given."""
    rest: list[str] = []
    plugins: list[Path] = []
    arguments = iter(argv)
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option == "--plugin" and (file := value if equals else next(arguments, None)):
            plugins.append(Path(file))
        else:
            rest.append(argument)
    return rest, plugins


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
        argv, plugins = split_plugins(argv)
        for plugin in plugins:  # before anything is parsed: what they register has options and names
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
    import tyro

    def bind(**options: Any) -> functools.partial:
        options.pop("plugin", None)
        return functools.partial(run, **options)

    options = [option for name, option in inspect.signature(run).parameters.items() if name != "overrides"]
    if verb not in WITHOUT_PLUGINS:
        help_text = "your own Python file with a family, solver, data source or features; may be given several times."
        annotation = Annotated[str | None, tyro.conf.arg(metavar="FILE", help=help_text, help_behavior_hint="")]
        options.append(inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    shown = [option.replace(annotation=_with_metavar(option.annotation)) for option in options]
    bind.__doc__ = run.__doc__
    bind.__annotations__ = {option.name: option.annotation for option in shown}
    setattr(bind, "__signature__", inspect.Signature(shown))  # noqa: B010 - unknown to type checkers
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where it draws a box around what is wrong
            return tyro.cli(
                bind, prog=f"dit {verb}", args=argv, use_underscores=True, config=(tyro.conf.FlagCreatePairsOff,)
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"dit {verb}: {_complaint(argv, options)}") from None


def _with_metavar(annotation: Any) -> Any:
    """Give an option that may be left out, `X | None`, the name of X alone as its value's, without a default."""
    from tyro.conf import arg

    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if get_origin(annotation) not in (Union, UnionType) or len(kinds) != 1:
        return annotation
    metavar = "{" + ",".join(get_args(kinds[0])) + "}" if get_origin(kinds[0]) is Literal else _METAVARS.get(kinds[0])
    if metavar is None:
        return annotation
    return Annotated[annotation, arg(metavar=metavar, help_behavior_hint="")]


def _complaint(argv: Sequence[str], options: Sequence[inspect.Parameter]) -> str:
    """Say in one line what is wrong with arguments that tyro refused: the first fault from the left."""
    from tyro.conf import Positional

    places = [option for option in options if Positional in get_args(option.annotation)]
    kinds = {f"--{option.name}": option.annotation for option in options if option not in places}
    names = [option.name.upper() if option in places else f"--{option.name}" for option in options]
    needed = {name for name, option in zip(names, options, strict=True) if option.default is option.empty}
    arguments = iter(argv)
    for argument in arguments:
        option, equals, text = argument.partition("=")
        option = option[:2] + option[2:].replace("-", "_")
        if not argument.startswith("-"):
            if places:
                needed.discard(places[0].name.upper())
                places = places if "list" in str(places[0].annotation) else places[1:]
            else:
                return f"expected no further argument, found {argument!r}"
        elif option not in kinds:
            return f"unknown option {option}.{did_you_mean(option, kinds)}"
        elif kinds[option] is not bool:
            needed.discard(option)
            value = text if equals else next(arguments, None)
            if value is None or (not equals and value.startswith("--")):
                return f"{option}: expected a value, found {value or 'the end'}"
            if expected := _expected(kinds[option], value):
                return f"{option}: expected {expected}, found {value!r}"
    missing = [name for name in names if name in needed]
    return f"expected {' and '.join(missing)}, found none" if missing else "wrong usage; see its --help"


def _expected(annotation: Any, text: str) -> str:
    """Return what an option expects in place of a text that it can't take, or ""."""
    kinds = [annotation, *get_args(annotation)]
    if choices := [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]:
        return "" if text in choices else " or ".join(choices)
    for number, words in ((int, "a whole number"), (float, "a number")):
        if number in kinds:
            try:
                number(text)
            except ValueError:
                return words
    return ""


def _verb(name: str) -> ModuleType:
    return import_module(f"dit.verbs.{name}")


def _help() -> str:
    from dit import __version__

    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {(inspect.getdoc(_verb(verb).run) or '').splitlines()[0]}" for verb in VERBS]
    return "\n".join(
        [f"usage: dit VERB ...    (dit-zoo {__version__})", "", *lines, "", "dit VERB --help: its options"]
    )


def _report(message: str, exit_code: int) -> int:
    if os.environ.get("DIT_DEBUG") == "1":
        traceback.print_exc()
    print(f"dit: {' '.join(message.splitlines())}", file=sys.stderr)
    return exit_code

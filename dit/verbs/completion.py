"""`dit completion`: what a shell completes commands by."""

import argparse
from typing import Literal


def run(shell: Literal["bash", "fish", "zsh"], /) -> None:
    """Print a script by which a shell completes verbs, options, names of models and recipes, and files.

    bash:  dit completion bash > ~/.local/share/bash-completion/completions/dit
    fish:  dit completion fish > ~/.config/fish/completions/dit.fish
    zsh:   dit completion zsh > _dit, in a folder of $fpath

    Args:
        shell: bash, fish or zsh.
    """
    import shtab

    print(shtab.complete(_parser(), shell))


def _parser() -> argparse.ArgumentParser:
    """Return a parser of all verbs; options that are files, and places for names, know what they complete to."""
    import shtab

    from dit.cli import VERBS, add_options, describe

    parser = argparse.ArgumentParser("dit")
    parser.add_argument("--version", action="store_true", help="print the version")
    verbs, names = parser.add_subparsers(), _names()
    for verb in VERBS:
        one = verbs.add_parser(verb, help=describe(verb))
        for option in add_options(one, verb):
            if option.metavar in ("PATH", "FILE"):
                option.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]
            elif not option.option_strings and not option.choices:
                option.choices = [*names.get(option.dest, ()), shtab.Choice("file")]
    return parser


def _names() -> dict[str, list[str]]:
    """Return what is known of what stands in a place for a name."""
    from dit.bench.names import BENCHMARKS
    from dit.models.families import list_models
    from dit.recipes import list_recipes
    from dit.zoo.entries import list_models as list_weights

    weights = sorted(list_weights("*", pretrained=True))
    return {
        "recipe": sorted(list_recipes()),
        "source": weights,
        "entry": weights,
        "model": sorted(list_models("*")),
        "name": [*BENCHMARKS],
    }

"""Errors, each told in one line: the file or field, what was expected, what was found, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class DitError(ValueError):
    """Something outside the program is wrong: a file, a server, the disk, a value met while running."""

    exit_code = 1


class ConfigError(DitError):
    """Wrong usage or configuration, found before any work was done."""

    exit_code = 2


class Preempted(Exception):  # noqa: N818 - a stop that was asked for, not an error
    """The run was stopped by a signal and left a checkpoint from which it can go on."""

    exit_code = 75


def did_you_mean(name: str, choices: Iterable[str], *, count: int = 3) -> str:
    """Return " Did you mean 'a' or 'b'?" for the nearest of `choices`, or "" where nothing is near."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), by_lower_case, n=count, cutoff=0.6)
    if not near:
        return ""
    return " Did you mean " + " or ".join(repr(by_lower_case[match]) for match in near) + "?"

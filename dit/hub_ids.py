"""Ids of the Hub, `org/name` with `@revision` where one is meant: the one grammar of models, autoencoders and data."""

import re
from dataclasses import dataclass

from dit.errors import ConfigError

_REPOSITORY = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class HubId:
    """A repository, and which state of it."""

    repository: str
    """org/name."""
    revision: str | None
    """Branch, tag or commit; None is the main branch."""

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> "HubId | None":
        """Read `org/name[@revision]`; None where it is not of that form.

        Raises:
            ConfigError: two revisions are given.
        """
        repository, at, own = text.partition("@")
        if not _REPOSITORY.fullmatch(repository) or (at and not own):
            return None
        if at and revision is not None and revision != own:
            raise ConfigError(f"{text}: expected one revision, found {own!r} and {revision!r}")
        return cls(repository, own or revision)

"""The models of the page: those named on the command line and those that ship with the package, and no others."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dit.drawing import name_of
from dit.errors import ConfigError

if TYPE_CHECKING:
    from dit.making import Making
    from dit.zoo.folder.config import FolderConfig
    from dit.zoo.pipeline import Pipeline

NUM_KEPT = 2
"""Models that stay loaded: as many as are compared."""


class Models:
    """Sources by the names that the page shows.

    Args:
        sources: what was named on the command line; embedded models follow.

    Raises:
        ConfigError: there is no such source.
        DitError: what is there is not a model.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        from dit.zoo.described import describe
        from dit.zoo.entries import entries

        embedded = [name for name, entry in entries().items() if entry.sources[0].embedded]
        self._sources: dict[str, str] = {}
        for source in dict.fromkeys([*sources, *embedded]):
            name, copies = name_of(source), 2
            while name in self._sources:
                name, copies = f"{name_of(source)} ({copies})", copies + 1
            self._sources[name] = source
        self._configs = {name: describe(source).config for name, source in self._sources.items()}
        self._loaded: OrderedDict[tuple[str, bool], Pipeline] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """What the page calls them."""
        return list(self._sources)

    def source(self, name: str) -> str:
        """Return the source of a name.

        Raises:
            ConfigError: the page has no such model.
        """
        if name not in self._sources:
            raise ConfigError(f"Model: expected one of {', '.join(self._sources)}, found {name!r}")
        return self._sources[name]

    def config(self, name: str) -> "FolderConfig":
        """Return the description of a model."""
        self.source(name)
        return self._configs[name]

    def load(self, name: str, making: "Making") -> "Pipeline":
        """Load a model as its settings need it; the models used last stay loaded. Not for several threads at once.

        Raises:
            DitError: it is damaged, or can't be downloaded.
        """
        source, key = self.source(name), (name, making.published)
        if key not in self._loaded:
            while len(self._loaded) >= NUM_KEPT:
                self._loaded.popitem(last=False)
            self._loaded[key] = making.load(source, None)
        self._loaded.move_to_end(key)
        return self._loaded[key]

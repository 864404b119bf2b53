"""The zoo: names with weights, and all that is known of them. Free of torch.

The data is `entries.yaml`; a name is an architecture, a dot and a tag, as in `dit_xl_2.in256`.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dit.models.counts import Counts, count
from dit.models.families import arguments_of, variants
from dit.models.family import Arguments
from dit.sampling.config import Published, SamplingConfig
from dit.schema import Section
from dit.validation import validate
from dit.yaml12 import parse_yaml


class SourceEntry(Section):
    """Where the weights are: in the package, on the Hub, at an address, or where a person has to fetch them."""

    layout: Literal["native", "original", "diffusers"]
    """Their layout."""
    embedded: bool = False
    """Whether they are part of this package."""
    repository: str | None = None
    """Id on the Hub."""
    file: str | None = None
    """File in the repository, where it is one file, or on the page."""
    revision: str | None = None
    """Branch, tag or commit."""
    address: str | None = Field(None, pattern="https://.+")
    """Address of the file outside of the Hub."""
    page: str | None = Field(None, pattern="https://.+")
    """Page on which a person fetches the file by hand, such as a shared drive's."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Hash of the one file."""
    dead: str | None = None
    """Sentence on who reports that the place is dead."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [self.embedded, self.repository is not None, self.address is not None, self.page is not None]
        if sum(places) != 1:
            raise ValueError("expected one of embedded, repository, address and page")
        if self.page is not None and self.file is None:
            raise ValueError("file: expected the file's name on the page, found none")
        if self.sha256 is not None and self.file is None and self.address is None:
            raise ValueError("sha256: expected it for one file only, found neither file nor address")
        return self

    def describe(self) -> str:
        """Return where it is, for a reader."""
        if self.embedded:
            return "part of this package"
        place = self.address or self.page or f"https://huggingface.co/{self.repository}"
        parts = [f"at {self.revision}"] if self.revision else []
        parts += [f"file {self.file}"] if self.file else []
        parts += ["to be fetched by hand"] if self.page else []
        parts += [f"({self.dead})"] if self.dead else []
        return " ".join([place, *parts])


class Report(Section):
    """A figure that somebody reported."""

    metric: str
    """What was measured."""
    value: float
    """The figure."""
    setting: str
    """How."""
    protocol: Literal["adm", "edm2", "dgm-eval", "torch-fidelity", "clean", "cmmd"] = "adm"
    """Protocol of `dit evaluate` that measures it as they did, or comes nearest."""


class Entry(Section):
    """One name of the zoo."""

    title: str
    """Name in prose."""
    data: str
    """Training data, as recipes name it."""
    image_size: int
    """Height and width of the images."""
    arguments: dict[str, Any]
    """Arguments of the network that differ from the variant's."""
    license: str
    """License of the weights, by its identifier on the Hub; unknown where none was found."""
    process: str
    """What it was trained for, by its name in the first of the family's layouts that has it."""
    vae: str
    """Its autoencoder: an embedded name, or a repository on the Hub."""
    vae_kept: Literal["diffusers", "inside", "apart"] = "diffusers"
    """How: as diffusers has it, inside the file of the weights, or apart in a file of its own for `dit convert`."""
    latents_scale: float | None = None
    """Factor of the latents, where it is not the autoencoder's own."""
    labels: Literal["imagenet"] | None = None
    """Where the class names come from; left out: from the weights' own description."""
    sampling: SamplingConfig
    """Sampling defaults."""
    published: Published | None = None
    """Sampling of the best reported figure, where its authors say all of it."""
    paper: str | None = None
    """Where it was published."""
    sources: list[SourceEntry] = Field(min_length=1)
    """Where the weights are, the preferred place first."""
    reported: list[Report] = Field(default_factory=list)
    """Figures, the best known first."""

    def source(self, layout: str | None = None) -> SourceEntry | None:
        """Return the source of a layout, the preferred one by default; None where there is none."""
        return next((source for source in self.sources if layout in (None, source.layout)), None)


@cache
def entries() -> Mapping[str, Entry]:
    """Return all entries by name, in the order of the file."""
    text = (files("dit.zoo") / "entries.yaml").read_text(encoding="utf-8")
    content = parse_yaml(text, origin="entries.yaml")
    return {name: validate(Entry, fields, origin=f"entries.yaml: {name}") for name, fields in content.items()}


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the names that match a shell pattern: of architectures, or of the zoo's weights."""
    return [name for name in (entries() if pretrained else variants()) if fnmatchcase(name, pattern)]


def architecture_of(name: str) -> str:
    """Return the variant that an entry's name begins with."""
    return name.partition(".")[0]


def entry_arguments(name: str) -> Arguments:
    """Return the arguments of an entry's network."""
    return arguments_of(architecture_of(name), **entries()[name].arguments)


def entry_facts(name: str, source: SourceEntry) -> dict[str, Any]:
    """Return the provenance of an entry's weights from one of its sources."""
    entry = entries()[name]
    facts: dict[str, Any] = {
        "name": name, "data": entry.data, "license": entry.license, "base_license": entry.license,
        "converted_from": source.describe(), "paper": entry.paper, "repository": source.repository,
    }  # fmt: skip
    return {key: value for key, value in facts.items() if value is not None}


def entry_counts(name: str) -> Counts:
    """Return parameters and cost of an entry's network."""
    return count(architecture_of(name), entry_arguments(name))

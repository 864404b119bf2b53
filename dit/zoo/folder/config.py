"""The exported folder: what its `config.json` holds, and reading it.

    config.json          the model, process, latents, sampling defaults, class names and provenance
    model.safetensors    the EMA weights, or shards with model.safetensors.index.json; or adapter.safetensors
    recipe.yaml, metrics.jsonl, eval.json, samples.png, README.md   where they are known

Everything that samples, converts or publishes reads this and nothing else. Free of torch.
"""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from dit.diffusion.config import ProcessConfig
from dit.errors import ConfigError, DitError
from dit.files import read_json, write_json
from dit.latents.config import LatentsDescription
from dit.models.counts import count
from dit.models.families import arguments_of, differences, family_of
from dit.models.family import Arguments
from dit.plugins import MadeWith, made_with
from dit.sampling.config import Published, SamplingConfig, from_first_format
from dit.schema import Section
from dit.validation import validate

FORMAT_VERSION = 2
CONFIG_NAME = "config.json"
FOREIGN_CONFIG_NAME = "dit_config.json"
"""The same in a folder of another layout, for its card and for the way back."""


class ModelDescription(Section):
    """The network: enough to build it again."""

    name: str
    """Variant."""
    arguments: SerializeAsAny[Arguments]
    """All arguments of the network, of its family's class."""

    @classmethod
    def of(cls, name: str, **overrides: Any) -> Self:
        """Describe a variant with other arguments.

        Raises:
            ConfigError: unknown name or argument, or arguments that do not fit each other.
        """
        return cls(name=name, arguments=arguments_of(name, **overrides))

    def facts(self) -> list[tuple[str, str]]:
        """Return rows for a reader: the variant with its arguments, parameters, cost and shape of the latents."""
        arguments, set_by_variants = self.arguments, family_of(self.name).variants.get(self.name, {})
        elsewhere = {"input_size", "in_channels", "num_classes"}
        shown = [name for name in {**set_by_variants, **differences(self.name, arguments)} if name not in elsewhere]
        parameters, macs = count(self.name, arguments)
        return [
            ("architecture", f"{self.name}: {', '.join(f'{name} {getattr(arguments, name)}' for name in shown)}"),
            ("parameters", f"{parameters:,}"),
            ("cost of a network call", f"{macs / 1e9:.2f} GMAC"),
            ("latents", " x ".join(map(str, (arguments.in_channels, *arguments.input_size)))),
        ]

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        family_of(name, field="name")
        return name

    @field_validator("arguments", mode="plain")
    @classmethod
    def _of_the_family(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Arguments) or "name" not in info.data:
            return value
        if not isinstance(value, dict):
            raise ValueError(f"expected a mapping, found {value!r}")
        family, name = family_of(info.data["name"]), info.data["name"]
        return family.arguments.model_validate_json(json.dumps({**family.variants.get(name, {}), **value}))


class Provenance(Section):
    """Where the weights come from; what is not known is left out of the file, and further facts are kept."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    """Its name in the zoo."""
    code_version: str | None = None
    """Version of this package that trained it."""
    recipe: str | None = None
    """File of its recipe."""
    seed: int | None = None
    """Seed of the training."""
    data: str | None = None
    """Training data, as the recipe names it."""
    steps: int | None = None
    """Training steps."""
    images_seen: int | None = None
    """Training images, counted as often as they were seen."""
    base_model: str | None = None
    """Zoo name or Hub id of the model that the training started from."""
    base_license: str | None = None
    """Its license."""
    license: str | None = None
    """License of the weights, by its identifier on the Hub."""
    license_name: str | None = None
    """Its name, where the identifier is `other`."""
    license_link: str | None = None
    """Where its text is, likewise."""
    autoencoder: str | None = None
    """Its autoencoder, where that is not described."""
    limits: str | None = None
    """What it is for and what not, in place of the card's usual words."""
    converted_from: str | None = None
    """The file, folder or place that it was converted from."""
    weights: str | None = None
    """Which weights of a training checkpoint: ema or raw."""
    paper: str | None = None
    """Where it was published."""
    repository: str | None = None
    """Where it was pulled from, on the Hub."""
    commit: str | None = None
    """Which commit of it."""
    sha256: str | None = None
    """Hash of the file that was converted."""

    @property
    def license_notice(self) -> str | None:
        """One sentence where the license is missing or forbids commercial use; else None."""
        if self.license == "unknown":
            return "No license of these weights was found: ask their authors before you use them."
        if "nc" in (self.license or "").split("-"):
            return f"These weights are for non-commercial use only ({self.license})."
        return None

    @model_serializer(mode="wrap")
    def _known(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    def updated(self, **facts: Any) -> Self:
        """Return it with other facts; None removes one."""
        return type(self).model_validate({**self.model_dump(), **facts})


class FolderConfig(MadeWith, Section):
    """The content of `config.json`."""

    format_version: int = FORMAT_VERSION
    """Version of this layout."""
    model: ModelDescription
    """The network."""
    process: ProcessConfig
    """The process it was trained for."""
    latents: LatentsDescription | None
    """What the latents are: a codec's description; null where it is not known."""
    sampling: SamplingConfig
    """Defaults for sampling."""
    published: Published | None = None
    """Sampling of the best published figure, where there is one."""
    adapter_of: str | None = None
    """Source of the weights that the folder's adapter.safetensors goes over; not written where it has whole ones."""
    id2label: dict[str, str] = Field(default_factory=dict)
    """Class id, in decimal, -> class name."""
    provenance: Provenance = Field(default_factory=Provenance)
    """Where the weights come from."""

    def as_published(self, source: str | Path) -> Self:
        """Return it with the published setting, its autoencoder included, in place of the defaults.

        Args:
            source: what a message calls it.

        Raises:
            ConfigError: none is known.
        """
        published, latents = known_setting(self.published, source), self.latents
        if latents is not None and published.vae is not None:
            latents = latents.model_copy(update={"vae": published.vae, "revision": None, "fingerprint": None})
        return self.model_copy(update={"sampling": published.sampling, "latents": latents})

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 is unconditional."""
        return self.model.arguments.num_classes

    @property
    def class_names(self) -> list[str]:
        """Name of every class, its id in decimal where it has none."""
        return [self.id2label.get(str(i), str(i)) for i in range(self.num_classes)]


def known_setting(published: Published | None, source: str | Path) -> Published:
    """Return a source's published setting.

    Raises:
        ConfigError: none is known.
    """
    if published is None:
        raise ConfigError(
            f"--published: expected weights with a published setting, found none of {source}; leave it out to "
            "sample by its defaults, or give --solver, --steps and --guidance"
        )
    return published


def is_exported(folder: str | Path) -> bool:
    """Tell whether a folder holds a `config.json` of this layout."""
    path = Path(folder) / CONFIG_NAME
    if not path.is_file():
        return False
    content = read_json(path)
    return isinstance(content, dict) and "format_version" in content


def read_config(folder: str | Path, name: str = CONFIG_NAME) -> FolderConfig:
    """Read and check an exported folder's `config.json`, or a description under another name.

    Raises:
        DitError: naming the file and the field.
    """
    path = Path(folder) / name
    content = read_json(path)
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise DitError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}; "
            "a higher number needs a newer version of dit, none means another format: see `dit convert`"
        )
    if version == 1 and isinstance(content.get("sampling"), dict):
        content["sampling"] = from_first_format(content["sampling"])
    with made_with(content, path):
        return validate(FolderConfig, content | {"format_version": FORMAT_VERSION}, origin=str(path))


def write_config(folder: str | Path, config: FolderConfig, name: str = CONFIG_NAME) -> None:
    """Write `config.json`, or a description under another name, into a folder."""
    unused: dict[str, Any] = {} if config.adapter_of else {"adapter_of": True}
    write_json(Path(folder) / name, config.model_dump(mode="json", exclude={"process": {"retrain"}, **unused}))

"""What latents are: as a recipe asks for them, and as `config.json` and `run.json` describe them."""

from typing import Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from dit.data.config import DataConfig
from dit.errors import ConfigError
from dit.schema import Section

COPY_NAME = "vae"
"""Sub-folder of a run or an exported folder for a copy of a user's autoencoder."""


class LatentsConfig(Section):
    """Autoencoder between images and latents; normalised latents are (z - shift) * scale, per channel."""

    vae: str = "mnist"
    """A diffusers autoencoder: the embedded "mnist", a folder, or a Hub id `org/name[@revision]`; "pixels" or
    "pixels_grey": none, the network sees the image in [-1, 1]."""
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Factor of the latents; null: the autoencoder's own scaling_factor (and latents_std)."""
    shift: float | None = Field(default=None, allow_inf_nan=False)
    """Number that is subtracted before; null: the autoencoder's own shift_factor or latents_mean."""
    mean: tuple[float, ...] | None = None
    """Mean of each latent channel, instead of shift."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each latent channel, instead of 1 / scale."""
    normalise: Literal["own", "measured"] = "own"
    """What scale and shift are: own, those above or the autoencoder's; measured, by mean and deviation of each channel
    over the training images."""
    encode: Literal["ahead", "while_training"] = "ahead"
    """When training images are encoded: once, ahead, into a cache; or anew at every use, for random crops and for
    latents that are too large to store. Held-out images are encoded ahead."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Images that are encoded at a time; a cache that was made with another size is used all the same."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type that the autoencoder encodes in; bfloat16 is faster on a GPU and changes moments by about one percent."""
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the cached moments; others are float32."""
    cache: str | None = None
    """Folder of cached moments; null: DIT_CACHE or ~/.cache/dit, in its sub-folder latents."""
    cache_limit: float = Field(default=50.0, gt=0, allow_inf_nan=False)
    """Gigabytes of disk for local copies of latents at an address; those that were opened longest ago go first."""

    @model_validator(mode="after")
    def _measured_ahead(self) -> Self:
        if self.encode == "while_training" and self.normalise == "measured":
            raise ValueError(
                "normalise: expected own with encode while_training, found measured; give the mean and std that "
                "dit encode --stats --limit N prints for a sample"
            )
        return self

    @model_validator(mode="after")
    def _one_normalisation(self) -> Self:
        given = [name for name in ("scale", "shift", "mean", "std") if getattr(self, name) is not None]
        if self.normalise == "measured" and given:
            raise ValueError(f"normalise: expected own, since {given[0]} is given, found measured")
        if self.mean is not None and self.shift is not None:
            raise ValueError("give either shift or mean, found both")
        if self.std is not None and self.scale is not None:
            raise ValueError("give either scale or std, found both")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ValueError(f"std: expected positive numbers, found {list(self.std)}")
        return self


def check_encoding(data: DataConfig, encode: Literal["ahead", "while_training"]) -> None:
    """Refuse what images that are encoded in this way can't have.

    Raises:
        ConfigError: with the field.
    """
    if encode == "while_training" and data.on_error == "skip":
        raise ConfigError(
            "data.on_error: expected stop with latents.encode while_training, for no image can be left out once the "
            "order is decided; found skip"
        )
    if encode == "ahead" and data.crop == "random":
        raise ConfigError(
            "data.crop: expected centre for images that are encoded ahead, once each, found random; set latents.encode "
            "to while_training"
        )


class LatentsDescription(Section):
    """Enough to load the codec again: `Codec.describe` makes it, `Codec.from_description` reads it. Free of torch."""

    model_config = ConfigDict(serialize_by_alias=True)

    vae: str
    """The autoencoder: an embedded name, a Hub id, or `COPY_NAME` for the copy in the same folder."""
    revision: str | None
    """Commit of a Hub id."""
    fingerprint: str | None
    """Hash of architecture and weights; null where it is not known, as of weights that others published."""
    class_name: str = Field(validation_alias=AliasChoices("class", "class_name"), serialization_alias="class")
    """Name of its class in diffusers."""
    image_channels: int
    """Channels of an image: 1 (grey) or 3 (RGB)."""
    latent_channels: int
    """Channels of a latent."""
    downscale: int
    """Pixels per position of the latent, in height and in width."""
    scale: tuple[float, ...] | None
    """Factor of each channel: latents = (z - shift) * scale; null: that of the file, per channel and position."""
    shift: tuple[float, ...] | None
    """Number that is subtracted before; null together with scale."""

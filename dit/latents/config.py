"""Recipe section `latents`: the autoencoder, how its latents are normalised, and where they are cached."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dit.schema import Section


class LatentsConfig(Section):
    """Autoencoder between images and latents; normalised latents are (z - shift) * scale, per channel."""

    vae: str = "mnist"
    """A diffusers autoencoder: the embedded "mnist", a folder, or a Hub id `org/name[@revision]`."""
    scale: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Factor of the latents; null: the autoencoder's own scaling_factor (and latents_std)."""
    shift: float | None = Field(default=None, allow_inf_nan=False)
    """Number that is subtracted before; null: the autoencoder's own shift_factor or latents_mean."""
    mean: tuple[float, ...] | None = None
    """Mean of each latent channel, instead of shift."""
    std: tuple[float, ...] | None = None
    """Standard deviation of each latent channel, instead of 1 / scale."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Images that are encoded at a time."""
    storage: Literal["float32", "float16"] = "float32"
    """Precision of the cached moments."""
    cache: str | None = None
    """Folder of cached moments; null: DIT_CACHE or ~/.cache/dit, in its sub-folder latents."""

    @model_validator(mode="after")
    def _one_normalisation(self) -> Self:
        if self.mean is not None and self.shift is not None:
            raise ValueError("give either shift or mean, found both")
        if self.std is not None and self.scale is not None:
            raise ValueError("give either scale or std, found both")
        if self.std is not None and not all(value > 0 for value in self.std):
            raise ValueError(f"std: expected positive numbers, found {list(self.std)}")
        return self
